//! What the calls of one thread have to say, told several at once: short ones end faster than anybody could be woken for
//! each. What waits here is told when the thread has nothing left to do, after a millisecond, or, if a call that takes
//! longer came in between, by the flusher.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::flusher::Flush;
use super::live::Live;
use super::{News, Shared};

/// How long ends wait for others, as long as they keep coming.
const TOGETHER: Duration = Duration::from_millis(1);

/// The mouth of one thread.
pub(super) struct Gather {
    shared: Arc<Shared>,
    gathered: Mutex<Gathered>,
}

#[derive(Default)]
struct Gathered {
    news: Vec<News>,
    /// When the first of the news came.
    since: Option<Instant>,
    /// The call that runs.
    current: Option<Arc<Live>>,
    /// Whether the flusher is to come.
    expected: bool,
}

impl Gather {
    pub(super) fn new(shared: Arc<Shared>) -> Arc<Gather> {
        Arc::new(Gather { shared, gathered: Mutex::default() })
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call begins: if it takes long, that it has started is told, and what waits here as well.
    pub(super) fn begin(self: &Arc<Gather>, live: &Arc<Live>) {
        let mut gathered = self.gathered();
        gathered.current = Some(Arc::clone(live));
        if !std::mem::replace(&mut gathered.expected, true) {
            drop(gathered);
            self.shared.flusher.soon(Arc::clone(self) as _);
        }
    }

    /// It has ended, with this to tell.
    pub(super) fn end(&self, news: Option<News>) {
        let mut gathered = self.gathered();
        gathered.current = None;
        gathered.news.extend(news);
        let since = *gathered.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= TOGETHER {
            self.tell_all(gathered);
        }
    }

    /// The thread has nothing left to do: what has ended is told.
    pub(super) fn tell(&self) {
        self.tell_all(self.gathered());
    }

    fn tell_all(&self, mut gathered: MutexGuard<'_, Gathered>) {
        gathered.since = None;
        if !gathered.news.is_empty() {
            // Under the lock: what one call has to say stays in order.
            self.shared.tell(News::Several(std::mem::take(&mut gathered.news)));
        }
    }
}

impl Flush for Gather {
    fn flush(self: Arc<Self>) {
        let mut gathered = self.gathered();
        gathered.expected = false;
        let current = gathered.current.clone();
        self.tell_all(gathered);
        if let Some(live) = current {
            live.flush();
        }
    }
}
