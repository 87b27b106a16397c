//! Blocking functions: a fixed pool of threads, as many as slots, so that who has a slot finds a thread.

use std::io;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender};
use rustix::time::{ClockId, clock_gettime};

use super::call::{Call, Held};
use super::gather::Gather;
use super::seat::{Follower, Seat};
use super::{Attempt, Runtime, Shared};
use crate::attempt::{Task, Usage};
use crate::panics;
use crate::registry::{Blocking, Function, Registry};

/// What a main thread has.
const STACK: usize = 8 << 20;

/// Calls on their way to a thread, which runs them one after another in one slot.
struct Work {
    function: Blocking,
    slot: u32,
    first: Arc<Call>,
    /// Short ones: it would take longer to hand them over one by one.
    more: Vec<Arc<Seat>>,
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
            let (inbox, shared) = (inbox.clone(), Arc::clone(&shared));
            let thread = thread::Builder::new().name(format!("taskq-call-{number}")).stack_size(STACK);
            thread.spawn(move || {
                be_nice(shared.surroundings.nice);
                serve(&inbox, &shared);
            })?;
        }
        Ok(Threads { shared, registry, work })
    }

    /// As [`start`](Runtime::start), for several calls of one function, one after another in one slot. Those after the
    /// first have no timeout.
    pub(crate) fn start_many(&self, first: Task, more: Vec<Task>, slot: u32) -> Vec<Box<dyn Attempt>> {
        let name = &first.call().expect("only calls come here").function;
        let Some(Function::Blocking(function)) = self.registry.get(name) else {
            unreachable!("only blocking functions come here")
        };
        let function = Arc::clone(function);
        let first = Call::begin(&self.shared, first, slot);
        let mut held: Vec<Box<dyn Attempt>> = vec![Box::new(Held::new(Arc::clone(&first), None))];
        let more: Vec<_> = more.into_iter().map(Seat::new).collect();
        for seat in &more {
            held.push(Box::new(Follower::new(Arc::clone(seat), Arc::clone(&self.shared))));
        }
        self.work.send(Work { function, slot, first, more }).expect("threads live as long as the pool");
        held
    }
}

impl Runtime for Threads {
    fn start(&self, task: Task, slot: u32) -> Box<dyn Attempt> {
        self.start_many(task, Vec::new(), slot).pop().expect("as many as there are calls")
    }
}

fn serve(inbox: &Receiver<Work>, shared: &Arc<Shared>) {
    let gather = Gather::new(Arc::clone(shared));
    for Work { function, slot, first, more } in inbox {
        let mut cpu = cpu_us();
        run(&function, &first, &gather, &mut cpu);
        for seat in more {
            if let Some(call) = seat.begin(shared, slot) {
                run(&function, &call, &gather, &mut cpu);
            }
        }
        gather.tell();
    }
}

/// Runs one call; `cpu` is this thread's processor time before and after.
fn run(function: &Blocking, call: &Call, gather: &Arc<Gather>, cpu: &mut u64) {
    gather.begin(call.live());
    let argument = call.argument();
    let returned = panics::call(call.context(), || function(&argument, call.context()));
    let before = std::mem::replace(cpu, cpu_us());
    let used = Usage { user_us: cpu.saturating_sub(before), ..Usage::default() };
    gather.end(call.returned(Some(returned), used));
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
