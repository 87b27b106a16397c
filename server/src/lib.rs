//! The coordinator as a library.

pub mod store;
