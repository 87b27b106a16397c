//! What the store's tests share: opening stores, making facts, comparing what two stores say.

#![expect(dead_code, reason = "each test file uses some of it")]

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use roaring::RoaringBitmap;
use taskq_core::{
    effect::{Submitted, Write},
    event::Stream,
    id::{Attempt, Epoch, JobId, Millis, Rank, TaskId, WallTime, WorkerId},
    job::{Counts, End, Key, Policy, Retry, Shape},
};
use taskq_server::store::{LogStore, Lookup, MemoryStore, Options, Retention, Store, Tuning};

/// Housekeeping from the first bytes on.
pub(crate) fn eager(dir: &Path) -> Options {
    let mut options = Options::new(dir);
    options.tuning = Tuning { slack: 20_000, lump: 20_000 };
    options
}

/// A store that can be closed and opened again.
pub(crate) enum Any {
    Memory(Box<MemoryStore>),
    Log(Option<Box<LogStore>>, Options, tempfile::TempDir),
}

impl Any {
    pub(crate) fn both() -> [Any; 2] {
        [Any::Memory(Box::default()), Any::log()]
    }

    pub(crate) fn log() -> Any {
        let dir = tempfile::tempdir().unwrap();
        let options = eager(dir.path());
        Any::Log(Some(Box::new(LogStore::open(&options).unwrap())), options, dir)
    }

    pub(crate) fn reopen(&mut self) {
        if let Any::Log(store, options, _) = self {
            let alive = store.take().map(|s| s.shape()[3]);
            *store = Some(Box::new(LogStore::open(options).unwrap()));
            let counted = store.as_ref().map(|s| s.shape()[3]);
            assert_eq!(alive, counted, "bytes that are wanted, as followed and as counted anew");
        }
    }

    /// Goes on from a copy of the files that was made without closing them, as after a SIGKILL.
    pub(crate) fn crash(&mut self) {
        if let Any::Log(store, options, dir) = self {
            let copy = tempfile::tempdir().unwrap();
            copy_dir(dir.path(), copy.path());
            drop(store.take());
            *options = eager(copy.path());
            *dir = copy;
            *store = Some(Box::new(LogStore::open(options).unwrap()));
        }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        match self {
            Any::Memory(store) => &**store,
            Any::Log(store, ..) => store.as_deref().unwrap(),
        }
    }

    pub(crate) fn commit(&self, writes: &[Write]) {
        self.store().commit(writes).unwrap();
    }
}

pub(crate) fn policy() -> Policy {
    Policy {
        queue: "default".into(),
        priority: -3,
        shape: Shape {
            function: Some("resize".into()),
            slots: 2,
            named: [("gpu".into(), 1)].into(),
            labels: [("os".into(), "linux".into())].into(),
            ..Shape::default()
        },
        retry: Retry {
            max_attempts: 4,
            initial: Millis(1000),
            multiplier_milli: 2000,
            max: Millis(60_000),
            exit_codes: vec![1, -1],
        },
        timeout: Some(Millis(5000)),
        kill_grace: Millis(10_000),
        crash_limit: 3,
        max_parallel: Some(7),
        max_fails: None,
        keep: None,
    }
}

pub(crate) fn job(id: u64, total: u32) -> Submitted {
    Submitted {
        id: JobId(id),
        policy: Arc::new(policy()),
        total,
        only: None,
        key: None,
        repeat: None,
        place: (0, 1),
        rerun_of: None,
        wall: WallTime(1_700_000_000_000 + id),
        spec: Bytes::from(format!("spec of {id}")),
    }
}

pub(crate) fn key(text: &str) -> Option<Key> {
    Some(Key { text: text.into(), digest: [7; 32] })
}

pub(crate) fn submit(id: u64, total: u32) -> Write {
    Write::Submitted(job(id, total))
}

pub(crate) fn attempt(job: u64, index: u32, attempt: u32, detail: &str) -> Write {
    Write::Attempt {
        task: TaskId { job: JobId(job), index },
        attempt: Attempt(attempt),
        failures: attempt,
        losses: 1,
        delay: Millis(100),
        detail: Bytes::copy_from_slice(detail.as_bytes()),
        worker: Some("w1".into()),
    }
}

pub(crate) fn ended(job: u64, index: u32, rank: u64, detail: &str) -> Write {
    Write::Ended {
        job: JobId(job),
        indices: RoaringBitmap::from_iter([index]),
        rank: Rank(rank),
        end: if index % 3 == 1 { End::Failed } else { End::Succeeded },
        attempt: Attempt(1 + index % 2),
        detail: Bytes::copy_from_slice(detail.as_bytes()),
        blob: None,
        worker: (index % 5 != 4).then(|| format!("worker-{}", index % 3).into()),
        wall: WallTime(1_700_000_100_000 + rank * 3 - u64::from(index % 2)),
    }
}

/// An end whose value lies in a blob.
pub(crate) fn ended_with(job: u64, index: u32, rank: u64, sha256: [u8; 32]) -> Write {
    let mut write = ended(job, index, rank, "see the blob");
    if let Write::Ended { blob, .. } = &mut write {
        *blob = Some(Box::new(sha256));
    }
    write
}

pub(crate) fn swept(job: u64, indices: RoaringBitmap, rank: u64) -> Write {
    Write::Ended {
        job: JobId(job),
        indices,
        rank: Rank(rank),
        end: End::Cancelled,
        attempt: Attempt(0),
        detail: Bytes::new(),
        blob: None,
        worker: None,
        wall: WallTime(1_700_000_200_000),
    }
}

pub(crate) fn job_ended(job: u64, wall: u64) -> Write {
    let counts = Counts { succeeded: 1, failed: 2, cancelled: 3, skipped: 4, ..Counts::default() };
    Write::JobEnded { job: JobId(job), counts, started: Some(WallTime(wall - 1)), wall: WallTime(wall) }
}

pub(crate) fn output(job: u64, index: u32, offset: u64, data: impl Into<Bytes>) -> Write {
    Write::Output {
        task: TaskId { job: JobId(job), index },
        attempt: Attempt(1),
        stream: if offset.is_multiple_of(2) { Stream::Stdout } else { Stream::Stderr },
        offset,
        data: data.into(),
        worker: "w1".into(),
    }
}

pub(crate) fn switches(job: u64, revision: u64, paused: bool) -> Write {
    let cancelling = if paused { RoaringBitmap::from_iter([1, 2, 900]) } else { RoaringBitmap::new() };
    Write::Job { job: JobId(job), revision, paused, cancelling }
}

pub(crate) fn queue(name: &str, revision: u64, paused: bool) -> Write {
    Write::Queue { name: name.into(), revision, paused }
}

pub(crate) fn seen(worker: u64) -> Write {
    Write::WorkerSeen { worker: WorkerId(worker), name: format!("w{worker}").into() }
}

pub(crate) fn epoch(n: u64) -> Write {
    Write::Epoch(Epoch(n))
}

pub(crate) fn keep(jobs: usize) -> Retention {
    Retention { age: Millis(1_000_000), jobs }
}

/// What `load` gives, one line a fact, sorted.
pub(crate) fn loaded(store: &dyn Store) -> (JobId, Vec<String>) {
    let mut facts = Vec::new();
    let highest = store.load(&mut |write| facts.push(format!("{write:?}"))).unwrap();
    facts.sort();
    (highest, facts)
}

/// Everything that a store says of a job, as text.
pub(crate) fn told(store: &dyn Store, id: u64, total: u32) -> String {
    let id = JobId(id);
    let line = |what: &str, value: String| format!("{what}: {value}\n");
    let mut text = line("submitted", show(store.submitted(id)));
    text += &line("ended", show(store.job_ended(id)));
    let mut rank = 0;
    loop {
        let page = store.ends(id, Rank(rank), 7);
        text += &line("ends", show(page.as_ref()));
        match page {
            Ok(tasks) if !tasks.is_empty() => rank += tasks.len() as u64,
            _ => break,
        }
    }
    for set in [RoaringBitmap::from_iter([0, 2, 3, total / 2]), RoaringBitmap::from_iter(0..total)] {
        text += &line("ends of", show(store.ends_of(id, &set, 5)));
    }
    for index in 0..total.min(3) {
        text += &line("attempts", show(store.attempts(TaskId { job: id, index })));
    }
    let mut cursor = 0;
    loop {
        let page = store.output(id, None, cursor);
        text += &line("output", show(page.as_ref()));
        match page {
            Ok((_, next)) if next != cursor => cursor = next,
            _ => break,
        }
    }
    text
}

fn show<T: std::fmt::Debug, E: std::borrow::Borrow<Lookup>>(value: Result<T, E>) -> String {
    match value {
        Ok(value) => format!("{value:?}"),
        Err(error) => match error.borrow() {
            Lookup::Store(cause) => panic!("the store failed: {cause}"),
            other => other.to_string(),
        },
    }
}

/// A copy of a store's directory as a crash would leave it: taken while the store is open.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else if entry.file_name() != "ballast" {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
