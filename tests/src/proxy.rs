//! A cable to the coordinator that can be pulled, and a network that can go dark: everything stays open, nothing gets
//! through, and nobody is told.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
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
    traffic: Mutex<Traffic>,
    changed: Condvar,
}

/// Connections have numbers from 1.
#[derive(Default)]
struct Traffic {
    made: u64,
    /// Those up to this one carry nothing.
    dark: u64,
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut Traffic) -> T) -> T {
        let changed = change(&mut self.traffic.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
        changed
    }

    /// Waits until this connection may carry something.
    fn light(&self, number: u64) {
        let traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        let _lit = self.changed.wait_while(traffic, |traffic| number <= traffic.dark);
    }
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

    /// From now on the connections that there are carry nothing in either direction, and stay open. New ones are let
    /// through.
    pub fn darken(&self) {
        self.shared.change(|traffic| traffic.dark = traffic.made);
    }

    /// The same, and new connections are taken and carry nothing either, until [`Proxy::heal`].
    pub fn darken_all(&self) {
        self.shared.change(|traffic| traffic.dark = u64::MAX);
    }

    /// Everything flows again, what was held back first.
    pub fn heal(&self) {
        self.shared.change(|traffic| traffic.dark = 0);
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> u64 {
        self.shared.change(|traffic| traffic.made)
    }

    /// Lets connections through again.
    pub fn plug(&self) {
        self.shared.pulled.store(false, Ordering::SeqCst);
    }
}

fn join(near: TcpStream, target: &str, shared: &Arc<Shared>) -> io::Result<()> {
    let far = TcpStream::connect(target)?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let mut open = shared.open.lock().expect("no thread panics with this lock");
    open.push(near.try_clone()?);
    open.push(far.try_clone()?);
    drop(open);
    let (near_in, far_in) = (near.try_clone()?, far.try_clone()?);
    let number = shared.change(|traffic| {
        traffic.made += 1;
        traffic.made
    });
    let (there, back) = (Arc::clone(shared), Arc::clone(shared));
    thread::spawn(move || pump(near_in, far, || there.light(number)));
    thread::spawn(move || pump(far_in, near, || back.light(number)));
    Ok(())
}

fn pump(mut from: TcpStream, mut to: TcpStream, light: impl Fn()) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count) = from.read(&mut buffer) {
        light();
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Both ends of one cable end together.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
