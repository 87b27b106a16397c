//! The client against a coordinator that answers as it is told, over real connections.

mod fake;
mod following;
mod submitting;
mod talking;
