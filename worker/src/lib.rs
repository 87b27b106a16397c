//! taskq's worker: takes tasks from the coordinator, runs them, and reports how they ended.
//!
//! Embed it with [`run`], after [`spawner::maybe_become`] as the first call of `main`.
//!
//! Reading order, along the way of a task:
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | every setting once |
//! | `worker.rs`, `worker/` | the loop: what was said, what happened, what starts now |
//! | `session/` | the link to the coordinator, and the only files that know the wire |
//! | `attempt.rs` | the worker's own words for what it runs |
//! | `slots.rs` | which task may start |
//! | `command.rs` | template to argv and environment |
//! | `runner.rs` | one attempt from start to outcome |
//! | `spawner/` | the process that starts and outlives tasks |
//! | `memory.rs` | was it killed because memory ran out? |
//! | `output.rs` | what is kept of a stream |
//! | `outbox.rs` | what the coordinator has not confirmed |
//! | `sys.rs` | system calls without a safe wrapper |
//! | `bench.rs` | the way of a task without a coordinator, for `benches/` |
//!
//! **Invariant:** nothing here knows the coordinator's state; a runner knows nothing of the session, the session
//! nothing of processes.

mod attempt;
#[doc(hidden)]
pub mod bench;
mod clock;
mod command;
mod config;
mod memory;
mod outbox;
mod output;
mod runner;
mod session;
mod slots;
pub mod spawner;
mod sys;
mod worker;

pub use config::{Args, Config, LogFormat, OnLeaseLost};
pub use sys::stdout_was_closed;
pub use worker::{Error, run, run_until};
