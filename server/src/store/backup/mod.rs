//! A store as one file: facts and blobs, whatever engine they came from. `docs/BACKUP_FORMAT.md` says what is where.
//!
//! Reading order: `frame` (what the file is made of), `write`, `scan` (frames, damaged or not), `source` (facts and blobs of
//! a file, or of a `directory` that may be damaged), `audit` (do the facts fit together?), `check` (all of that), then what
//! fills and empties it: `copy` (a store into a file), `restore` (a file into a store), `salvage` (what is whole of
//! something damaged into a new file).

mod audit;
mod check;
mod copy;
mod directory;
mod frame;
mod restore;
mod salvage;
mod scan;
mod source;
mod write;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use taskq_core::id::{JobId, WallTime};

use crate::access::Token;

pub use check::{Report, check};
pub use restore::{Restored, restore};
pub use salvage::salvage;
pub use source::Source;

pub(super) use copy::copy;
pub(super) use restore::unfinished;

/// The format that this version writes, and the highest that it reads.
pub const VERSION: u32 = 1;

/// What a backup says of where it is from.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// When it was begun.
    pub wall: WallTime,
    /// By which version.
    pub version: String,
    /// What lets clients and workers in; `None` if that was not known.
    pub token: Option<Token>,
    /// It is what was left of something damaged: values that are missing are known to be lost.
    pub salvaged: bool,
}

/// What is in a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the file.
    pub bytes: u64,
    /// Of all of them.
    pub sha256: [u8; 32],
    /// Jobs, live and ended.
    pub jobs: u64,
    /// Records of facts.
    pub records: u64,
    /// Large payloads.
    pub blobs: u64,
}

/// A place in a backup or a store that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in it, from and to; `None` where that has no meaning.
    pub bytes: Option<(u64, u64)>,
    /// What is wrong.
    pub what: String,
    /// Whose facts were there: first and last job of each stretch.
    pub jobs: Vec<(JobId, JobId)>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((from, to)) = self.bytes {
            write!(f, ", bytes {from} to {to}")?;
        }
        write!(f, ": {}", self.what)?;
        if !self.jobs.is_empty() {
            write!(f, " (of {})", jobs(&self.jobs))?;
        }
        Ok(())
    }
}

/// `job 7`, `jobs 7, 9-12`.
fn jobs(runs: &[(JobId, JobId)]) -> String {
    let many = runs.len() > 1 || runs.iter().any(|(first, last)| first != last);
    let run = |(first, last): &(JobId, JobId)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    format!("job{} {}", if many { "s" } else { "" }, runs.iter().map(run).collect::<Vec<_>>().join(", "))
}

/// Why a backup cannot be made, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] super::Error),
    /// Jobs are in memory only.
    #[error("this coordinator keeps jobs in memory only (--ephemeral): there is nothing on disk to back up")]
    Volatile,
    /// What takes the backup does not take it.
    #[error("cannot write the backup")]
    Write(#[source] io::Error),
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// It is something else.
    #[error("{path} is not a backup of taskq")]
    NotOne {
        /// Which.
        path: PathBuf,
    },
    /// Written by a later version.
    #[error("{path} has format {found}, this version reads up to {VERSION}; use the newer taskq-server")]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Something of it is lost.
    #[error(
        "the backup is damaged: {first}{}; nothing was restored. Take another backup, or see what is lost and save the \
         rest: taskq-server doctor {} --salvage OUT",
        more(*.others), .first.file.display()
    )]
    Damaged {
        /// The first place.
        first: Box<Damage>,
        /// How many more there are.
        others: usize,
    },
    /// The directory is in use, or was.
    #[error(
        "{dir} is not empty: a backup is restored into an empty or missing directory; name another --data, or move that \
         one away"
    )]
    NotEmpty {
        /// Which.
        dir: PathBuf,
    },
    /// What was written differs from what was read.
    #[error("{dir} does not hold what the backup says ({what}); do not use it, and restore again")]
    Differs {
        /// Which.
        dir: PathBuf,
        /// In what.
        what: String,
    },
    /// There is no store in the directory.
    #[error("{dir} holds no store of taskq (there is no {}/sled)", dir.display())]
    NoStore {
        /// Which.
        dir: PathBuf,
    },
    /// The new directory cannot be furnished.
    #[error(transparent)]
    Access(#[from] crate::access::Error),
}

fn more(others: usize) -> String {
    match others {
        0 => String::new(),
        others => format!(", and {others} more"),
    }
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |cause| Error::Read { path: path.clone(), cause }
}
