//! What each event does; one file an event or a family of them. [`State::step`](crate::State::step) is the index.

pub(crate) mod act;
pub(crate) mod ask;
pub(crate) mod dispatch;
pub(crate) mod explain;
pub(crate) mod finish;
pub(crate) mod hello;
pub(crate) mod lost;
pub(crate) mod queue;
pub(crate) mod recover;
pub(crate) mod reports;
pub(crate) mod session;
pub(crate) mod submit;
pub(crate) mod tick;
pub(crate) mod wait;
