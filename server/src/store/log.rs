//! The durable store: a log of commits in an engine, with an index in memory.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, RwLock},
};

use bytes::Bytes;
use roaring::RoaringBitmap;
use taskq_core::{
    effect::Write,
    id::{JobId, Rank, TaskId, WallTime},
};

use super::{
    EarlierAttempt, EndedJob, EndedTask, Error, Lookup, OutputPiece, Retention, Room, Store, SubmittedRecord,
    Usage,
    backup::{self, About, Summary},
    blobs::Blobs,
    clean::Tuning,
    codec::{
        self, Policies,
        record::{Body, Record},
    },
    dirs,
    entries::Loc,
    guard::{Fault, Guard},
    index::{Index, Stage},
    lock::DirLock,
    recover::{self, Extent},
    sled::Engine,
    space,
    trouble::{self, Place},
    walk,
    witness::Found,
    writer::Writer,
};

/// How to open a [`LogStore`].
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory; made if it is missing.
    pub dir: PathBuf,
    /// Serve a log also where its end is lost, or may be.
    pub accept_loss: bool,
    /// Sync each commit. Without, a power cut loses acknowledged jobs: only for a test that must see that.
    pub guard: bool,
    /// Open also what a restore is filling.
    #[doc(hidden)]
    pub restoring: bool,
    /// Failures on demand, for tests.
    #[doc(hidden)]
    pub fault: Fault,
    /// When housekeeping begins, for tests.
    #[doc(hidden)]
    pub tuning: Tuning,
}

impl Options {
    /// With the guard.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options {
            dir: dir.into(),
            accept_loss: false,
            guard: true,
            restoring: false,
            fault: Fault::default(),
            tuning: Tuning::default(),
        }
    }
}

/// The store that survives. In its directory: `lock`, `sled/` (the log), `acked` (the last acknowledged commit;
/// `acked.none` before there was any), `ballast`, `blobs-sha256/`.
#[derive(Debug)]
pub struct LogStore {
    writer: Mutex<Writer>,
    pub(super) shared: Shared,
    pub(super) blobs: Blobs,
    synced: bool,
    /// Dropped last: the directory is free when all else is closed.
    _lock: DirLock,
}

/// What readers and the writer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) index: RwLock<Index>,
    pub(super) place: Place,
    /// Why nothing may be acknowledged any more.
    pub(super) poisoned: OnceLock<String>,
}

/// Whether `dir` and the engine's directory in it are directories, where they are anything yet. Before all else: an
/// error about a file inside would name the wrong path.
///
/// # Errors
/// [`Error::NoDirectory`] with the path that is none.
pub fn check_directories(dir: &Path) -> Result<(), Error> {
    for path in [dir.to_owned(), dir.join("sled")] {
        if path.metadata().is_ok_and(|found| !found.is_dir()) {
            return Err(Error::NoDirectory { path });
        }
    }
    Ok(())
}

impl LogStore {
    /// Opens or creates the store and reads it through once. Fails if another process has it, if a later version wrote
    /// it, or if anything that was acknowledged is damaged or, unless `accept_loss` says so, missing.
    pub fn open(options: &Options) -> Result<LogStore, Error> {
        check_directories(&options.dir)?;
        let place = Place(options.dir.clone());
        create_durably(&options.dir).map_err(|c| place.io("create", c))?;
        let lock = DirLock::take(&options.dir)?;
        if !options.restoring && backup::unfinished(&options.dir).map_err(|c| place.io("read", c))? {
            return Err(Error::Unfinished { dir: options.dir.clone() });
        }
        let files = options.dir.join("sled");
        let found = Found::look(&place, &files)?;
        dirs::create(&files).map_err(|c| place.io("create", c))?;
        let engine = Engine::open(&files).map_err(|f| place.engine("open", f))?;
        no_engine_blobs(&files, &place)?;
        let extent = recover::tidy(&engine, &place, found, options.accept_loss)?;
        let mut index = Index { highest: JobId(extent.highest), ..Index::default() };
        let extent = walk::walk(&engine, &place, extent, &mut |body, loc| {
            index.apply(&body, loc, Stage::Scan).map_err(|e| place.entry(loc.seq, &e))
        })?;
        index.drop_strays();
        engine.flush().map_err(|f| place.engine("write", f))?;
        let guard = Guard::new(&files, options.guard, options.fault)?;
        let witness = found.settle(&place, extent.next - 1)?;
        let blobs = Blobs::open(&options.dir)?;
        let writer = Writer::new(options, guard, witness, extent);
        let shared = Shared { engine, index: RwLock::new(index), place, poisoned: OnceLock::new() };
        Ok(LogStore { writer: Mutex::new(writer), shared, blobs, synced: options.guard, _lock: lock })
    }

    /// Takes over records of a backup, durably. `highest` is the highest job id ever used, 0 if that is not known yet.
    pub(super) fn adopt(&self, records: Vec<Record>, highest: JobId) -> Result<(), Error> {
        trouble::lock(&self.writer).adopt(&self.shared, records, highest)
    }

    pub(super) fn extent(&self) -> Extent {
        trouble::lock(&self.writer).extent()
    }
}

impl Store for LogStore {
    fn load(&self, visit: &mut dyn FnMut(Write)) -> Result<JobId, Error> {
        let extent = self.extent();
        let index = trouble::read(&self.shared.index);
        visit_small(&index, visit);
        let mut loader = Loader {
            index: &index,
            policies: Policies::default(),
            attempts: HashMap::new(),
            ended: HashMap::new(),
        };
        let place = &self.shared.place;
        walk::walk(&self.shared.engine, place, extent, &mut |body, loc| {
            loader.load(body, loc, visit).map_err(|e| place.entry(loc.seq, &e))
        })?;
        loader.finish(visit);
        Ok(index.highest)
    }

    fn commit(&self, writes: &[Write]) -> Result<(), Error> {
        trouble::lock(&self.writer).commit(&self.shared, writes)
    }

    fn room(&self) -> Room<'_> {
        let dir = self.shared.place.path();
        match self.shared.poisoned.get() {
            Some(_) => Room::Over,
            None => Room::Free { dir, bytes: space::free(dir) },
        }
    }

    fn submitted(&self, job: JobId) -> Result<SubmittedRecord, Lookup> {
        self.shared.submitted(job)
    }

    fn job_ended(&self, job: JobId) -> Result<Option<EndedJob>, Lookup> {
        self.shared.job_ended(job)
    }

    fn is_live(&self, job: JobId) -> bool {
        trouble::read(&self.shared.index).jobs.get(job).is_some_and(|job| job.end().is_none())
    }

    fn ended_jobs(&self, before: Option<JobId>, limit: usize) -> Vec<JobId> {
        let index = trouble::read(&self.shared.index);
        index.ended.range(..before.unwrap_or(JobId(u64::MAX))).rev().take(limit).copied().collect()
    }

    fn ends(&self, job: JobId, from: Rank, limit: usize) -> Result<Vec<EndedTask>, Lookup> {
        self.shared.ends(job, from, limit)
    }

    fn ends_of(&self, job: JobId, indices: &RoaringBitmap, limit: usize) -> Result<Vec<EndedTask>, Lookup> {
        self.shared.ends_of(job, indices, limit)
    }

    fn attempts(&self, task: TaskId) -> Result<Vec<EarlierAttempt>, Lookup> {
        self.shared.attempts(task)
    }

    fn output(
        &self,
        job: JobId,
        tasks: Option<&RoaringBitmap>,
        cursor: u64,
    ) -> Result<(Vec<OutputPiece>, u64), Lookup> {
        self.shared.output(job, tasks, cursor)
    }

    fn put_blob(&self, sha256: [u8; 32], bytes: &[u8]) -> Result<(), Error> {
        self.blobs.put(sha256, bytes)
    }

    fn blob(&self, sha256: &[u8; 32]) -> Result<Option<Bytes>, Error> {
        self.blobs.get(sha256)
    }

    fn has_blob(&self, sha256: &[u8; 32]) -> bool {
        self.blobs.has(sha256)
    }

    fn outcome_blobs(&self) -> Vec<[u8; 32]> {
        trouble::read(&self.shared.index).blobs.iter().map(|(_, blob)| *blob).collect()
    }

    fn sweep_blobs(&self, used: &dyn Fn(&[u8; 32]) -> bool) -> Result<u64, Error> {
        self.blobs.sweep(used)
    }

    fn expired(&self, now: WallTime, keep: &Retention, limit: usize) -> Vec<JobId> {
        trouble::read(&self.shared.index).expiry.expired(now, keep, limit)
    }

    fn backup(&self, about: &About, out: &mut dyn io::Write) -> Result<Summary, backup::Error> {
        backup::copy(self, about, out)
    }

    fn usage(&self) -> Usage {
        let kept_jobs = trouble::read(&self.shared.index).ended.len() as u64;
        let dir = self.shared.place.path();
        let disk_bytes = bytes_in(dir) + bytes_in(&dir.join("sled")) + self.blobs.bytes();
        Usage { engine: "sled", synced: self.synced, disk_bytes, kept_jobs }
    }
}

/// Facts that the index holds itself.
fn visit_small(index: &Index, visit: &mut dyn FnMut(Write)) {
    if let Some((epoch, _)) = index.epoch {
        visit(Write::Epoch(epoch));
    }
    for (name, (revision, paused, _)) in &index.queues {
        visit(Write::Queue { name: name.clone(), revision: *revision, paused: *paused });
    }
    for (worker, (name, _)) in &index.workers {
        visit(Write::WorkerSeen { worker: *worker, name: name.clone() });
    }
}

/// Picks what the core wants to know out of a walk over the log.
struct Loader<'a> {
    index: &'a Index,
    policies: Policies,
    /// Last attempts of tasks that may have ended.
    attempts: HashMap<TaskId, Write>,
    /// What has ended of jobs that have such attempts.
    ended: HashMap<JobId, RoaringBitmap>,
}

impl Loader<'_> {
    fn load(&mut self, mut body: Body, loc: Loc, visit: &mut dyn FnMut(Write)) -> Result<(), codec::Error> {
        if !self.index.wants(&body, loc) || !self.concerns_core(&body, loc) {
            return Ok(());
        }
        match &mut body {
            Body::Submitted(submitted) => submitted.spec.clear(),
            Body::Ends(ends) => ends.items.iter_mut().for_each(|item| item.detail.clear()),
            Body::Attempt(attempt) => attempt.detail.clear(),
            _ => {}
        }
        for stored in codec::writes(body, &mut self.policies)? {
            match stored.write {
                Write::Attempt { task, .. } => {
                    self.attempts.insert(task, stored.write);
                }
                Write::Ended { job, ref indices, .. } => {
                    *self.ended.entry(job).or_default() |= indices;
                    visit(stored.write);
                }
                other => visit(other),
            }
        }
        Ok(())
    }

    fn concerns_core(&self, body: &Body, loc: Loc) -> bool {
        let job = |id: u64| self.index.jobs.get(JobId(id));
        let live = |id: u64| job(id).is_some_and(|j| j.end().is_none());
        match body {
            Body::Submitted(s) => live(s.id) || job(s.id).is_some_and(|j| j.remembered()),
            Body::JobEnded(e) => job(e.job).is_some_and(|j| j.remembered()),
            Body::Ends(e) => live(e.job),
            Body::Job(s) => live(s.job),
            Body::Attempt(a) => {
                live(a.job) && job(a.job).is_some_and(|j| j.is_last_attempt(a.index, a.attempt, loc))
            }
            Body::Output(_) | Body::JobGone(_) | Body::WorkerGone(_) => false,
            // The index holds these.
            Body::Epoch(_) | Body::Queue(_) | Body::WorkerSeen(_) => false,
        }
    }

    fn finish(self, visit: &mut dyn FnMut(Write)) {
        for (task, attempt) in self.attempts {
            if !self.ended.get(&task.job).is_some_and(|set| set.contains(task.index)) {
                visit(attempt);
            }
        }
    }
}

/// Makes a directory that is still there after a power cut.
pub(super) fn create_durably(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        dir.ancestors().take_while(|a| !a.as_os_str().is_empty() && !a.exists()).collect();
    dirs::create(dir)?;
    for made in missing {
        let parent = made.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// The engine puts values that it finds large into files that nobody syncs; ours are never that large.
fn no_engine_blobs(files: &Path, place: &Place) -> Result<(), Error> {
    let blobs = files.join("blobs");
    let mut found = match fs::read_dir(&blobs) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(place.io("read", error)),
    };
    match found.next() {
        None => Ok(()),
        Some(_) => Err(place.corrupt("the engine has written files of its own into sled/blobs")),
    }
}

/// Bytes of the files right in a directory; what vanishes meanwhile does not count.
fn bytes_in(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let files = entries.filter_map(|e| e.metadata().ok()).filter(fs::Metadata::is_file);
    files.map(|m| m.blocks() * 512).sum()
}

/// For benchmarks and soak tests.
#[doc(hidden)]
impl LogStore {
    /// Commits kept, engine records, bytes in them, bytes of them still wanted.
    #[must_use]
    pub fn shape(&self) -> [u64; 4] {
        let extent = self.extent();
        let live = trouble::read(&self.shared.index).live_bytes;
        [extent.next - extent.floor, extent.parts, extent.bytes, live]
    }

    /// Jobs in the index.
    #[must_use]
    pub fn indexed_jobs(&self) -> usize {
        trouble::read(&self.shared.index).jobs.len()
    }
}
