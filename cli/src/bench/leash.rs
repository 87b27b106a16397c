//! A leash for the processes of a bench: the kernel kills them when this one ends, however it ends.
//!
//! The leash can only be put on from inside, and `taskq-server` has no flag for it. So what is started is this
//! executable, which puts it on and then becomes the program that is meant.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal};

use crate::exit::Exit;

/// The first argument that turns the executable into another program on a leash.
const WORD: &str = "__taskq-leash";

/// A command for `program` on a leash. It is killed when the *thread* that starts it ends: start it from the main one.
pub(super) fn leashed(program: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(WORD).arg(std::process::id().to_string()).arg(program);
    command
}

/// Puts on the leash and becomes the program that follows, if this process was started for that; `Some` if it failed.
pub(super) fn maybe_become() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_none_or(|word| word != WORD) {
        return None;
    }
    // Typed by a person: let the command line say that it is unknown.
    let parent: i32 = words.next()?.to_str()?.parse().ok()?;
    let program = words.next()?;
    let leashed = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let cause = match leashed {
        Err(cause) => cause.into(),
        // It has ended before the leash was on.
        Ok(()) if rustix::process::getppid() != Pid::from_raw(parent) => {
            return Some(Exit::Interrupted.into());
        }
        Ok(()) => Command::new(&program).args(words).exec(),
    };
    eprintln!("error: cannot start {}: {cause}", program.display());
    Some(Exit::CannotExecute.into())
}
