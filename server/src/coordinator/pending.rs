//! Who waits for which reply.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use taskq_core::{effect::Reply, id::RequestId};
use tokio::sync::oneshot;

/// What is kept until a request is answered, whether or not its caller still waits.
pub type Held = Box<dyn fmt::Debug + Send>;

/// So many callers must take turns for it to be worth waiting for them.
const SEVERAL: usize = 3;

/// Callers by request id. A caller that has gone away is forgotten when its reply comes.
#[derive(Debug)]
pub struct Pending {
    next: AtomicU64,
    callers: Mutex<Callers>,
    /// As many wait as [`Pending::gather`] waits for, or it is closed.
    gathered: Condvar,
}

#[derive(Debug)]
struct Callers {
    /// `None` once it is closed.
    waiting: Option<HashMap<RequestId, Caller>>,
    /// How many [`Pending::gather`] waits for; 0: it does not.
    wanted: usize,
}

#[derive(Debug)]
struct Caller {
    reply: oneshot::Sender<Reply>,
    _held: Option<Held>,
}

impl Default for Pending {
    fn default() -> Self {
        let callers = Callers { waiting: Some(HashMap::new()), wanted: 0 };
        Pending { next: AtomicU64::new(0), callers: Mutex::new(callers), gathered: Condvar::new() }
    }
}

impl Pending {
    /// A new request, and where its reply will arrive; an error arrives there if there will be none.
    pub fn open(&self, held: Option<Held>) -> (RequestId, oneshot::Receiver<Reply>) {
        let id = RequestId(self.next.fetch_add(1, Ordering::Relaxed));
        let (reply, receiver) = oneshot::channel();
        let mut callers = self.lock();
        let wanted = callers.wanted;
        if let Some(waiting) = &mut callers.waiting {
            waiting.insert(id, Caller { reply, _held: held });
            if waiting.len() == wanted {
                self.gathered.notify_all();
            }
        }
        (id, receiver)
    }

    /// Hands a reply to its caller, if that still waits.
    pub fn answer(&self, id: RequestId, reply: Reply) {
        if let Some(caller) = self.take(id) {
            // An error says that the caller hung up; nobody is left to tell.
            let _gone = caller.reply.send(reply);
        }
    }

    /// There will be no reply to this one.
    pub fn forget(&self, id: RequestId) {
        drop(self.take(id));
    }

    /// There will be no reply to anybody any more.
    pub fn close(&self) {
        let waiting = self.lock().waiting.take();
        self.gathered.notify_all();
        drop(waiting);
    }

    /// After `answered` callers got their reply: returns once two thirds as many wait as did before, at the latest after
    /// `at_most`, and at once if they were not several. Callers that take turns are then served together, by one sync,
    /// while the others are on their way; see decision 12.
    pub fn gather(&self, answered: usize, at_most: Duration) {
        let mut callers = self.lock();
        let Some(waiting) = &callers.waiting else { return };
        let all = waiting.len() + answered;
        let wanted = (2 * all).div_ceil(3);
        if all < SEVERAL || waiting.len() >= wanted {
            return;
        }
        callers.wanted = wanted;
        let few = |callers: &mut Callers| callers.waiting.as_ref().is_some_and(|all| all.len() < wanted);
        let waited = self.gathered.wait_timeout_while(callers, at_most, few);
        waited.unwrap_or_else(PoisonError::into_inner).0.wanted = 0;
    }

    fn take(&self, id: RequestId) -> Option<Caller> {
        self.lock().waiting.as_mut()?.remove(&id)
    }

    fn lock(&self) -> MutexGuard<'_, Callers> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn rejected() -> Reply {
        Reply::Rejected(taskq_core::effect::Rejection::NotEnded(taskq_core::id::JobId(1)))
    }

    #[tokio::test]
    async fn what_is_held_goes_with_the_answer_not_with_the_caller() {
        let (pending, held) = (Pending::default(), Arc::new(()));
        let (id, caller) = pending.open(Some(Box::new(Arc::clone(&held))));
        drop(caller);
        assert_eq!(Arc::strong_count(&held), 2);
        pending.answer(id, rejected());
        assert_eq!(Arc::strong_count(&held), 1);
        let (id, caller) = pending.open(Some(Box::new(Arc::clone(&held))));
        pending.forget(id);
        assert_eq!(Arc::strong_count(&held), 1);
        caller.await.expect_err("there is no reply");
    }

    #[tokio::test]
    async fn nobody_waits_for_one_that_is_closed() {
        let pending = Pending::default();
        let (_, before) = pending.open(None);
        pending.close();
        let (id, after) = pending.open(None);
        pending.answer(id, rejected());
        before.await.expect_err("it was closed");
        after.await.expect_err("it is closed");
    }

    /// Longer than any test may take.
    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn several_callers_that_were_answered_are_waited_for() {
        let pending = Pending::default();
        let _waits: Vec<_> = (0..2).map(|_| pending.open(None)).collect();
        std::thread::scope(|scope| {
            // Two wait, four were answered: four of the six wait when it returns.
            let gathering = scope.spawn(|| {
                pending.gather(4, LONG);
                pending.lock().waiting.as_ref().map_or(0, HashMap::len)
            });
            while pending.lock().wanted != 4 {
                std::thread::yield_now();
            }
            let back: Vec<_> = (0..2).map(|_| pending.open(None)).collect();
            let waiting = gathering.join().expect("nothing panics");
            assert_eq!((waiting, back.len()), (4, 2));
        });
    }

    #[test]
    fn one_or_two_callers_are_not_waited_for_nor_is_anybody_at_the_end() {
        let pending = Pending::default();
        pending.gather(0, LONG);
        pending.gather(2, LONG);
        let _waits = pending.open(None);
        pending.gather(1, LONG);
        // Two thirds wait already.
        let _wait: Vec<_> = (0..9).map(|_| pending.open(None)).collect();
        pending.gather(5, LONG);
        std::thread::scope(|scope| {
            scope.spawn(|| pending.gather(99, LONG));
            pending.close();
        });
        pending.gather(99, LONG);
    }

    #[test]
    fn those_who_do_not_come_back_are_not_waited_for_long() {
        let pending = Pending::default();
        pending.gather(9, Duration::from_millis(1));
        assert_eq!(pending.lock().wanted, 0);
    }
}
