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

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::warn;

use super::call::reject;
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
    inbox: Arc<Turn<mpsc::UnboundedReceiver<Work>>>,
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
async fn keep(shared: Arc<Shared>, program: Arc<Program>, inbox: Arc<Turn<mpsc::UnboundedReceiver<Work>>>) {
    let next = async || inbox.lock().await.recv().await.expect("calls come for as long as children are kept");
    let mut child = start(&shared, &program).await;
    loop {
        let work = match &mut child {
            Err(_) => next().await,
            Ok(ready) => tokio::select! {
                work = next() => work,
                how = ready.idle() => {
                    warn!("a child process for functions {how} while it had no call; starting another");
                    sleep(PAUSE).await;
                    child = start(&shared, &program).await;
                    continue;
                }
            },
        };
        if child.is_err() {
            // It may be possible again by now.
            child = start(&shared, &program).await;
        }
        match &mut child {
            Ok(ready) => {
                if !serve::serve(&shared, &program, ready, work).await {
                    child = start(&shared, &program).await;
                }
            }
            Err(why) => {
                // Another worker may have what is missing here.
                reject(&shared, &work.task, &format!("its child process could not be started: {why}"));
            }
        }
    }
}

async fn start(shared: &Shared, program: &Program) -> Result<Child, String> {
    let started = Child::start(shared, program).await;
    if let Err(why) = &started {
        warn!("no child process for functions could be started: {why}");
    }
    started
}
