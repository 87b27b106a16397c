//! `taskq-server health` and what else is done beside serving: each file is a subcommand, with its options, its errors
//! and what it prints. Serving itself is `main.rs`'s.

pub mod health;

use clap::Subcommand;

/// What `taskq-server` can do instead of serving.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Ask a running coordinator whether it serves
    Health(health::Args),
}

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of `health`.
    #[error(transparent)]
    Health(#[from] health::Error),
}

impl Command {
    /// Does it, and prints what it found.
    ///
    /// # Errors
    /// What could not be done, and what to do about it.
    pub async fn run(&self) -> Result<(), Error> {
        match self {
            Command::Health(args) => Ok(health::health(args).await?),
        }
    }
}

impl Error {
    /// The documented exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Error::Health(error) => error.code(),
        }
    }
}
