//! The child's side of a process function: this program, started again by its worker, serves one call at a time.
//!
//! | file | what |
//! |---|---|
//! | `frame.rs` | what both say, and how it is written; `docs/CHILD_PROTOCOL.md` |
//! | `serve.rs` | the loop: calls in, answers out |
//! | `meter.rs` | what a call used |
//! | `upward.rs` | the child's mouth |
//!
//! The worker's side is the folder `runtime/children/`.

pub(crate) mod frame;
mod meter;
mod serve;
mod upward;

pub(crate) use serve::{WORD, is_child, serve};
pub(crate) use upward::Upward;
