//! A service manager as far as its services see one: a socket on which they say how they are.

use crate::wait;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The socket, and where it is.
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    /// Listens in this folder.
    pub fn new(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket for notifications");
        Self { socket, path }
    }

    /// What `NOTIFY_SOCKET` is to say.
    pub fn path(&self) -> &str {
        self.path.to_str().expect("a folder of ours is text")
    }

    /// Waits for a message that has this line, such as `READY=1`, or a line that begins so if it ends in `…`.
    #[track_caller]
    pub fn hears(&self, line: &str) -> String {
        self.hears_any(&format!("a message with {line:?}"), |message| has(message, line))
    }

    /// The messages of this much time. They are not waited for: the time is what a silence is measured by.
    pub fn for_a_while(&self, length: Duration) -> Vec<String> {
        let end = Instant::now() + length;
        let mut messages = Vec::new();
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            messages.extend(self.next(left));
        }
        messages
    }

    /// Forgets what has been said until now.
    pub fn forget(&self) {
        while self.next(Duration::from_millis(1)).is_some() {}
    }

    #[track_caller]
    fn hears_any(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut heard = Vec::new();
        let start = Instant::now();
        while start.elapsed() < wait::limit() {
            let Some(message) = self.next(Duration::from_millis(500)) else { continue };
            if wanted(&message) {
                return message;
            }
            heard.push(message);
        }
        panic!("waited in vain for {what}; heard {heard:#?}");
    }

    fn next(&self, patience: Duration) -> Option<String> {
        let mut bytes = [0; 4096];
        self.socket.set_read_timeout(Some(patience.max(Duration::from_millis(1)))).expect("a time limit");
        match self.socket.recv(&mut bytes) {
            Ok(length) => Some(String::from_utf8_lossy(&bytes[..length]).into_owned()),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                None
            }
            Err(error) => panic!("the socket for notifications: {error}"),
        }
    }
}

/// Whether a message has this line; see [`Manager::hears`].
pub fn has(message: &str, line: &str) -> bool {
    match line.strip_suffix('…') {
        Some(beginning) => message.lines().any(|said| said.starts_with(beginning)),
        None => message.lines().any(|said| said == line),
    }
}
