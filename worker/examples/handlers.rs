//! A worker with three functions, one of each kind:
//!
//! ```text
//! cargo run -p taskq-worker --example handlers
//! taskq call primes --json 100000
//! ```
//!
//! `primes` computes and has a thread for itself; `fetch` waits for a hundred servers at once on the event loop; `fragile`
//! calls what may crash, and crashes a child process instead of the worker. (`site` is somebody to fetch from.)

use std::io;
use std::process::ExitCode;

use taskq_worker::{Context, Failure, Worker, println};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

fn main() -> ExitCode {
    Worker::new()
        .blocking("primes", primes)
        .asynchronous("fetch", fetch)
        .asynchronous("site", site)
        .process("fragile", fragile)
        .main()
}

/// How many primes are there below this number?
fn primes(below: u64, context: &Context) -> Result<u64, Failure> {
    let mut count = 0;
    for n in 2..below {
        if n % 1_000 == 0 {
            context.check()?;
            context.progress(n as f64 / below as f64, &format!("{count} primes below {n}"));
        }
        if (2..).take_while(|d| d * d <= n).all(|d| n % d != 0) {
            count += 1;
        }
    }
    println!("{count} primes below {below}");
    Ok(count)
}

/// How long are these pages? They are fetched all at once.
async fn fetch(urls: Vec<String>, _: Context) -> Result<Vec<usize>, Failure> {
    let mut fetching = JoinSet::new();
    for (place, url) in urls.into_iter().enumerate() {
        fetching.spawn(async move { Ok::<_, Failure>((place, page(&url).await?.len())) });
    }
    let mut lengths = vec![0; fetching.len()];
    while let Some(fetched) = fetching.join_next().await {
        let (place, length) = fetched??;
        lengths[place] = length;
    }
    Ok(lengths)
}

/// The smallest HTTP client there can be.
async fn page(url: &str) -> Result<String, Failure> {
    let address = url
        .strip_prefix("http://")
        .ok_or_else(|| Failure::new(format!("{url:?} is no http:// URL")).fatal())?;
    let (host, path) = address.split_once('/').unwrap_or((address, ""));
    let mut server = TcpStream::connect(host).await?;
    server.write_all(format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    server.read_to_string(&mut answer).await?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        Some(_) | None => Err(Failure::new(format!("{url} is not there"))),
    }
}

/// Starts a web site on a free port of this machine and returns its URL. Page `/n` is n bytes long, and takes a while.
async fn site(_: (), _: Context) -> Result<String, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((visitor, _)) = listener.accept().await {
            tokio::spawn(serve(visitor));
        }
    });
    Ok(url)
}

async fn serve(mut visitor: TcpStream) -> io::Result<()> {
    let mut request = [0; 1024];
    let count = visitor.read(&mut request).await?;
    let request = String::from_utf8_lossy(&request[..count]).into_owned();
    let length = request.split(['/', ' ']).nth(2).and_then(|path| path.parse().ok()).unwrap_or(0);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    visitor.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{}", "x".repeat(length)).as_bytes()).await
}

/// As a library in C might: fine for most numbers, and the end of its process for 13.
fn fragile(number: u32, _: &Context) -> Result<u32, Failure> {
    if number == 13 {
        std::process::abort();
    }
    Ok(number * 2)
}
