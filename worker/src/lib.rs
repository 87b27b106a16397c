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
//! # Three kinds of functions
//!
//! | | [`blocking`](Worker::blocking) | [`asynchronous`](Worker::asynchronous) | [`process`](Worker::process) |
//! |---|---|---|---|
//! | runs | on a thread | on an event loop | in a child process |
//! | for what | computes | waits | may crash, leak or hang |
//! | at once | one per slot (`--slots`, one per core) | `--async-slots`, 1,000 | one per slot |
//! | cancelled, too slow | is told; then its slot is busy until it returns | is told, then dropped at its next `await` | is told, then killed with all that it started |
//! | panics | the attempt fails | the attempt fails | the attempt fails |
//! | crashes (abort, stack overflow, out of memory) | the worker is gone | the worker is gone | the attempt fails |
//! | std's `println!` | not seen by the caller | not seen by the caller | output of its task |
//!
//! All take one argument, with several in a tuple, and a [`Context`]. Argument and value are what serde can read and write,
//! at most 256 MiB.
//!
//! # Printing and logging
//!
//! In a call, [`taskq_worker::println!`](println), `print!` and `eprintln!` write to the task, and so does
//! [`Context::stdout`] from any thread; callers see it live, and it is kept. Std's macros do that in child processes only.
//! `tracing` goes to the task's standard error after [`log::start`], which [`Worker::main`] calls.
//!
//! # Cancelling, timeouts, progress
//!
//! A call that is to end is told so by its context, and has until the grace is over (1 s unless its job says otherwise):
//! [`Context::check`] in loops, [`Context::cancelled`] to wait for, [`Context::why`] for the reason. A value that it still
//! returns counts. [`Context::progress`] says how far it is.
//!
//! # Failures and retries
//!
//! Any error becomes a [`Failure`] by `?`. Its task is tried again as often as the job's retries allow (`retries` of the
//! caller; none by default), unless the failure is [`fatal`](Failure::fatal). An argument that cannot be read, and a value
//! that cannot be written, are fatal by themselves. [`Failure::typed`] sends the error itself, for callers that know its
//! type. When its worker dies, or a child cannot be started, a task goes elsewhere and is charged no retry; one that loses
//! several workers is given up.
//!
//! # Within another program
//!
//! [`Worker::main`] is a whole program. [`Worker::run`] is a future in yours; [`Config::new`] has the defaults:
//!
//! ```no_run
//! use taskq_client::{Access, Sources};
//! use taskq_worker::{Config, Worker};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn serve(worker: Worker) -> Result<(), Box<dyn std::error::Error>> {
//!     let config = Config { slots: 4, ..Config::new(Access::find(&Sources::default())?) };
//!     let shutdown = async { _ = tokio::signal::ctrl_c().await };
//!     Ok(worker.run(config, shutdown).await?)
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // Before there is any other thread: this program is started again, for what watches over tasks and for children.
//!     let worker = Worker::new().process("double", |n: u64, _: &_| Ok(n * 2)).become_child();
//!     serve(worker)
//! }
//! ```
//!
//! For commands alone there is [`run`], after [`spawner::maybe_become`] as the first call of `main`.
//!
//! # How it is built
//!
//! For those who change it. Reading order, along the way of a task:
//!
//! | file | what |
//! |---|---|
//! | `program.rs` | [`Worker`]: what a worker program says and does |
//! | `registry.rs` | name → function; types become bytes |
//! | `config.rs` | every setting once |
//! | `percore/` | several workers, each held to a core, and who looks after them |
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
//! | `cgroup/` | limits that the kernel keeps for one attempt |
//! | `output.rs` | what is kept of a stream |
//! | `outbox.rs` | what the coordinator has not confirmed |
//! | `notify.rs` | what systemd is told |
//! | `sys.rs` | system calls without a safe wrapper |
//! | `bench.rs` | the way of a task without a coordinator, for `benches/` |
//!
//! **Invariant:** nothing here knows the coordinator's state; a runtime knows nothing of the session, the session
//! nothing of processes.

mod attempt;
#[doc(hidden)]
pub mod bench;
mod cgroup;
mod child;
mod clock;
mod config;
mod context;
mod current;
mod failure;
pub mod log;
mod memory;
mod notify;
mod outbox;
mod output;
mod panics;
mod percore;
mod process;
mod program;
mod registry;
mod runtime;
mod runtimes;
mod session;
mod slots;
pub mod spawner;
mod sys;
mod worker;

pub use config::{Args, Config, LogFormat, OnLeaseLost, Slots};
pub use context::{Context, Output, Stopped, Why};
pub use current::{current, print_stderr, print_stdout};
pub use failure::{Failure, OrFatal};
pub use program::Worker;
pub use sys::stdout_was_closed;
pub use worker::{Error, run, run_until};
