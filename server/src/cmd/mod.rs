//! `taskq-server health` and what else is done beside serving: each file is a subcommand, with its options, its errors
//! and what it prints. Serving itself is `main.rs`'s.

pub mod backup;
pub mod doctor;
pub mod health;
pub mod restore;
pub mod target;

use std::time::Duration;

use clap::Subcommand;

use crate::store::{self, backup::Error as Failure};

/// What `taskq-server` can do instead of serving.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Ask a running coordinator whether it serves
    Health(health::Args),
    /// Write all jobs, results, output and large values into one file, while the coordinator runs or not
    Backup(backup::Args),
    /// Make a data directory out of a backup
    Restore(restore::Args),
    /// Check every byte of a backup or a data directory, and save what is whole
    Doctor(doctor::Args),
}

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of `health`.
    #[error(transparent)]
    Health(#[from] health::Error),
    /// Of `backup`.
    #[error(transparent)]
    Backup(#[from] backup::Error),
    /// Of `restore`.
    #[error(transparent)]
    Restore(#[from] restore::Error),
    /// Of `doctor`.
    #[error(transparent)]
    Doctor(#[from] doctor::Error),
}

impl Command {
    /// Does it, and prints what it found.
    ///
    /// # Errors
    /// What could not be done, and what to do about it.
    pub async fn run(&self) -> Result<(), Error> {
        match self {
            Command::Health(args) => Ok(health::health(args).await?),
            Command::Backup(args) => Ok(backup::backup(args).await?),
            // Nothing else waits meanwhile.
            Command::Restore(args) => Ok(restore::restore(args)?),
            Command::Doctor(args) => Ok(doctor::doctor(args)?),
        }
    }
}

impl Error {
    /// The documented exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Error::Health(error) => error.code(),
            Error::Backup(error) => error.code(),
            Error::Restore(error) => error.code(),
            Error::Doctor(error) => error.code(),
        }
    }
}

/// The exit code for what befalls a backup.
fn code(error: &Failure) -> u8 {
    match error {
        Failure::Store(store::Error::Locked { .. }) => 75,
        Failure::Store(store::Error::Full { .. } | store::Error::Io { .. })
        | Failure::Write(_)
        | Failure::Read { .. } => 74,
        Failure::NotEmpty { .. } => 73,
        Failure::Store(
            store::Error::Corrupt { .. }
            | store::Error::Loss { .. }
            | store::Error::Newer { .. }
            | store::Error::Unfinished { .. }
            | store::Error::NoDirectory { .. },
        )
        | Failure::Volatile
        | Failure::NotOne { .. }
        | Failure::Newer { .. }
        | Failure::Damaged { .. }
        | Failure::Differs { .. }
        | Failure::NoStore { .. }
        | Failure::Access(_) => 78,
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// `3 s`, `5 min`, `7 h`, `12 days`.
fn span(ms: u64) -> String {
    match ms / 1_000 {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s @ 7_200..172_800 => format!("{} h", s / 3_600),
        s => format!("{} days", s / 86_400),
    }
}

/// `812 KiB`, `3.4 MiB`.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes.div_ceil(1_024)),
        // Tenths, without a float.
        bytes => format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20),
    }
}
