//! The scheduler as a pure function: an [`event::Event`] at a [`id::Now`] becomes [`effect::Outcome`].
//!
//! No clock, disk, network, thread or random number here; the server crate acts on what this crate decides.
//! To be read in this order: the words (`id`, `job`, `event`, `effect`), the state and its one gate (`state`, `gate`),
//! what the state is made of (`array`, `ready`, `worker`, ...), then one file per event in `step/`.

pub mod effect;
pub mod event;
pub mod id;
pub mod job;

mod check;
mod gate;
mod restore;
mod state;
mod step;

mod array;
mod line;
pub mod overview;
mod policy;
mod queues;
pub mod ready;
mod repeat;
mod retry;
mod slots;
pub mod table;
pub mod tally;
mod worker;

pub use restore::Restore;
pub use state::{Config, State};
