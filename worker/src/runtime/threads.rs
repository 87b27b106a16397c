//! Blocking functions: a fixed pool of threads, as many as slots, so that who has a slot finds a thread.

use std::io;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender};
use rustix::time::{ClockId, clock_gettime};

use super::call::{Call, Held};
use super::{Attempt, Runtime, Shared};
use crate::attempt::{Task, Usage};
use crate::panics;
use crate::registry::{Blocking, Function, Registry};

/// What a main thread has.
const STACK: usize = 8 << 20;

/// A call on its way to a thread.
struct Work {
    call: Arc<Call>,
    function: Blocking,
}

/// The pool. Its threads end when it is gone; one whose function never returns ends with the process.
pub(crate) struct Threads {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    /// Bounded by the slots.
    work: Sender<Work>,
}

impl Threads {
    pub(crate) fn start(shared: Arc<Shared>, registry: Arc<Registry>, slots: u32) -> io::Result<Threads> {
        let (work, inbox) = crossbeam_channel::unbounded();
        for number in 0..slots {
            let (inbox, nice) = (inbox.clone(), shared.surroundings.nice);
            let thread = thread::Builder::new().name(format!("taskq-call-{number}")).stack_size(STACK);
            thread.spawn(move || {
                be_nice(nice);
                serve(&inbox);
            })?;
        }
        Ok(Threads { shared, registry, work })
    }
}

impl Runtime for Threads {
    fn start(&self, task: Task, slot: u32) -> Box<dyn Attempt> {
        let name = &task.call().expect("only calls come here").function;
        let Some(Function::Blocking(function)) = self.registry.get(name) else {
            unreachable!("only blocking functions come here")
        };
        let function = Arc::clone(function);
        let call = Call::begin(&self.shared, task, slot);
        let held = Held::new(Arc::clone(&call), None);
        self.work.send(Work { call, function }).expect("threads live as long as the pool");
        Box::new(held)
    }
}

fn serve(inbox: &Receiver<Work>) {
    for Work { call, function } in inbox {
        let (argument, before) = (call.argument(), cpu_us());
        let returned = panics::call(call.context(), || function(&argument, call.context()));
        let used = Usage { user_us: cpu_us().saturating_sub(before), ..Usage::default() };
        call.returned(Some(returned), used);
    }
}

/// Processor time of this thread; what of it the kernel worked is not told apart.
fn cpu_us() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_nsec.unsigned_abs() / 1_000
}

/// Adds to the niceness of this thread, so that calls do not keep the worker from its heartbeats.
pub(super) fn be_nice(more: i32) {
    if let Ok(now) = rustix::process::getpriority_process(None) {
        // Being less nice than told costs the machine, not the call.
        let _ = rustix::process::setpriority_process(None, now + more);
    }
}
