//! taskq's worker: takes tasks from the coordinator, runs them, and reports how they ended. A task is a command, or the
//! call of a function that a worker program has registered:
//!
//! ```no_run
//! use taskq_worker::{Context, Failure, Worker};
//!
//! fn main() -> std::process::ExitCode {
//!     Worker::new().blocking("double", double).main()
//! }
//!
//! fn double(number: u64, _: &Context) -> Result<u64, Failure> {
//!     number.checked_mul(2).ok_or_else(|| Failure::new("too large to be doubled").fatal())
//! }
//! ```
//!
//! Within another program, use [`Worker::run`]; for commands alone [`run`], after [`spawner::maybe_become`] as the
//! first call of `main`.
//!
//! Reading order, along the way of a task:
//!
//! | file | what |
//! |---|---|
//! | `program.rs` | [`Worker`]: what a worker program says and does |
//! | `registry.rs` | name → function; types become bytes |
//! | `config.rs` | every setting once |
//! | `worker.rs`, `worker/` | the loop: what was said, what happened, what starts now |
//! | `session/` | the link to the coordinator, and the only files that know the wire |
//! | `attempt.rs` | the worker's own words for what it runs |
//! | `slots.rs` | which task may start |
//! | `runtimes.rs` | which runtime runs it |
//! | `runtime/` | one attempt from start to outcome, in four ways: commands, threads, event loop, children |
//! | `context.rs`, `failure.rs` | what a function sees, and what it returns if it has no value |
//! | `current.rs`, `log.rs`, `panics.rs` | what a function prints, logs and breaks finds its task |
//! | `child/` | the child's side of a process function |
//! | `spawner/` | the process that starts and outlives commands and children |
//! | `memory.rs` | was it killed because memory ran out? |
//! | `output.rs` | what is kept of a stream |
//! | `outbox.rs` | what the coordinator has not confirmed |
//! | `sys.rs` | system calls without a safe wrapper |
//! | `bench.rs` | the way of a task without a coordinator, for `benches/` |
//!
//! **Invariant:** nothing here knows the coordinator's state; a runtime knows nothing of the session, the session
//! nothing of processes.

mod attempt;
#[doc(hidden)]
pub mod bench;
mod child;
mod clock;
mod config;
mod context;
mod current;
mod failure;
pub mod log;
mod memory;
mod outbox;
mod output;
mod panics;
mod program;
mod registry;
mod runtime;
mod runtimes;
mod session;
mod slots;
pub mod spawner;
mod sys;
mod worker;

pub use config::{Args, Config, LogFormat, OnLeaseLost};
pub use context::{Context, Output, Stopped, Why};
pub use current::{current, print_stderr, print_stdout};
pub use failure::{Failure, OrFatal};
pub use program::Worker;
pub use sys::stdout_was_closed;
pub use worker::{Error, run, run_until};
