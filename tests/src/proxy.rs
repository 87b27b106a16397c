//! A cable between a worker and the coordinator that can be pulled.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Forwards TCP connections from its own address to the coordinator's.
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    open: Mutex<Vec<TcpStream>>,
    pulled: AtomicBool,
}

impl Proxy {
    /// A proxy to `target` on a free port.
    pub fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port for the proxy");
        let address = listener.local_addr().expect("the proxy's address").to_string();
        let shared = Arc::new(Shared::default());
        let (kept, target) = (Arc::clone(&shared), target.to_owned());
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if !kept.pulled.load(Ordering::SeqCst) {
                    // A refused connection to a dead coordinator ends the near side as well: that is what it is for.
                    let _ = join(near, &target, &kept);
                }
            }
        });
        Self { address, shared }
    }

    /// Where to connect.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Cuts every open connection; new ones are let through.
    pub fn cut(&self) -> usize {
        let open = std::mem::take(&mut *self.shared.open.lock().expect("no thread panics with this lock"));
        for stream in &open {
            // It may be gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        open.len()
    }

    /// Cuts every open connection and lets nothing through until [`Proxy::plug`].
    pub fn pull(&self) {
        self.shared.pulled.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Lets connections through again.
    pub fn plug(&self) {
        self.shared.pulled.store(false, Ordering::SeqCst);
    }
}

fn join(near: TcpStream, target: &str, shared: &Shared) -> io::Result<()> {
    let far = TcpStream::connect(target)?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let mut open = shared.open.lock().expect("no thread panics with this lock");
    open.push(near.try_clone()?);
    open.push(far.try_clone()?);
    drop(open);
    let (near_in, far_in) = (near.try_clone()?, far.try_clone()?);
    thread::spawn(move || pump(near_in, far));
    thread::spawn(move || pump(far_in, near));
    Ok(())
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Both ends of one cable end together.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
