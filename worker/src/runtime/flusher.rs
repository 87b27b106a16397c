//! Passes on what calls have said: one timer for all of them, and none while nobody says anything.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// How old what a call says may become before it is passed on. A call that is over sooner needs no word before its end.
const PAUSE: Duration = Duration::from_millis(50);

/// Has something to pass on.
pub(super) trait Flush: Send + Sync {
    /// Passes it on.
    fn flush(self: Arc<Self>);
}

/// Who has something to pass on.
#[derive(Default)]
pub(crate) struct Flusher {
    dirty: Mutex<Vec<Arc<dyn Flush>>>,
    wake: Notify,
}

impl Flusher {
    /// Has it flushed soon, once.
    pub(super) fn soon(&self, who: Arc<dyn Flush>) {
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        dirty.push(who);
        if dirty.len() == 1 {
            self.wake.notify_one();
        }
    }

    /// Works for as long as it is polled.
    pub(crate) async fn work(&self) {
        loop {
            self.wake.notified().await;
            sleep(PAUSE).await;
            let dirty = std::mem::take(&mut *self.dirty.lock().unwrap_or_else(PoisonError::into_inner));
            for who in dirty {
                who.flush();
            }
        }
    }
}
