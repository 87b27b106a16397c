//! The process between the worker and its tasks.
//!
//! Every task is a child of this small process, not of the worker. It forks fast whatever the worker's heap holds,
//! it inherits what tasks leave behind (it is their subreaper), and it outlives the worker by as much as it takes to
//! kill everything and to tell the coordinator so. The other way round, tasks die with it, and the worker starts
//! another one.
//!
//! It is the worker's own executable, started again with a secret first argument: [`maybe_become`] must be the first
//! call of every `main` that can run a worker.
//!
//! | file | side | what |
//! |---|---|---|
//! | `wire.rs` | both | frames and descriptors over a socket pair |
//! | `handle.rs` | worker | `spawn`, `kill`; starts the process, and again when it dies |
//! | `serve.rs` | spawner | the loop: orders in, news out, children reaped |
//! | `children.rs` | spawner | who belongs to which attempt, and who must go |
//! | `bury.rs` | spawner | the last word to the coordinator |
//! | `proc.rs` | both | what `/proc` says |

mod bury;
mod children;
mod handle;
mod orphans;
pub(crate) mod proc;
mod serve;
mod wire;

pub(crate) use handle::{Command, Control, Ending, Exit, Failure, Process, Spawner, Stdin, Who};
pub(crate) use wire::{Exited, Setup, Stage};

use std::os::fd::AsFd;

/// The first argument that turns the executable into a spawner.
const SECRET_WORD: &str = "__taskq-spawner";

/// Becomes the spawner if this process was started as one, and then never returns. Otherwise does nothing.
///
/// Call it first in `main`, before any thread exists: the spawner must be alone in its process.
pub fn maybe_become() {
    if std::env::args_os().nth(1).is_none_or(|word| word != SECRET_WORD) {
        return;
    }
    let stdin = std::io::stdin();
    if rustix::net::sockopt::socket_type(stdin.as_fd()).is_err() {
        return; // typed by a person: let the command line say that it is unknown
    }
    let code = match serve::serve(stdin.as_fd()) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("taskq spawner: {error}");
            70
        }
    };
    std::process::exit(code)
}
