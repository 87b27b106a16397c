//! The client against a coordinator that answers as it is told, over real connections.

mod calling;
#[expect(clippy::unwrap_used, reason = "what fails here fails the test that uses it")]
mod fake;
mod following;
mod pooling;
mod submitting;
mod talking;
mod waiting;
#[expect(clippy::unwrap_used, reason = "what fails here fails the test that uses it")]
mod world;
