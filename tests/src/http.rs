//! HTTP/1 as a stranger speaks it, byte by byte, and what Prometheus would read in the answer.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What came back before the connection was closed.
#[derive(Clone, Debug)]
pub struct Page {
    /// The status; 0 if there was no answer at all.
    pub status: u16,
    /// The head, in lower case.
    pub head: String,
    /// The rest.
    pub body: String,
}

/// Sends these bytes over a connection of its own, and reads until it is closed.
pub fn send(address: &str, bytes: &[u8]) -> Page {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a read timeout");
    // The coordinator may close while it is still being talked to.
    let _sent = stream.write_all(bytes);
    finish(&mut stream)
}

/// Reads until the connection is closed; one that is reset has an answer all the same.
pub fn finish(stream: &mut TcpStream) -> Page {
    let mut answer = Vec::new();
    let mut piece = [0; 8192];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(bytes) => answer.extend_from_slice(&piece[..bytes]),
            Err(cause) => {
                assert_eq!(cause.kind(), std::io::ErrorKind::ConnectionReset, "reading an answer: {cause}");
                break;
            }
        }
    }
    let text = String::from_utf8(answer).expect("an answer in UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Page { status, head: head.to_lowercase(), body: body.to_owned() }
}

/// `GET path`, with these further lines of the head.
pub fn get(address: &str, path: &str, lines: &[&str]) -> Page {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n");
    for line in lines {
        request += &format!("{line}\r\n");
    }
    send(address, format!("{request}\r\n").as_bytes())
}

/// Metrics as Prometheus reads them.
#[derive(Clone, Debug)]
pub struct Exposition {
    /// As it came.
    pub text: String,
    /// Type by name.
    pub types: BTreeMap<String, String>,
    /// Value by `name{label="value",...}`, as written.
    pub values: BTreeMap<String, f64>,
}

impl Exposition {
    /// Asks for `/metrics`, as this machine may.
    #[track_caller]
    pub fn of(address: &str) -> Exposition {
        let page = get(address, "/metrics", &[]);
        assert_eq!(page.status, 200, "{page:?}");
        Exposition::read(page.body)
    }

    /// Understands what was answered.
    #[track_caller]
    pub fn read(text: String) -> Exposition {
        let (mut types, mut values) = (BTreeMap::new(), BTreeMap::new());
        for line in text.lines() {
            if let Some(typed) = line.strip_prefix("# TYPE ") {
                let (name, kind) = typed.split_once(' ').expect("a name and its type");
                assert!(
                    types.insert(name.to_owned(), kind.to_owned()).is_none(),
                    "{name} is introduced twice"
                );
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').expect("a series and its value");
                let value = value.parse().unwrap_or_else(|_| panic!("a number: {line}"));
                assert!(values.insert(series.to_owned(), value).is_none(), "{series} is told twice");
            }
        }
        Exposition { text, types, values }
    }

    /// One value, such as that of `taskq_tasks{state="queued"}`.
    #[track_caller]
    pub fn value(&self, series: &str) -> f64 {
        *self.values.get(series).unwrap_or_else(|| panic!("{series} is not in\n{}", self.text))
    }

    /// The sum over all series of a name.
    pub fn sum(&self, name: &str) -> f64 {
        let of_name = |series: &str| series.split('{').next() == Some(name);
        self.values.iter().filter(|(series, _)| of_name(series)).map(|(_, value)| value).sum()
    }
}
