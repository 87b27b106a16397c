//! Which runtime runs what; and what a call needs before it can begin.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::attempt::{Argument, Blob, Call, Job, Program, Task};
use crate::panics;
use crate::registry::{Function, Kind, Registry};
use crate::runtime::{
    Attempt, ChildProgram, Children, Commands, EventLoop, Runtime, Shared, Stop, Threads, end_stopped,
    refuse, take_leave,
};
use crate::session::Blobs;
use crate::slots::Lane;

/// All runtimes of a worker. One that has no functions is not there.
pub(crate) struct Runtimes {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    blobs: Blobs,
    commands: Commands,
    threads: Option<Threads>,
    event_loop: Option<EventLoop>,
    children: Option<Children>,
    foreign: Option<Children>,
    /// The flusher, and calls that wait for their argument.
    tasks: Mutex<JoinSet<()>>,
}

/// How children are started: those of this program, and those of another one.
pub(crate) struct Programs {
    pub own: ChildProgram,
    pub foreign: Option<ChildProgram>,
}

impl Runtimes {
    pub(crate) fn start(
        shared: &Arc<Shared>,
        registry: Arc<Registry>,
        blobs: Blobs,
        programs: Programs,
        slots: u32,
    ) -> io::Result<Arc<Runtimes>> {
        if registry.has(Kind::Blocking) || registry.has(Kind::Asynchronous) {
            panics::listen();
        }
        let share = || (Arc::clone(shared), Arc::clone(&registry));
        let threads = if registry.has(Kind::Blocking) {
            let (shared, registry) = share();
            Some(Threads::start(shared, registry, slots)?)
        } else {
            None
        };
        let event_loop = if registry.has(Kind::Asynchronous) {
            let (shared, registry) = share();
            Some(EventLoop::start(shared, registry)?)
        } else {
            None
        };
        let own = registry.has_process();
        let children = own.then(|| Children::start(Arc::clone(shared), programs.own, slots));
        let foreign = programs.foreign.map(|program| Children::start(Arc::clone(shared), program, slots));
        let mut tasks = JoinSet::new();
        let flusher = Arc::clone(shared);
        tasks.spawn(async move { flusher.flusher.work().await });
        let commands = Commands::new(Arc::clone(shared));
        let (shared, tasks) = (Arc::clone(shared), Mutex::new(tasks));
        Ok(Arc::new(Runtimes {
            shared,
            registry,
            blobs,
            commands,
            threads,
            event_loop,
            children,
            foreign,
            tasks,
        }))
    }

    /// Where a task has to wait for its turn.
    pub(crate) fn lane(&self, task: &Task) -> Lane {
        match task.call().and_then(|call| self.registry.kind(&call.function)) {
            Some(Kind::Asynchronous) => Lane::Async,
            Some(Kind::Blocking | Kind::Process) | None => Lane::Slots,
        }
    }

    /// Begins an attempt, for which there is a slot. Its end is told as with [`Runtime::start`].
    pub(crate) fn begin(self: &Arc<Self>, task: Task, slot: u32) -> Box<dyn Attempt> {
        match &task.job.program {
            Program::Argv(_) | Program::Shell(_) | Program::Unusable(_) => self.commands.start(task, slot),
            Program::Call(Call { argument: Argument::Blob(blob), .. }) if task.fields.is_empty() => {
                let blob = blob.clone();
                self.fetch(task, slot, blob)
            }
            Program::Call(call) => match self.runtime(&call.function) {
                Some(runtime) => runtime.start(task, slot),
                None => {
                    let fault = self.registry.missing(&call.function, &self.shared.surroundings.worker);
                    refuse(&self.shared, &task, fault);
                    Box::new(Unbegun)
                }
            },
        }
    }

    /// Whether calls of this kind can be handed over several at once, to be run one after another in one slot: who waits
    /// behind another one has no clock, and nothing to fetch.
    pub(crate) fn can_follow(&self, task: &Task) -> bool {
        let Some(call) = task.call() else { return false };
        let is_here = !task.fields.is_empty() || matches!(call.argument, Argument::Bytes(_));
        self.registry.kind(&call.function) == Some(Kind::Blocking) && is_here && task.job.timeout.is_none()
    }

    /// Begins several, all of which can follow; see [`begin`](Runtimes::begin).
    pub(crate) fn begin_many(&self, first: Task, more: Vec<Task>, slot: u32) -> Vec<Box<dyn Attempt>> {
        let threads = self.threads.as_ref().expect("a runtime is there if it has functions");
        threads.start_many(first, more, slot)
    }

    fn runtime(&self, function: &str) -> Option<&dyn Runtime> {
        fn known<R: Runtime>(runtime: Option<&R>) -> Option<&dyn Runtime> {
            Some(runtime.expect("a runtime is there if it has functions"))
        }
        match self.registry.get(function)? {
            Function::Blocking(_) => known(self.threads.as_ref()),
            Function::Asynchronous(_) => known(self.event_loop.as_ref()),
            Function::Process(_) => known(self.children.as_ref()),
            Function::Foreign => known(self.foreign.as_ref()),
        }
    }

    /// Begins once the argument is here. Its time does not run until then.
    fn fetch(self: &Arc<Self>, task: Task, slot: u32, blob: Blob) -> Box<dyn Attempt> {
        let (stop, mut stopped) = watch::channel(None);
        let this = Arc::clone(self);
        let work = async move {
            let fetched = tokio::select! {
                why = stopped.wait_for(Option::is_some) => {
                    let why = why.ok().and_then(|why| *why).unwrap_or(Stop::Preempted);
                    return end_stopped(&this.shared, &task, why);
                }
                fetched = this.blobs.fetch(&blob, &task) => fetched,
            };
            match fetched {
                Ok(argument) => {
                    let begun = this.begin(with_argument(task, Argument::Bytes(argument)), slot);
                    pass_on(stopped, begun).await;
                }
                Err(fault) => refuse(&this.shared, &task, fault),
            }
        };
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(work);
        Box::new(Fetching(stop))
    }

    /// Takes leave of what has ended. A panic that is no function's goes on in the caller.
    pub(crate) fn tend(&self) {
        let runtimes: [Option<&dyn Runtime>; 5] = [
            Some(&self.commands),
            self.threads.as_ref().map(|runtime| runtime as _),
            self.event_loop.as_ref().map(|runtime| runtime as _),
            self.children.as_ref().map(|runtime| runtime as _),
            self.foreign.as_ref().map(|runtime| runtime as _),
        ];
        runtimes.into_iter().flatten().for_each(Runtime::tend);
        take_leave(&mut self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Ends what still runs, without a word.
    pub(crate) fn abandon(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

/// Hands on what is said to an attempt, until it is dropped.
async fn pass_on(mut stopped: watch::Receiver<Option<Stop>>, attempt: Box<dyn Attempt>) {
    stopped.mark_changed();
    while stopped.changed().await.is_ok() {
        let why = *stopped.borrow_and_update();
        if let Some(why) = why {
            attempt.stop(why);
        }
    }
}

fn with_argument(task: Task, argument: Argument) -> Task {
    let mut job = Job::clone(&task.job);
    if let Program::Call(call) = &mut job.program {
        call.argument = argument;
    }
    Task { job: Arc::new(job), ..task }
}

/// An attempt whose argument is on its way, or came that way.
struct Fetching(watch::Sender<Option<Stop>>);

impl Attempt for Fetching {
    fn stop(&self, why: Stop) {
        self.0.stop(why);
    }

    fn fence(&self) {
        self.0.stop(Stop::Stale);
    }
}

/// An attempt whose end was told before it began.
struct Unbegun;

impl Attempt for Unbegun {
    fn stop(&self, _: Stop) {}
}
