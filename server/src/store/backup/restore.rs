//! A backup into a new store, in a directory that has none. Until all of it is there, and was read back, a file `restoring`
//! says that it is not to be served.
//!
//! What happened after the backup was taken is not in it, but workers and clients know of it. So nothing that was given out
//! since may be given out again: numbers of jobs and of starts go on far above, and so do the attempts of tasks that may
//! be running somewhere (`WorkerId::AFTER_BACKUP`). `docs/decisions/013-what-a-restore-keeps.md` says why.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use taskq_core::id::{JobId, WallTime, WorkerId};

use super::{
    Error, Source,
    check::{Report, check},
    source::Piece,
};
use crate::{
    access::{self, Token},
    store::{
        Store as _,
        codec::record::{Body, Record, WorkerSeen},
        dirs,
        lock::DirLock,
        log::{LogStore, Options, create_durably},
        trouble::failed,
    },
};

/// The file that says that a restore is under way.
const MARK: &str = "restoring";
/// Facts that are made durable at a time, in bytes: enough that the syncs cost little.
const BATCH_BYTES: usize = 4 << 20;
/// So many job numbers are left out, as after a loss: what was told is not given to another job.
const JOBS: u64 = 1_000_000;
/// And so many starts, besides one for each millisecond since the backup.
const STARTS: u64 = 1_000_000;
/// What a store, or a restore that was cut off, leaves in its directory.
const OURS: [&str; 9] = [
    "sled",
    "blobs-sha256",
    "acked",
    "acked.new",
    "acked.none",
    "ballast",
    access::FILE,
    "access.toml.new",
    "lock",
];

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// Of the backup.
    pub report: Report,
    /// Whether clients and workers come in with the token that they have.
    pub same_token: bool,
    /// Jobs that will be submitted have numbers above this one.
    pub highest: JobId,
}

/// True for a directory that a restore has begun to fill, and not finished.
pub(in crate::store) fn unfinished(dir: &Path) -> io::Result<bool> {
    dir.join(MARK).try_exists()
}

/// Fills the directory. The token is the one of the backup, unless a new one is wanted.
///
/// # Errors
/// If the backup is damaged, the directory is not empty, or the disk refuses. Nothing is there then that would be served.
pub fn restore(file: &Path, dir: &Path, new_token: bool, now: WallTime) -> Result<Restored, Error> {
    let source = Source::File(file.to_owned());
    let report = check(&source)?;
    if let Some((first, others)) = report.first() {
        return Err(Error::Damaged { first: Box::new(first), others });
    }
    begin(dir)?;
    let highest = JobId(report.highest + JOBS);
    let store = LogStore::open(&Options { restoring: true, ..Options::new(dir) })?;
    fill(&store, &source)?;
    let since = now.0.saturating_sub(report.about.wall.0);
    let epoch = report.epoch.saturating_add(STARTS).saturating_add(since);
    let others = WorkerSeen { worker: WorkerId::AFTER_BACKUP.0, name: AFTERWARDS.to_owned() };
    let last = [Body::Epoch(epoch), Body::WorkerSeen(others)];
    store.adopt(last.into_iter().map(|body| Record { body: Some(body) }).collect(), highest)?;
    drop(store);
    verify(dir, &report)?;
    let kept = report.about.token.clone().filter(|_| !new_token);
    let same_token = kept.is_some();
    access::found(dir, kept.unwrap_or_else(Token::random))?;
    fs::remove_file(dir.join(MARK)).map_err(|cause| failed("remove", &dir.join(MARK), cause))?;
    dirs::sync(dir)?;
    Ok(Restored { report, same_token, highest })
}

/// How the workers are named of which the backup knows nothing; no worker is named like that.
const AFTERWARDS: &str = "(after the backup)";

/// Makes the directory and marks it. What a former restore has left there that was cut off is removed.
fn begin(dir: &Path) -> Result<(), Error> {
    let io = |act, path: &Path| {
        let path = path.to_owned();
        move |cause| Error::from(failed(act, &path, cause))
    };
    create_durably(dir).map_err(io("create", dir))?;
    let mark = dir.join(MARK);
    if unfinished(dir).map_err(io("read", &mark))? {
        let _lock = DirLock::take(dir)?;
        for path in entries(dir)? {
            let is_ours = OURS.iter().any(|name| path.ends_with(name));
            match path.is_dir() {
                _ if path.ends_with("lock") => Ok(()),
                true if is_ours => fs::remove_dir_all(&path),
                false if is_ours => fs::remove_file(&path),
                true | false => Ok(()),
            }
            .map_err(io("remove", &path))?;
        }
    } else if !entries(dir)?.is_empty() {
        return Err(Error::NotEmpty { dir: dir.to_owned() });
    }
    File::create(&mark).and_then(|file| file.sync_all()).map_err(io("write", &mark))?;
    Ok(dirs::sync(dir)?)
}

/// What is in a directory, but for what a new file system has in it.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let io = |cause| Error::from(failed("read", dir, cause));
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        paths.push(entry.map_err(io)?.path());
    }
    paths.retain(|path| !path.ends_with("lost+found"));
    Ok(paths)
}

fn fill(store: &LogStore, source: &Source) -> Result<(), Error> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    source.walk(&mut |piece| {
        match piece {
            Piece::Record(record) => {
                bytes += prost::Message::encoded_len(&record);
                batch.push(record);
                if bytes >= BATCH_BYTES {
                    bytes = 0;
                    store.adopt(std::mem::take(&mut batch), JobId(0))?;
                }
            }
            Piece::Blob(digest, data) => store.put_blob(digest, &data)?,
            // It was whole a moment ago.
            Piece::Damage(damage) => return Err(Error::Damaged { first: Box::new(damage), others: 0 }),
            Piece::About { .. } | Piece::Closing(_) | Piece::Highest(_) => {}
        }
        Ok(())
    })?;
    Ok(store.adopt(batch, JobId(0))?)
}

/// Reads the store as a start would, and compares.
fn verify(dir: &Path, report: &Report) -> Result<(), Error> {
    let store = LogStore::open(&Options { restoring: true, ..Options::new(dir) })?;
    let differs = |what: String| Err(Error::Differs { dir: dir.to_owned(), what });
    let jobs = store.indexed_jobs() as u64;
    if jobs != report.jobs {
        return differs(format!("{jobs} jobs are there, and {} were written", report.jobs));
    }
    for digest in store.outcome_blobs() {
        if store.blob(&digest)?.is_none() && !report.about.salvaged {
            return differs("a value is missing that an outcome needs".to_owned());
        }
    }
    Ok(())
}
