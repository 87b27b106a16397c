//! What it means when a child ends without an answer.

use super::super::by_lease;
use super::super::call::End;
use super::Program;
use crate::attempt::{Cause, Fault, How, Outcome, Task};
use crate::context::Why;
use crate::memory::Memory;
use crate::spawner::{Exit, Exited};

/// What Rust says before it aborts for these.
const OUT_OF_MEMORY: &str = "memory allocation of ";
const STACK_OVERFLOW: &str = "has overflowed its stack";
/// What to listen for on a child's standard error.
pub(super) const LAST_WORDS: [&str; 2] = [OUT_OF_MEMORY, STACK_OVERFLOW];

/// How a process ended, as the end of a sentence that begins with it.
pub(super) fn how(exit: Exit) -> String {
    match exit {
        Exit::Lost => "was killed with the process that runs tasks".to_owned(),
        Exit::Exited(exited) if libc::WIFSIGNALED(exited.status) => {
            let signal = libc::WTERMSIG(exited.status);
            format!("was ended by signal {signal}{}", name(signal))
        }
        Exit::Exited(exited) => format!("exited with code {}", libc::WEXITSTATUS(exited.status)),
    }
}

fn name(signal: i32) -> &'static str {
    match signal {
        libc::SIGABRT => " (SIGABRT: it aborted)",
        libc::SIGSEGV => " (SIGSEGV: it touched memory that is not its own)",
        libc::SIGBUS => " (SIGBUS)",
        libc::SIGILL => " (SIGILL)",
        libc::SIGFPE => " (SIGFPE)",
        libc::SIGKILL => " (SIGKILL)",
        libc::SIGTERM => " (SIGTERM)",
        _ => "",
    }
}

/// The child is gone, and its call with it. `said` is what it wrote of its [last words](LAST_WORDS).
pub(super) fn of(
    exit: Exit,
    task: &Task,
    worker: &str,
    why: Option<Why>,
    program: &Program,
    memory: &Memory,
    said: &[&str],
) -> Outcome {
    let function = &task.call().expect("a call").function;
    let exited = match exit {
        Exit::Lost => {
            let message = format!("worker {worker}: {function}: its child process {}", how(exit));
            return Outcome { how: How::Lost, message, ..Outcome::default() };
        }
        Exit::Exited(Exited { fenced: true, .. }) => {
            let message = by_lease(worker);
            return Outcome { how: How::Rejected, message, ..Outcome::default() };
        }
        Exit::Exited(exited) => exited,
    };
    if why.is_some() {
        return End::of(task, worker, None, why).outcome();
    }
    let signal = libc::WIFSIGNALED(exited.status).then(|| libc::WTERMSIG(exited.status));
    let code = libc::WEXITSTATUS(exited.status);
    let at_limit = program.memory_bytes.filter(|limit| signal.is_some() && ran_into(*limit, &exited, said));
    let mut message = format!("{function}: its child process {} before it had answered", how(exit));
    if let Some(limit) = at_limit {
        message += &format!(", at its memory limit of {} MiB", limit >> 20);
    } else if said.contains(&STACK_OVERFLOW) {
        message += ": it overflowed its stack";
    } else if signal.is_some() && said.contains(&OUT_OF_MEMORY) {
        message += ": it got no more memory";
    }
    if (signal, code) == (None, 0) {
        // As an outcome this code would be a success.
        let fault = Fault::new(Cause::Error, message.clone());
        return Outcome { how: How::Failed, message, fault: Some(fault), ..Outcome::default() };
    }
    let out_of_memory = at_limit.is_some() || (signal == Some(libc::SIGKILL) && memory.ran_out());
    let how = signal.map_or(How::Exited(code), How::Signaled);
    Outcome { how, message, out_of_memory, ..Outcome::default() }
}

/// A child that got no more memory says so, or dies close to its limit.
fn ran_into(limit: u64, exited: &Exited, said: &[&str]) -> bool {
    said.contains(&OUT_OF_MEMORY) || exited.peak_rss_bytes >= limit / 10 * 9
}
