//! A store into a backup and back: nothing is missing, whatever goes on meanwhile, and no flipped bit goes unnoticed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod store_support;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sha2::{Digest, Sha256};
use store_support::*;
use taskq_core::{
    effect::{Submitted, Write},
    id::{Epoch, JobId, WallTime, WorkerId},
    job::Counts,
};
use taskq_server::{
    access::Token,
    store::{
        Error, LogStore, Options, Store,
        backup::{self, About, Source},
    },
};

const NOW: WallTime = WallTime(1_800_000_000_000);

/// One that has this many ends, all of them succeeded or failed as [`ended`] says.
fn concluded(job: u64, tasks: u32) -> Write {
    let failed = (0..tasks).filter(|index| index % 3 == 1).count() as u32;
    let counts = Counts { succeeded: tasks - failed, failed, ..Counts::default() };
    Write::JobEnded { job: JobId(job), counts, started: None, wall: WallTime(1_700_000_300_000 + job) }
}

fn put(store: &dyn Store, bytes: &[u8]) -> [u8; 32] {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    store.put_blob(digest, bytes).unwrap();
    digest
}

/// Some of everything: live and ended jobs, output, attempts, a key, switches, queues, workers, blobs, forgotten jobs.
fn fill(store: &dyn Store) -> u64 {
    let mut random = StdRng::seed_from_u64(7);
    let noise: Vec<u8> = (0..2_500_000).map(|_| random.random()).collect();
    let (large, empty) = (put(store, &noise), put(store, b""));
    store
        .commit(&[epoch(41), queue("q", 3, true), seen(3), seen(4), Write::WorkerGone(WorkerId(4))])
        .unwrap();
    for id in 1..=120 {
        let keyed = Submitted { key: key(&format!("key {id}")), repeat: Some([id as u8; 16]), ..job(id, 5) };
        store.commit(&[Write::Submitted(keyed), output(id, 0, 0, vec![b'o'; 400])]).unwrap();
        store
            .commit(&[attempt(id, 3, 1, "lost"), attempt(id, 3, 2, "again"), ended(id, 0, 0, "fine")])
            .unwrap();
        store
            .commit(&[output(id, 1, 0, "more"), ended(id, 1, 1, "too"), switches(id, 2, id % 2 == 0)])
            .unwrap();
        match id % 4 {
            0 => store
                .commit(&[
                    ended_with(id, 2, 2, large),
                    ended(id, 3, 3, ""),
                    ended(id, 4, 4, "x"),
                    concluded(id, 5),
                ])
                .unwrap(),
            1 => store
                .commit(&[
                    ended_with(id, 2, 2, empty),
                    ended(id, 3, 3, ""),
                    ended(id, 4, 4, "x"),
                    concluded(id, 5),
                ])
                .unwrap(),
            _ => {}
        }
        if id % 8 == 1 {
            store.commit(&[Write::JobGone(JobId(id))]).unwrap();
        }
    }
    120
}

fn about() -> About {
    let token = Some(Token::kept("tq_secret".to_owned()));
    About { wall: WallTime(1_799_999_000_000), version: "0.0".to_owned(), token, salvaged: false }
}

fn backup_of(store: &dyn Store) -> Vec<u8> {
    let mut file = Vec::new();
    let summary = store.backup(&about(), &mut file).unwrap();
    assert_eq!(summary.bytes, file.len() as u64);
    assert_eq!(summary.sha256, <[u8; 32]>::from(Sha256::digest(&file)));
    file
}

fn sample() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(&eager(dir.path())).unwrap();
    fill(&store);
    backup_of(&store)
}

/// A folder for files of one test.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, bytes: &[u8]) -> PathBuf {
        let path = self.path("backup");
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn check(path: &Path) -> Result<backup::Report, backup::Error> {
    backup::check(&Source::open(path)?)
}

/// What both stores say of these jobs is the same.
fn same(old: &dyn Store, new: &dyn Store, jobs: impl Iterator<Item = u64>) {
    for id in jobs {
        assert_eq!(told(old, id, 5), told(new, id, 5), "job {id}");
    }
}

#[test]
fn what_is_restored_is_what_was_there() {
    let (folder, dir) = (Folder::new(), tempfile::tempdir().unwrap());
    let store = LogStore::open(&eager(dir.path())).unwrap();
    let last = fill(&store);
    let file = folder.write(&backup_of(&store));
    let report = check(&file).unwrap();
    assert!(report.is_whole(), "{:?} {:?}", report.damages, report.lost);
    assert_eq!((report.jobs, report.blobs), (105, 2));

    let data = folder.path("data");
    let restored = backup::restore(&file, &data, false, NOW).unwrap();
    assert!(restored.same_token);
    let new = LogStore::open(&Options::new(&data)).unwrap();
    same(&store, &new, 1..=last);
    let (highest, facts) = loaded(&store);
    let (new_highest, new_facts) = loaded(&new);
    assert_eq!(new_highest, JobId(highest.0 + 1_000_000), "numbers that were given out since are left out");
    // But for the start, and for the worker that stands for all that the backup does not know, it is the same.
    let differ = |fact: &&String| !fact.starts_with("Epoch") && !fact.contains("after the backup");
    let facts: Vec<_> = facts.iter().filter(differ).collect();
    assert_eq!(facts, new_facts.iter().filter(differ).collect::<Vec<_>>());
    let epochs = new_facts.iter().filter(|fact| fact.starts_with("Epoch")).collect::<Vec<_>>();
    let expected = format!("{:?}", Write::Epoch(Epoch(41 + 1_000_000 + 1_000_000)));
    assert_eq!(epochs, [&expected], "a million, and one for each of the 1,000 s since");
    assert_eq!(new_facts.iter().filter(|fact| fact.contains("after the backup")).count(), 1);
    let access = fs::read_to_string(data.join("access.toml")).unwrap();
    assert!(access.contains("tq_secret"), "{access}");
    drop(new);

    let other = folder.path("other");
    let restored = backup::restore(&file, &other, true, NOW).unwrap();
    assert!(!restored.same_token);
    assert!(!fs::read_to_string(other.join("access.toml")).unwrap().contains("tq_secret"));
}

#[test]
fn a_restore_needs_an_empty_directory_and_an_unfinished_one_is_not_served() {
    let folder = Folder::new();
    let file = folder.write(&sample());
    let data = folder.path("data");
    fs::create_dir(&data).unwrap();
    fs::create_dir(data.join("lost+found")).unwrap();
    fs::write(data.join("mine"), "x").unwrap();
    let refused = backup::restore(&file, &data, false, NOW).unwrap_err();
    assert!(matches!(&refused, backup::Error::NotEmpty { .. }), "{refused}");
    assert_eq!(fs::read(data.join("mine")).unwrap(), b"x");
    fs::remove_file(data.join("mine")).unwrap();
    backup::restore(&file, &data, false, NOW).unwrap();
    let refused = backup::restore(&file, &data, false, NOW).unwrap_err();
    assert!(matches!(&refused, backup::Error::NotEmpty { .. }), "{refused}");

    // As if it had been killed: the mark is there, and some of the rest.
    fs::write(data.join("restoring"), "").unwrap();
    let refused = LogStore::open(&Options::new(&data)).unwrap_err();
    assert!(matches!(&refused, Error::Unfinished { .. }), "{refused}");
    backup::restore(&file, &data, false, NOW).unwrap();
    assert!(!data.join("restoring").exists());
    assert_eq!(LogStore::open(&Options::new(&data)).unwrap().indexed_jobs(), 105);
}

/// A consumer in whose middle others go on: it runs `between` before each piece.
struct Slow<F>(Vec<u8>, F);

impl<F: FnMut()> io::Write for Slow<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.1)();
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn housekeeping_and_retention_may_go_on_meanwhile() {
    let (folder, dir) = (Folder::new(), tempfile::tempdir().unwrap());
    let store = LogStore::open(&eager(dir.path())).unwrap();
    let last = fill(&store);
    // Retention will take these, when some of what they have is in the backup.
    let doomed = last + 1..=last + 400;
    for id in doomed.clone() {
        store.commit(&[submit(id, 5), output(id, 0, 0, vec![id as u8; 900])]).unwrap();
    }
    for id in doomed.clone() {
        store.commit(&[ended(id, 0, 0, "a"), ended(id, 1, 1, &"b".repeat(900))]).unwrap();
    }
    let before: Vec<String> = (1..=last).map(|id| told(&store, id, 5)).collect();
    let (mut next, mut gone) = (*doomed.end(), doomed.clone());
    let oldest = |store: &LogStore| store.shape()[0];
    let commits = oldest(&store);
    let mut overtaken = 0;
    let slow = |_: ()| {
        // Enough for housekeeping to go all through the log, many times.
        for _ in 0..60 {
            next += 1;
            store
                .commit(&[submit(next, 1), output(next, 0, 0, vec![7; 3000]), Write::JobGone(JobId(next))])
                .unwrap();
            if let Some(id) = gone.next() {
                store.commit(&[concluded(id, 2), Write::JobGone(JobId(id))]).unwrap();
            }
        }
        overtaken += u64::from(oldest(&store) < commits);
    };
    let mut slow = slow;
    let mut out = Slow(Vec::new(), || slow(()));
    store.backup(&about(), &mut out).unwrap();
    let file = folder.write(&out.0);
    assert!(overtaken > 0, "housekeeping has removed commits meanwhile");
    let report = check(&file).unwrap();
    assert!(report.is_whole(), "{:?} {:?}", report.damages, report.lost);
    let data = folder.path("data");
    backup::restore(&file, &data, false, NOW).unwrap();
    let new = LogStore::open(&Options::new(&data)).unwrap();
    for (id, before) in (1..=last).zip(before) {
        assert_eq!(told(&new, id, 5), before, "job {id} was there before the backup");
    }
    for id in doomed {
        let there = new.submitted(JobId(id)).is_ok();
        assert!(
            !there || store.submitted(JobId(id)).is_ok(),
            "job {id} is gone, and half of it is in the backup"
        );
    }
}

/// Which places are damaged, and that they are where the damage is.
fn found(folder: &Folder, bytes: &[u8], at: u64, what: &str) {
    let path = folder.write(bytes);
    let report = match check(&path) {
        // Where the very first bytes are wrong and nothing else follows, it is no backup.
        Err(backup::Error::NotOne { .. }) if bytes.len() < 100 => return,
        checked => checked.unwrap(),
    };
    assert!(!report.is_whole(), "{what}: not noticed");
    let there = |damage: &backup::Damage| damage.bytes.is_some_and(|(from, to)| (from..=to).contains(&at));
    assert!(report.damages.iter().any(there), "{what}: not where it is: {:?}", report.damages);
}

#[test]
fn each_flipped_bit_is_found_and_named() {
    let seed = std::env::var("TASKQ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("TASKQ_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (folder, dir) = (Folder::new(), tempfile::tempdir().unwrap());
    let store = LogStore::open(&eager(dir.path())).unwrap();
    // A small one, so that thousands of them are read in seconds, with frames of each kind.
    store.commit(&[epoch(1), queue("q", 1, true)]).unwrap();
    let value = put(&store, b"a value");
    for id in 1..=60 {
        store
            .commit(&[submit(id, 5), output(id, 0, 0, id.to_string()), ended_with(id, 0, 0, value)])
            .unwrap();
    }
    let whole = backup_of(&store);
    let flip = |at: usize, bit: u32| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        found(&folder, &bytes, at as u64, &format!("byte {at} bit {bit} of {}", whole.len()));
    };
    // Each byte, and then whatever comes.
    for at in 0..whole.len() {
        flip(at, random.random_range(0..8));
    }
    for _ in 0..2_000 {
        flip(random.random_range(0..whole.len()), random.random_range(0..8));
    }
    println!("{} bytes, each of them damaged once and 2,000 at random: all found", whole.len());
}

#[test]
fn what_is_cut_off_added_or_left_out_is_found() {
    let folder = Folder::new();
    let whole = sample();
    let mut random = StdRng::seed_from_u64(2);
    for _ in 0..60 {
        let end = random.random_range(0..whole.len());
        let path = folder.write(&whole[..end]);
        assert!(!check(&path).is_ok_and(|report| report.is_whole()), "cut to {end}");
    }
    let path = folder.write(&[&whole[..], b"x"].concat());
    assert!(!check(&path).unwrap().is_whole(), "a byte more");
    let path = folder.write(&[&whole[..], &whole[..]].concat());
    assert!(!check(&path).unwrap().is_whole(), "twice");
    for _ in 0..40 {
        let (from, len) = (random.random_range(0..whole.len() - 1_000), random.random_range(1..1_000));
        let path = folder.write(&[&whole[..from], &whole[from + len..]].concat());
        assert!(!check(&path).unwrap().is_whole(), "{len} bytes from {from} on are missing");
    }
    for other in [&b""[..], b"x", b"\xf1TQ\n", &[0; 4096]] {
        let path = folder.write(other);
        assert!(matches!(check(&path), Err(backup::Error::NotOne { .. })), "{other:?}");
    }
}

#[test]
fn what_is_whole_of_a_damaged_backup_is_saved_and_the_rest_is_named() {
    let (folder, dir) = (Folder::new(), tempfile::tempdir().unwrap());
    let store = LogStore::open(&eager(dir.path())).unwrap();
    let last = fill(&store);
    let whole = backup_of(&store);
    let mut random = StdRng::seed_from_u64(3);
    for round in 0..12 {
        let mut bytes = whole.clone();
        for _ in 0..=round % 3 {
            bytes[random.random_range(0..whole.len())] ^= 4;
        }
        let path = folder.write(&bytes);
        let refused = backup::restore(&path, &folder.path("none"), false, NOW).unwrap_err();
        assert!(matches!(refused, backup::Error::Damaged { .. }), "{refused}");
        assert!(!folder.path("none").exists(), "nothing is made of a damaged backup");

        let source = Source::open(&path).unwrap();
        let report = backup::check(&source).unwrap();
        let mut saved = Vec::new();
        backup::salvage(&source, &report, &mut saved).unwrap();
        let saved_path = folder.path("saved");
        fs::write(&saved_path, saved).unwrap();
        let again = check(&saved_path).unwrap();
        assert!(again.is_whole(), "{:?} {:?}", again.damages, again.lost);
        let data = folder.path(&format!("data{round}"));
        backup::restore(&saved_path, &data, false, NOW).unwrap();
        let new = LogStore::open(&Options::new(&data)).unwrap();
        // A job is as it was, or it is named.
        let named = |id: u64| {
            report.lost.iter().any(|(job, _)| job.0 == id)
                || report.damages.iter().flat_map(|d| &d.jobs).any(|(a, b)| (a.0..=b.0).contains(&id))
        };
        for id in (1..=last).filter(|id| !named(*id)) {
            assert_eq!(told(&store, id, 5), told(&new, id, 5), "job {id}, round {round}");
        }
        // Whoever reads the ends of one finds no gap to wait at.
        for id in 1..=last {
            if let Ok(Some(end)) = new.job_ended(JobId(id)) {
                let ends = new.ends(JobId(id), taskq_core::id::Rank(0), 100).unwrap();
                assert_eq!(ends.len() as u32, end.counts.total(), "job {id}");
            }
        }
    }
}

/// What fills a frame by itself and cannot be pressed: whatever comes next is in another one.
fn filler(id: u64) -> Write {
    let mut random = StdRng::seed_from_u64(id);
    output(id, 0, 0, (0..70_000).map(|_| random.random::<u8>()).collect::<Vec<u8>>())
}

#[test]
fn a_gap_in_what_a_job_did_is_named_and_closes_when_it_is_saved() {
    let (folder, dir) = (Folder::new(), tempfile::tempdir().unwrap());
    let store = LogStore::open(&Options::new(dir.path())).unwrap();
    store.commit(&[submit(1, 3), submit(2, 3), submit(9, 1)]).unwrap();
    for index in 0..3 {
        for job in [1, 2] {
            store.commit(&[ended(job, index, u64::from(index), "x"), output(job, index, 0, "said")]).unwrap();
        }
        store.commit(&[filler(9)]).unwrap();
    }
    store.commit(&[concluded(1, 3)]).unwrap();
    let whole = backup_of(&store);
    let mut gaps = 0;
    for at in (100..whole.len()).step_by(20_000) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        let path = folder.write(&bytes);
        let source = Source::open(&path).unwrap();
        let report = backup::check(&source).unwrap();
        let of =
            |id| report.lost.iter().filter(move |(job, _)| *job == JobId(id)).map(|(_, what)| what.as_str());
        let lost = of(1).any(|what| what.contains("the ends of 1 of its 3 tasks are lost"));
        if !lost || !of(2).any(|what| what.contains("would run again")) {
            continue;
        }
        gaps += 1;
        assert!(of(1).any(|what| what.contains("pieces of its output")), "{:?}", report.lost);
        let mut saved = Vec::new();
        backup::salvage(&source, &report, &mut saved).unwrap();
        let saved_path = folder.path("saved");
        fs::write(&saved_path, saved).unwrap();
        assert!(check(&saved_path).unwrap().is_whole());
        let data = folder.path(&format!("data{at}"));
        backup::restore(&saved_path, &data, false, NOW).unwrap();
        let new = LogStore::open(&Options::new(&data)).unwrap();
        for id in [1, 2] {
            let ends = new.ends(JobId(id), taskq_core::id::Rank(0), 9).unwrap();
            assert_eq!(ends.len(), 2, "both that are left, one after the other");
            let (pieces, next) = new.output(JobId(id), None, 0).unwrap();
            assert_eq!((pieces.len(), next), (2, 2));
        }
        assert_eq!(new.job_ended(JobId(1)).unwrap().unwrap().counts.total(), 2);
    }
    assert!(gaps > 0, "the frame in the middle was damaged");
}

#[test]
fn a_whole_directory_is_found_to_be_whole_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(&eager(dir.path())).unwrap();
    let last = fill(&store);
    assert!(matches!(Source::open(dir.path()), Err(backup::Error::Store(Error::Locked { .. }))));
    let before: Vec<String> = (1..=last).map(|id| told(&store, id, 5)).collect();
    drop(store);
    let report = check(dir.path()).unwrap();
    assert!(report.is_whole(), "{:?} {:?}", report.damages, report.lost);
    assert_eq!((report.jobs, report.blobs), (105, 2));
    assert!(!dir.path().join("doctor.copy").exists());
    let store = LogStore::open(&eager(dir.path())).unwrap();
    assert_eq!(before, (1..=last).map(|id| told(&store, id, 5)).collect::<Vec<_>>());
    drop(store);

    // A value that is damaged is named, and the job that returned it.
    let digest: String = Sha256::digest(b"").iter().map(|byte| format!("{byte:02x}")).collect();
    let blob = dir.path().join("blobs-sha256").join(&digest[..2]).join(&digest[2..]);
    fs::write(&blob, "x").unwrap();
    let report = check(dir.path()).unwrap();
    assert!(report.damages.iter().any(|damage| damage.what.contains(&digest[2..])), "{:?}", report.damages);
    assert!(report.lost.iter().any(|(job, _)| *job == JobId(5)), "{:?}", report.lost);
}

/// Written by version 0.1.0, format 1. It stays readable.
#[test]
fn the_first_format_stays_readable() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/backup-1");
    if std::env::var_os("TASKQ_WRITE_SAMPLE").is_some() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(&Options::new(dir.path())).unwrap();
        let value = put(&store, b"a value");
        store.commit(&[epoch(5), queue("q", 1, true), seen(3), submit(1, 2), submit(2, 1)]).unwrap();
        store.commit(&[output(1, 0, 0, "said"), ended(1, 0, 0, "fine"), ended_with(1, 1, 1, value)]).unwrap();
        store.commit(&[concluded(1, 2), attempt(2, 0, 1, "lost")]).unwrap();
        fs::write(&path, backup_of(&store)).unwrap();
    }
    let report = check(&path).unwrap();
    assert!(report.is_whole(), "{:?} {:?}", report.damages, report.lost);
    let folder = Folder::new();
    let data = folder.path("data");
    let restored = backup::restore(&path, &data, false, NOW).unwrap();
    assert!(restored.same_token);
    let store = LogStore::open(&Options::new(&data)).unwrap();
    assert_eq!(store.submitted(JobId(1)).unwrap().spec, Bytes::from("spec of 1"));
    assert_eq!(store.ends(JobId(1), taskq_core::id::Rank(0), 9).unwrap().len(), 2);
    assert_eq!(store.output(JobId(1), None, 0).unwrap().0[0].data, Bytes::from("said"));
    assert_eq!(store.blob(&Sha256::digest(b"a value").into()).unwrap(), Some(Bytes::from("a value")));
    assert!(store.is_live(JobId(2)) && store.job_ended(JobId(1)).unwrap().is_some());
}
