//! The cases, one file each. Each prepares, measures between a meter's start and stop, and then checks that all that it
//! is about to claim was done: a figure for work that was not done is never shown.

pub(super) mod backlog;
pub(super) mod calls;
pub(super) mod commands;
pub(super) mod latency;
pub(super) mod payload;
pub(super) mod submit;
