//! Where writes become durable, and where what is durable is read back.
//!
//! [`Store`] is synchronous. `commit` is called from one thread only (`coordinator/commit.rs`); reads come from any
//! thread and see what has been committed, nothing else. Which facts exist and how they supersede each other is
//! said at [`taskq_core::effect::Write`].
//!
//! The durable store, outermost first: `log` (the store), `writer` and `reader`, `clean` (housekeeping), `recover`
//! (opening), `index` (where everything is), `part` and `entries` (a commit in pieces), `codec` (facts as bytes), `guard`,
//! `witness`, `space` and `lock` (the directory), `sled` (the engine). `backup` is all of it as one file, and back.

pub mod backup;
mod blobs;
mod clean;
mod codec;
mod dirs;
mod entries;
mod guard;
mod index;
mod lock;
mod log;
mod memory;
mod part;
mod quiet;
mod reader;
mod recover;
mod retention;
mod sled;
mod space;
mod trouble;
mod walk;
mod witness;
mod writer;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use roaring::RoaringBitmap;
use taskq_core::{
    effect::Write,
    event::Stream,
    id::{Attempt, JobId, Millis, Rank, TaskId, WallTime},
    job::{Counts, End},
};

pub use clean::Tuning;
pub use guard::Fault;
pub use log::{LogStore, Options, check_directories};
pub use memory::MemoryStore;
pub use space::{GROWTH, SUBMIT_ROOM};

/// Room for what is submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room<'a> {
    /// There is always enough.
    Ample,
    /// This many bytes are free.
    Free {
        /// On the disk of this directory.
        dir: &'a Path,
        /// How many.
        bytes: u64,
    },
    /// The store has met an error that ends it.
    Over,
}

/// A place to keep jobs. Implemented by `sled` (durable) and `memory` (`--ephemeral`, tests).
pub trait Store: Send + Sync + fmt::Debug {
    /// Feeds the facts from which the core restores itself, in no particular order between subjects: the latest
    /// `Epoch`, `Queue`s and `WorkerSeen`s that have not gone; for every live job `Submitted` (with an empty `spec`), its latest
    /// `Job`, the latest `Attempt` of each live task and every `Ended` (details empty); for ended jobs that have an idempotency
    /// key or a repeat id, `Submitted` (empty `spec`) and `JobEnded`; and the highest job id ever used, as the return value.
    fn load(&self, visit: &mut dyn FnMut(Write)) -> Result<JobId, Error>;

    /// Makes these durable, all or none, before it returns. After an error nothing more may be committed.
    fn commit(&self, writes: &[Write]) -> Result<(), Error>;

    /// Room for what is submitted. Asked before a submission enters the core; a batch with a `Submitted` that comes all
    /// the same while there is less than [`SUBMIT_ROOM`] is refused whole with [`Error::Full`], nothing being written.
    fn room(&self) -> Room<'_> {
        Room::Ample
    }

    /// The encoded specification of a live or ended job. `Err(Gone)` / `Err(Unknown)` otherwise.
    fn submitted(&self, job: JobId) -> Result<SubmittedRecord, Lookup>;

    /// The end of an ended job; `None` while it is live.
    fn job_ended(&self, job: JobId) -> Result<Option<EndedJob>, Lookup>;

    /// Whether the job is there and has not ended. Never reads the disk.
    fn is_live(&self, job: JobId) -> bool;

    /// Ids of ended jobs below `before` (or all), descending, at most `limit`.
    fn ended_jobs(&self, before: Option<JobId>, limit: usize) -> Vec<JobId>;

    /// Ends of tasks of a live or ended job from this rank on, in rank order, at most `limit` tasks or about 1 MiB.
    /// Ranks have no gap, so the next rank to ask for is `rank` + number of tasks returned.
    fn ends(&self, job: JobId, from: Rank, limit: usize) -> Result<Vec<EndedTask>, Lookup>;

    /// Ends of these tasks (those of them that have ended), in index order, at most `limit`.
    fn ends_of(&self, job: JobId, indices: &RoaringBitmap, limit: usize) -> Result<Vec<EndedTask>, Lookup>;

    /// A task's earlier attempts that have an outcome, in order; of very many the newest.
    fn attempts(&self, task: TaskId) -> Result<Vec<EarlierAttempt>, Lookup>;

    /// Output of a job's tasks, or of these of them, in commit order from `cursor` (0 = the first kept), at most about
    /// 1 MiB, and the cursor to go on from. That one is beyond pieces of other tasks, also where none was found; nothing
    /// more is there if it is `cursor` itself. Cursors stay valid while the job is kept, also across restarts.
    fn output(
        &self,
        job: JobId,
        tasks: Option<&RoaringBitmap>,
        cursor: u64,
    ) -> Result<(Vec<OutputPiece>, u64), Lookup>;

    /// Stores bytes under their SHA-256, durably. Writing what is there already is cheap and refreshes its age.
    fn put_blob(&self, sha256: [u8; 32], bytes: &[u8]) -> Result<(), Error>;

    /// The bytes, checked against their digest; `None` if unknown.
    fn blob(&self, sha256: &[u8; 32]) -> Result<Option<Bytes>, Error>;

    /// Whether a blob is here; it is not read.
    fn has_blob(&self, sha256: &[u8; 32]) -> bool;

    /// The blobs that outcomes of kept jobs refer to.
    fn outcome_blobs(&self) -> Vec<[u8; 32]>;

    /// Removes blobs that are older than an hour and not in `used` (called rarely).
    fn sweep_blobs(&self, used: &dyn Fn(&[u8; 32]) -> bool) -> Result<u64, Error>;

    /// Ended jobs that retention says to forget now, oldest end first, at most `limit`. A job with an idempotency
    /// key stays 24 h longer than one without.
    fn expired(&self, now: WallTime, keep: &Retention, limit: usize) -> Vec<JobId>;

    /// Writes all that is acknowledged by now, and maybe more, as a backup. Nobody waits for it meanwhile.
    fn backup(
        &self,
        _about: &backup::About,
        _out: &mut dyn io::Write,
    ) -> Result<backup::Summary, backup::Error> {
        Err(backup::Error::Volatile)
    }

    /// Figures for `Stats`.
    fn usage(&self) -> Usage;
}

/// How long ended jobs are kept where they do not say so themselves.
#[derive(Clone, Debug)]
pub struct Retention {
    /// By age.
    pub age: Millis,
    /// By number: the oldest ends beyond it go.
    pub jobs: usize,
}

/// What was stored at submission.
#[derive(Clone, Debug)]
pub struct SubmittedRecord {
    /// The encoded `pb::JobSpec`.
    pub spec: Bytes,
    /// When.
    pub wall: WallTime,
    /// Elements.
    pub total: u32,
    /// If set, only these are tasks.
    pub only: Option<RoaringBitmap>,
    /// The job that it runs again.
    pub rerun_of: Option<JobId>,
}

/// An ended job.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedJob {
    /// How its tasks ended.
    pub counts: Counts,
    /// When its first task started.
    pub started: Option<WallTime>,
    /// When it ended.
    pub wall: WallTime,
}

/// One ended task.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedTask {
    /// Its index.
    pub index: u32,
    /// Its place in the order of ends.
    pub rank: Rank,
    /// How it ended.
    pub end: End,
    /// Its last attempt; 0 = none.
    pub attempt: Attempt,
    /// The encoded `pb::Outcome`; empty if it never ran.
    pub detail: Bytes,
    /// Who ran it last; empty if nobody.
    pub worker: String,
    /// When.
    pub wall: WallTime,
}

/// An attempt that ended without ending its task.
#[derive(Clone, Debug, PartialEq)]
pub struct EarlierAttempt {
    /// Its number.
    pub attempt: Attempt,
    /// The encoded `pb::Outcome`.
    pub detail: Bytes,
    /// Who ran it.
    pub worker: String,
}

/// A piece of captured output.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputPiece {
    /// Whose.
    pub index: u32,
    /// Of which attempt.
    pub attempt: Attempt,
    /// Which stream.
    pub stream: Stream,
    /// Where in it.
    pub offset: u64,
    /// What.
    pub data: Bytes,
    /// Who ran it.
    pub worker: String,
    /// Go on after this piece.
    pub cursor: u64,
}

/// What the store takes.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// "sled" or "memory".
    pub engine: &'static str,
    /// Whether an acknowledged write survives a power cut.
    pub synced: bool,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Ended jobs that are kept.
    pub kept_jobs: u64,
}

/// Why the store cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another server has the directory.
    #[error("data directory {dir} is in use by process {pid}; stop that server or choose another --data")]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Its owner, 0 if unknown.
        pid: u32,
    },
    /// No room. Nothing of the batch was kept, and a later commit may succeed.
    #[error("the disk is full: no room left in {dir}; free some")]
    Full {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The disk refused. Nothing more may be acknowledged.
    #[error("cannot {act} {path}")]
    Io {
        /// "open", "sync", ...
        act: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A file is where a directory must be.
    #[error(
        "{path} is not a directory, but the data directory must be one; name another --data, or move the file away"
    )]
    NoDirectory {
        /// What is in the way.
        path: PathBuf,
    },
    /// A record fails its checksum, or the engine cannot open its files.
    #[error(
        "the store in {dir} is corrupt: {what}; restore a backup into another directory (taskq-server restore FILE --data \
         DIR), or see what is lost and save the rest (taskq-server doctor {dir} --salvage OUT)"
    )]
    Corrupt {
        /// The directory.
        dir: PathBuf,
        /// What, and where.
        what: String,
    },
    /// Commits that were acknowledged are not there, or may not be.
    #[error(
        "the store in {dir} may have lost what was acknowledged: {what}; restore a backup into another \
         directory (taskq-server restore FILE --data DIR), see what is lost (taskq-server doctor {dir}), or serve what is \
         left with one start of `taskq-server --data {dir} --accept-loss`"
    )]
    Loss {
        /// The directory.
        dir: PathBuf,
        /// What, and how that is known.
        what: String,
    },
    /// A restore was cut off.
    #[error(
        "a restore into {dir} was cut off, and what is there is not whole; run `taskq-server restore FILE --data {dir}` \
         again, or remove the directory"
    )]
    Unfinished {
        /// The directory.
        dir: PathBuf,
    },
    /// Written by a later version.
    #[error(
        "the store in {dir} has format {found}, this version reads up to {known}; use the newer taskq-server"
    )]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
}

/// Why a job cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Lookup {
    /// There was never such a job.
    #[error("there is no job {0}")]
    Unknown(JobId),
    /// It ended and was removed.
    #[error("job {0} has ended and was removed (EXPIRED)")]
    Gone(JobId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}
