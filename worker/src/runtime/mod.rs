//! Ways to run an attempt, and the one outcome that all of them have.
//!
//! | runtime | runs | stopped by |
//! |---|---|---|
//! | `command.rs` | commands, each a process | TERM, then KILL |
//! | `threads.rs` | blocking functions, on a fixed pool of threads | token; then it is left to itself, and its slot is busy |
//! | `event_loop.rs` | asynchronous functions, many at once | token; then dropped |
//! | `children.rs` | process functions, in children that were started before | message; then KILL |
//!
//! A runtime knows nothing of the coordinator; what it has to say goes to the worker's loop as [`News`].

mod call;
mod children;
mod command;
mod event_loop;
mod expand;
mod flusher;
mod gather;
pub(crate) mod live;
mod pipe;
mod seat;
mod threads;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::attempt::{How, Key, Outcome, Task};
use crate::memory::Memory;
use crate::outbox::{Event, Report};
use crate::spawner::Spawner;

pub(crate) use call::{end_stopped, refuse};
pub(crate) use children::{Children, Program as ChildProgram};
pub(crate) use command::Commands;
pub(crate) use event_loop::EventLoop;
pub(crate) use expand::Surroundings;
pub(crate) use flusher::Flusher;
pub(crate) use threads::Threads;

/// Runs attempts of one kind.
pub(crate) trait Runtime: Send + Sync {
    /// Begins an attempt, for which there is a slot. Its end is told exactly once: by a report of its outcome, or by
    /// [`News::StillBusy`] and, later, [`News::Returned`]. To be called inside the worker's tokio runtime.
    fn start(&self, task: Task, slot: u32) -> Box<dyn Attempt>;

    /// Takes leave of what has ended. A panic of the runtime's own (not of a function) goes on in the caller.
    fn tend(&self) {}
}

/// An attempt that runs. Dropped when its end was told; if before, it is ended without a word.
pub(crate) trait Attempt: Send {
    /// Ends it before its time. A later word may be a harder one, and one that says less changes nothing.
    fn stop(&self, why: Stop);

    /// The lease is about to be lost, and somebody else may run it then: ended at once, and reported as that. By default
    /// the spawner sees to it, which works even if this process does not.
    fn fence(&self) {}

    /// Takes it back if it has not begun; then nothing more is told of it. False if it has.
    fn take_back(&self) -> bool {
        false
    }
}

/// What a runtime tells the worker's loop.
#[derive(Debug)]
pub(crate) enum News {
    Report(Report),
    /// In this order.
    Several(Vec<News>),
    /// The attempt has ended with this outcome, but its function still runs.
    StillBusy(Key, Box<Outcome>),
    /// A function that was still busy has returned.
    Returned(Key),
}

/// What all attempts of a worker share.
pub(crate) struct Shared {
    pub spawner: Spawner,
    pub surroundings: Surroundings,
    pub news: mpsc::UnboundedSender<News>,
    /// For output that is not confirmed yet.
    pub room: Arc<Semaphore>,
    pub memory: Memory,
    pub flusher: Flusher,
}

impl Shared {
    pub(crate) fn tell(&self, news: News) {
        // The receiver outlives every attempt; if not, nobody wants to know.
        let _ = self.news.send(news);
    }

    pub(crate) fn report(&self, key: Key, event: Event) {
        self.tell(News::Report(Report { key, event }));
    }
}

/// Why an attempt is to end before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// The worker stops: as if cancelled, but costs no attempt.
    Preempted,
    /// Somebody cancelled it: it is told, has its grace, and is ended.
    Cancelled,
    /// It belongs to somebody else: ended at once.
    Stale,
}

impl Stop {
    fn how(self) -> How {
        match self {
            Stop::Cancelled => How::Cancelled,
            Stop::Preempted | Stop::Stale => How::Rejected,
        }
    }
}

impl Attempt for watch::Sender<Option<Stop>> {
    fn stop(&self, why: Stop) {
        self.send_if_modified(|stop| {
            let more = stop.is_none_or(|before| before < why);
            if more {
                *stop = Some(why);
            }
            more
        });
    }
}

fn too_slow(limit: Duration) -> String {
    format!("ran longer than its timeout of {limit:?}; raise --timeout if that was too short")
}

fn by_lease(worker: &str) -> String {
    format!("worker {worker} killed it, as its lease was about to end")
}

fn by_worker(worker: &str) -> String {
    format!("worker {worker} was stopped before the task had ended")
}

/// Takes leave of tasks that have ended. If one has panicked, so does the caller.
pub(crate) fn take_leave(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.try_join_next() {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}
