//! Hundreds of thousands of jobs through a small retention: what the store takes, on disk and in memory, stops growing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod store_support;

use std::{
    fs,
    path::Path,
    sync::{Mutex, MutexGuard},
};

use store_support::*;
use taskq_core::{
    effect::Write,
    id::{JobId, WallTime},
};
use taskq_server::store::{LogStore, Options, Store};

const KEPT: usize = 2_000;

/// A job's life in three batches; `size` jobs at a time.
fn live(store: &LogStore, first: u64, size: u64) {
    let ids = first..first + size;
    store.commit(&ids.clone().map(|id| submit(id, 1)).collect::<Vec<_>>()).unwrap();
    let mut ends = Vec::new();
    for id in ids {
        if id.is_multiple_of(7) {
            ends.push(attempt(id, 0, 1, "lost"));
        }
        if id.is_multiple_of(5) {
            ends.push(output(id, 0, 0, vec![b'o'; 500]));
        }
        ends.push(ended(id, 0, 0, &"d".repeat(100)));
        ends.push(job_ended(id, 1_000_000 + id));
    }
    store.commit(&ends).unwrap();
    let due = store.expired(WallTime(1_000_000 + first), &keep(KEPT), usize::MAX);
    if due.len() > 100 {
        store.commit(&due.into_iter().map(Write::JobGone).collect::<Vec<_>>()).unwrap();
    }
}

fn disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(dir.join("sled/db")).unwrap().blocks() * 512
}

fn rss() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Both weigh this process: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[test]
fn disk_and_index_stay_flat() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut store = LogStore::open(&Options::new(dir.path())).unwrap();
    // Two that stay throughout, one of them running: they must not pin the log.
    store.commit(&[submit(1, 1), submit(2, 1), attempt(2, 0, 1, "kept"), epoch(3), seen(9)]).unwrap();
    let (mut next, mut marks) = (3, Vec::new());
    for round in 0..6 {
        for step in 0..500 {
            // Large batches, and every now and then many tiny ones.
            let size = if step % 10 == 0 { 1 } else { 150 };
            for _ in 0..if size == 1 { 20 } else { 1 } {
                live(&store, next, size);
                next += size;
            }
        }
        if round == 3 {
            drop(store);
            store = LogStore::open(&Options::new(dir.path())).unwrap();
        }
        marks.push((disk(dir.path()) >> 20, rss() >> 20, store.shape(), store.indexed_jobs()));
        assert!(store.indexed_jobs() <= KEPT + 300, "{marks:?}");
    }
    println!("{next} jobs, [disk MiB, memory MiB, (commits, records, bytes, live), jobs]: {marks:?}");
    let (first, last) = (&marks[2], &marks[5]);
    assert!(last.0 <= first.0 + 32, "the disk grows: {marks:?}");
    assert!(last.1 <= first.1 + 60, "the memory grows: {marks:?}");
    let [_, records, bytes, alive] = last.2;
    assert!(bytes < 3 * alive + (16 << 20) && records < 8_000, "the log grows: {marks:?}");
    drop(store);
    let store = LogStore::open(&Options::new(dir.path())).unwrap();
    assert_eq!(store.submitted(JobId(1)).unwrap().spec, "spec of 1");
    let (highest, facts) = loaded(&store);
    assert_eq!((highest, facts.len()), (JobId(next - 1), 5));
}

#[test]
fn a_crowd_of_tiny_commits_is_packed() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(&Options::new(dir.path())).unwrap();
    const JOBS: u64 = 20_000;
    for id in 1..=JOBS {
        store.commit(&[submit(id, 1)]).unwrap();
    }
    let [commits, records, bytes, alive] = store.shape();
    println!("{commits} commits, {records} records, {bytes} bytes, {alive} alive");
    // All are wanted, and yet they do not stay records of their own.
    assert!(records < 6_000, "{records}");
    assert_eq!(store.indexed_jobs() as u64, JOBS);
    let (_, facts) = loaded(&store);
    assert_eq!(facts.len() as u64, JOBS);
}
