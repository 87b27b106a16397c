//! The scheduler as a pure function: an [`event::Event`] at a [`id::Now`] becomes [`effect::Outcome`].
//!
//! No clock, disk, network, thread or random number here; the server crate acts on what this crate decides.

pub mod effect;
pub mod event;
pub mod id;
pub mod job;
