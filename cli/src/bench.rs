//! `taskq bench`: measures what people run, against what the machine can do.
//!
//! | file | what |
//! |---|---|
//! | `case.rs` | what can be measured: cases, their variants, how many tasks each |
//! | `cases/` | one file a case: prepare, measure, check that the work was done |
//! | `trial.rs` | one variant once, on a stage of its own, within its time |
//! | `course.rs` | all trials of a run, in rounds |
//! | `stage.rs` | a coordinator, workers and a client, as processes or inside this one |
//! | `daemon.rs`, `leash.rs` | one such process, and what ends it with this one |
//! | `worker.rs` | the worker program and its functions, which do nothing |
//! | `machine.rs` | the machine's own limits |
//! | `usage.rs`, `meter.rs` | what a stretch of work took: time, CPU, memory, disk |
//! | `figures.rs` | from trials to medians and percentiles |
//! | `report.rs`, `telling.rs` | what is printed at the end, and meanwhile |
//!
//! Only the public API of the client is used: what is measured is what a program of a user would see.

mod case;
mod cases;
mod course;
mod daemon;
mod figures;
mod leash;
mod machine;
mod meter;
mod report;
mod stage;
mod telling;
mod trial;
mod usage;
mod worker;

use std::process::ExitCode;

pub(crate) use case::{Case, Scale};
pub(crate) use course::{Course, Settings};
pub(crate) use machine::is_in_memory;
pub(crate) use report::print;
pub(crate) use stage::Place;

/// Becomes a part of a bench if this process was started as one: `Some` says how that ended. To be called before any
/// thread exists.
pub(crate) fn maybe_become() -> Option<ExitCode> {
    leash::maybe_become().or_else(worker::maybe_become)
}
