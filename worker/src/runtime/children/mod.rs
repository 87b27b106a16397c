//! Process functions: each call runs in a child that was started before it came, and a child serves one call after
//! another. What a call breaks is its child; the worker and the other calls do not notice.
//!
//! | file | what |
//! |---|---|
//! | `child.rs` | one child: its start, its pipes, its frames |
//! | `serve.rs` | one call in a child, from argument to outcome |
//! | `end.rs` | what it means when a child dies |
//!
//! The child's side is the folder `child/`; what both say is in `docs/CHILD_PROTOCOL.md`.

mod child;
mod end;
mod serve;

use std::future::pending;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::warn;

use super::call::{end_stopped, reject};
use super::{Attempt, Runtime, Shared, Stop};
use crate::attempt::Task;
use child::Child;

/// Children that are started before there is a call for them; the others are when they are needed first.
const AHEAD: u32 = 32;
/// Before a child that ended without a reason is replaced.
const PAUSE: Duration = Duration::from_secs(1);

/// How children are started.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub argv: Vec<Vec<u8>>,
    /// To be kept to by the child. None: no limit.
    pub memory_bytes: Option<u64>,
}

/// Calls that wait for a child; whoever has the turn gets the next one.
type Inbox = Turn<mpsc::UnboundedReceiver<Work>>;

/// A call on its way to a child.
struct Work {
    task: Task,
    slot: u32,
    stop: watch::Receiver<Option<Stop>>,
}

/// All children of a worker, one for each slot that has been used for them.
pub(crate) struct Children {
    shared: Arc<Shared>,
    program: Arc<Program>,
    /// Bounded by the slots.
    work: mpsc::UnboundedSender<Work>,
    inbox: Arc<Inbox>,
    keepers: Mutex<Keepers>,
}

/// A keeper has one child, always.
#[derive(Default)]
struct Keepers {
    tasks: JoinSet<()>,
    count: usize,
    /// Calls that were handed over and have not ended.
    calls: Arc<()>,
}

impl Children {
    /// How long a child may take to say which functions it has.
    pub(crate) const PATIENCE: Duration = child::PATIENCE;

    /// Starts as many as there are slots, or a good part of it.
    pub(crate) fn start(shared: Arc<Shared>, program: Program, slots: u32) -> Children {
        let (work, inbox) = mpsc::unbounded_channel();
        let inbox = Arc::new(Turn::new(inbox));
        let children =
            Children { shared, program: Arc::new(program), work, inbox, keepers: Mutex::default() };
        for _ in 0..slots.min(AHEAD) {
            children.one_more(&mut children.keepers.lock().unwrap_or_else(PoisonError::into_inner));
        }
        children
    }

    fn one_more(&self, keepers: &mut Keepers) {
        keepers.count += 1;
        let (shared, program) = (Arc::clone(&self.shared), Arc::clone(&self.program));
        keepers.tasks.spawn(keep(shared, program, Arc::clone(&self.inbox)));
    }

    /// Starts a child only to hear which functions it has.
    pub(crate) async fn functions(shared: &Shared, program: &Program) -> Result<Vec<String>, String> {
        Ok(Child::start(shared, program).await?.into_functions())
    }
}

impl Runtime for Children {
    fn start(&self, task: Task, slot: u32) -> Box<dyn Attempt> {
        let (stop, stopped) = watch::channel(None);
        let mut keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = Arc::clone(&keepers.calls);
        if Arc::strong_count(&calls) > keepers.count + 1 {
            self.one_more(&mut keepers);
        }
        self.work.send(Work { task, slot, stop: stopped }).expect("the inbox is held here as well");
        Box::new(Held { stop, _call: calls })
    }

    fn tend(&self) {
        let mut keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        super::take_leave(&mut keepers.tasks);
    }
}

/// The worker's hold on a call in a child.
struct Held {
    stop: watch::Sender<Option<Stop>>,
    _call: Arc<()>,
}

impl Attempt for Held {
    fn stop(&self, why: Stop) {
        self.stop.stop(why);
    }
}

/// Keeps one child for as long as it is polled, and gives it calls.
async fn keep(shared: Arc<Shared>, program: Arc<Program>, inbox: Arc<Inbox>) {
    let mut child = None;
    let mut failed = false;
    loop {
        let mut work = None;
        if let Some(ready) = &mut child {
            tokio::select! {
                // One that has ended gets no call.
                biased;
                gone = Child::idle(ready) => {
                    gone.tell();
                    child = None;
                    sleep(PAUSE).await;
                    continue;
                }
                call = next(&inbox) => work = Some(call),
            }
        } else if failed {
            // It may be possible again when somebody calls.
            work = Some(next(&inbox).await);
        }
        if child.is_none() {
            let started = started(&shared, &program, &mut work, &inbox).await;
            failed = started.is_err();
            match (started, work.take()) {
                (Ok(ready), call) => (child, work) = (Some(ready), call),
                (Err(_), None) => {}
                (Err(why), Some(call)) => {
                    // Another worker may have what is missing here.
                    reject(&shared, &call.task, &format!("its child process could not be started: {why}"));
                }
            }
        }
        if let (Some(ready), Some(call)) = (&mut child, work)
            && !serve::serve(&shared, &program, ready, call).await
        {
            child = None;
        }
    }
}

/// Starts a child, and takes a call for it meanwhile; who stops that call does not wait for the child.
async fn started(
    shared: &Shared,
    program: &Program,
    work: &mut Option<Work>,
    inbox: &Inbox,
) -> Result<Child, String> {
    let mut starting = pin!(start(shared, program));
    loop {
        tokio::select! {
            started = &mut starting => return started,
            call = next(inbox), if work.is_none() => *work = Some(call),
            why = stopped(work.as_mut()) => {
                // Without a word, if nobody holds it any more.
                if let (Some(why), Some(call)) = (why, work.take()) {
                    end_stopped(shared, &call.task, why);
                }
            }
        }
    }
}

/// The next call. Cancel-safe.
async fn next(inbox: &Inbox) -> Work {
    inbox.lock().await.recv().await.expect("calls come for as long as children are kept")
}

/// Returns when the call is to end before it has begun. Cancel-safe.
async fn stopped(work: Option<&mut Work>) -> Option<Stop> {
    match work {
        Some(work) => work.stop.wait_for(Option::is_some).await.ok().and_then(|why| *why),
        None => pending().await,
    }
}

async fn start(shared: &Shared, program: &Program) -> Result<Child, String> {
    let started = Child::start(shared, program).await;
    if let Err(why) = &started {
        warn!("no child process for functions could be started: {why}");
    }
    started
}
