//! What a child says to its worker.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::frame::{self, Up};
use crate::outbox::Progress;

/// Between two words on how far a call is.
const PAUSE: Duration = Duration::from_millis(50);

/// The socket, shared by all that say something.
pub(super) struct Line {
    socket: Mutex<UnixStream>,
    /// Said by the call with this number, and not yet told.
    newest: Mutex<Option<(u64, Progress)>>,
    news: Condvar,
}

impl Line {
    pub(super) fn new(socket: UnixStream) -> Arc<Line> {
        Arc::new(Line { socket: Mutex::new(socket), newest: Mutex::default(), news: Condvar::new() })
    }

    pub(super) fn say(&self, header: &impl Serialize, body: &[u8]) -> io::Result<()> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.write_all(&frame::head(header, body))?;
        socket.write_all(body)
    }

    /// Tells the newest progress, every now and then; ends when nobody listens.
    pub(super) fn tell_progress(&self) {
        loop {
            let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = self.news.wait_while(newest, |newest| newest.is_none());
            let newest = newest.unwrap_or_else(PoisonError::into_inner).take();
            if let Some((id, Progress { fraction, note })) = newest
                && self.say(&Up::Progress { id, fraction, note }, b"").is_err()
            {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// The mouth of one call.
pub(crate) struct Upward {
    id: u64,
    line: Arc<Line>,
}

impl Upward {
    pub(super) fn new(id: u64, line: &Arc<Line>) -> Upward {
        Upward { id, line: Arc::clone(line) }
    }

    pub(crate) fn progress(&self, progress: Progress) {
        *self.line.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some((self.id, progress));
        self.line.news.notify_one();
    }
}
