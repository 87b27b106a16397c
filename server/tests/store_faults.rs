//! What a damaged, full, failing or busy disk does to the durable store: it opens with all that was acknowledged, or says
//! clearly why not; it never panics and never lies.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod store_support;

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use store_support::*;
use taskq_core::{effect::Write, id::JobId};
use taskq_server::store::{Error, LogStore, Lookup, Options, Room, SUBMIT_ROOM, Store};

/// A store with some of everything, closed properly or copied while open.
fn sample(dir: &Path, closed: bool) -> String {
    let work = tempfile::tempdir().unwrap();
    let store = LogStore::open(&eager(work.path())).unwrap();
    store.commit(&[epoch(1), queue("q", 1, true), seen(3)]).unwrap();
    for id in 1..=40 {
        store.commit(&[submit(id, 2), output(id, 0, 0, vec![b'o'; 3000])]).unwrap();
        store.commit(&[attempt(id, 0, 1, "lost"), ended(id, 0, 0, "fine"), ended(id, 1, 1, "too")]).unwrap();
        if id > 4 {
            store.commit(&[job_ended(id - 4, 1000), Write::JobGone(JobId(id - 4))]).unwrap();
        }
    }
    let said = all(&store);
    if closed {
        drop(store);
        copy_dir(work.path(), dir);
    } else {
        copy_dir(work.path(), dir);
    }
    said
}

fn all(store: &dyn Store) -> String {
    let (highest, facts) = loaded(store);
    let mut text = format!("{highest} {facts:?}\n");
    for id in 1..=41 {
        text += &told(store, id, 2);
    }
    text
}

/// What a damaged copy does: `None` if it says that it is damaged, else what it tells.
fn outcome(dir: &Path) -> Option<String> {
    match LogStore::open(&Options::new(dir)) {
        Ok(store) => Some(all(&store)),
        Err(Error::Corrupt { .. } | Error::Loss { .. } | Error::Newer { .. }) => None,
        Err(other) => panic!("neither open nor corrupt: {other}"),
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let of = |dir: &Path| fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    let mut all = of(dir);
    all.extend(of(&dir.join("sled")));
    all.retain(|f| f.is_file() && !f.ends_with("lock"));
    all.sort();
    all
}

/// Damages one file of a fresh copy at random, in a way told by `kind`.
fn damage(copy: &Path, random: &mut StdRng) -> String {
    let all = files(copy);
    let file = &all[random.random_range(0..all.len())];
    let handle = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut content = fs::read(file).unwrap();
    // The engine's file is mostly holes: aim where something is.
    let used = content.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    if used == 0 {
        return format!("nothing in {}", file.display());
    }
    if random.random_bool(0.2) {
        let len = random.random_range(0..used);
        handle.set_len(len as u64).unwrap();
        return format!("{} cut to {len}", file.display());
    }
    // Headers lead further astray than what they head.
    let reach = if random.random_bool(0.4) { used.min(80) } else { used };
    let at = random.random_range(0..reach);
    let bit = random.random_range(0..8);
    content[at] ^= 1 << bit;
    handle.write_all_at(&content[at..=at], at as u64).unwrap();
    format!("{} byte {at} bit {bit}", file.display())
}

const CHILD: &str = "TASKQ_TEST_DAMAGE";
const RUNS: u64 = 20;
const DAMAGES: u64 = 60;

/// Damage after damage; each run is a process of its own, because a panic on one of the engine's threads breaks the
/// engine for the rest of its process, and then everything would look corrupt.
#[test]
fn damage_is_noticed_or_harmless() {
    if let Ok(seed) = std::env::var(CHILD) {
        return damaged(seed.parse().unwrap());
    }
    let first = std::env::var("TASKQ_SEED").ok().and_then(|s| s.parse().ok());
    let seeds = first.map_or(1..RUNS + 1, |s| s..s + 1);
    let mut sums = [0; 3];
    for seed in seeds {
        let name = "damage_is_noticed_or_harmless";
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, seed.to_string())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout);
        assert!(
            child.status.success(),
            "TASKQ_SEED={seed}\n{text}\n{}",
            String::from_utf8_lossy(&child.stderr)
        );
        let line = text.lines().find_map(|l| l.split("counts ").nth(1)).unwrap();
        for (sum, count) in sums.iter_mut().zip(line.split(' ')) {
            *sum += count.parse::<u64>().unwrap();
        }
    }
    println!("harmless, noticed, engine broken: {sums:?}");
    // The test must be able to see both.
    assert!(sums[1] > 0, "no damage was noticed: {sums:?}");
}

fn damaged(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let pristine = tempfile::tempdir().unwrap();
    let said = sample(pristine.path(), random.random_bool(0.5));
    let mut counts = [0; 3];
    for _ in 0..DAMAGES {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(pristine.path(), copy.path());
        let what = damage(copy.path(), &mut random);
        match outcome(copy.path()) {
            Some(told) => {
                assert_eq!(told, said, "the store lies after: {what}");
                counts[0] += 1;
            }
            None => {
                counts[1] += 1;
                let intact = tempfile::tempdir().unwrap();
                copy_dir(pristine.path(), intact.path());
                if outcome(intact.path()).is_none() {
                    counts[2] += 1;
                    break;
                }
            }
        }
    }
    println!("counts {} {} {}", counts[0], counts[1], counts[2]);
}

#[test]
fn a_truncated_snapshot_does_not_keep_the_store_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    let said = sample(dir.path(), true);
    assert_eq!(outcome(dir.path()), Some(said.clone()));
    let snapshots: Vec<PathBuf> =
        files(dir.path()).into_iter().filter(|f| f.to_string_lossy().contains("/snap.")).collect();
    assert!(!snapshots.is_empty());
    for snapshot in snapshots {
        let len = fs::metadata(&snapshot).unwrap().len();
        OpenOptions::new().write(true).open(&snapshot).unwrap().set_len(len / 2).unwrap();
    }
    assert_eq!(outcome(dir.path()), Some(said));
}

#[test]
fn acknowledged_commits_that_vanished_are_missed() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path(), true);
    fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let error = LogStore::open(&Options::new(dir.path())).unwrap_err();
    assert!(matches!(error, Error::Loss { .. }), "{error}");
    assert!(error.to_string().contains("were acknowledged"), "{error}");
    let store = LogStore::open(&accepting(dir.path())).unwrap();
    assert!(matches!(store.submitted(JobId(40)), Err(Lookup::Unknown(_) | Lookup::Gone(_))));
    assert!(loaded(&store).0 > JobId(40), "its number is not given to another job");
    drop(store);
    let store = LogStore::open(&Options::new(dir.path())).unwrap();
    assert!(loaded(&store).0 > JobId(40), "nor after another start, which knows of no loss");
}

fn accepting(dir: &Path) -> Options {
    Options { accept_loss: true, ..Options::new(dir) }
}

fn refused(dir: &Path) -> String {
    match LogStore::open(&Options::new(dir)) {
        Err(error @ Error::Loss { .. }) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opened"),
    }
}

#[test]
fn a_log_without_its_witness_is_served_only_if_its_owner_says_so() {
    let pristine = tempfile::tempdir().unwrap();
    let said = sample(pristine.path(), true);
    let acked = |dir: &Path| dir.join("acked");
    let damages: [&dyn Fn(&Path); 4] = [
        &|dir| fs::remove_file(acked(dir)).unwrap(),
        &|dir| fs::write(acked(dir), b"").unwrap(),
        &|dir| fs::write(acked(dir), [0; 1024]).unwrap(),
        &|dir| fs::write(acked(dir), [0xff; 1024]).unwrap(),
    ];
    for (number, damage) in damages.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(pristine.path(), dir.path());
        damage(dir.path());
        for _ in 0..2 {
            let why = refused(dir.path());
            assert!(why.contains("`acked`") && why.contains("--accept-loss"), "{why}");
        }
        // Nothing was lost after all; job numbers go on above whatever may have been.
        let store = LogStore::open(&accepting(dir.path())).unwrap();
        let (highest, facts) = loaded(&store);
        assert!(highest > JobId(1_000_000), "damage {number}");
        assert_eq!(format!("{} {facts:?}", 40), said.lines().next().unwrap(), "damage {number}");
        store.commit(&[submit(highest.0 + 1, 1)]).unwrap();
        drop(store);
        let store = LogStore::open(&Options::new(dir.path())).unwrap();
        assert_eq!(loaded(&store).0, JobId(highest.0 + 1), "it is whole again");
    }
}

/// The case for which the witness is there: the engine takes a log that was cut short for a whole one.
#[test]
fn a_log_that_was_cut_short_is_missed_whatever_is_left_of_its_witness() {
    let work = tempfile::tempdir().unwrap();
    let short = tempfile::tempdir().unwrap();
    let store = LogStore::open(&eager(work.path())).unwrap();
    store.commit(&[submit(1, 1)]).unwrap();
    copy_dir(work.path(), short.path());
    store.commit(&[submit(2, 1)]).unwrap();
    drop(store);
    let witness = fs::read(work.path().join("acked")).unwrap();
    let variants: [(&str, Option<Vec<u8>>); 4] = [
        ("whole", Some(witness.clone())),
        ("its newer half is gone", Some([&[0; 512], &witness[512..]].concat())),
        ("its older half is gone", Some([&witness[..512], &[0; 12]].concat())),
        ("gone", None),
    ];
    for (what, bytes) in variants {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(short.path(), dir.path());
        fs::remove_file(dir.path().join("acked")).unwrap();
        if let Some(bytes) = bytes {
            fs::write(dir.path().join("acked"), bytes).unwrap();
        }
        assert!(refused(dir.path()).contains("log"), "{what}");
    }
    // With the whole log, a half that was torn when the power failed is no loss.
    fs::write(work.path().join("acked"), [&[0; 512], &witness[512..]].concat()).unwrap();
    let store = LogStore::open(&Options::new(work.path())).unwrap();
    assert!(store.submitted(JobId(2)).is_ok());
}

/// States that a power cut may leave of a first start; none of them had acknowledged anything.
#[test]
fn a_first_start_that_was_cut_off_is_begun_anew() {
    let stages: [&dyn Fn(&Path); 4] = [
        &|_| {},
        &|dir| fs::create_dir(dir.join("sled")).unwrap(),
        &|dir| {
            fs::create_dir(dir.join("sled")).unwrap();
            fs::write(dir.join("sled/conf"), b"").unwrap();
            fs::write(dir.join("sled/db"), b"half").unwrap();
        },
        &|dir| {
            // All but the last step.
            drop(LogStore::open(&Options::new(dir)).unwrap());
            fs::rename(dir.join("acked"), dir.join("acked.none")).unwrap();
        },
    ];
    for (number, stage) in stages.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        stage(dir.path());
        fs::write(dir.path().join("acked.none"), b"").unwrap();
        let store = LogStore::open(&Options::new(dir.path())).unwrap();
        assert_eq!(loaded(&store), (JobId(0), Vec::new()), "stage {number}");
        store.commit(&[submit(1, 1)]).unwrap();
        drop(store);
        assert!(!dir.path().join("acked.none").exists(), "stage {number}");
        let store = LogStore::open(&Options::new(dir.path())).unwrap();
        assert!(store.submitted(JobId(1)).is_ok(), "stage {number}");
    }
}

#[test]
fn the_second_server_is_told_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = LogStore::open(&Options::new(dir.path())).unwrap();
    match LogStore::open(&Options::new(dir.path())) {
        Err(Error::Locked { pid, .. }) => assert_eq!(pid, std::process::id()),
        other => panic!("{other:?}"),
    }
    drop(first);
    LogStore::open(&Options::new(dir.path())).unwrap();
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    for failing in 1..6 {
        let dir = tempfile::tempdir().unwrap();
        let mut options = eager(dir.path());
        options.fault.syncs_before_failure = Some(failing);
        let store = LogStore::open(&options).unwrap();
        let results: Vec<bool> = (1..10).map(|id| store.commit(&[submit(id, 1)]).is_ok()).collect();
        let acked = results.iter().take_while(|ok| **ok).count();
        assert_eq!(acked as u64 + 1, failing, "one sync at open, one a commit");
        assert!(results[acked..].iter().all(|ok| !ok), "{results:?}");
        assert_eq!(store.room(), Room::Over, "nothing new is let in");
        // What was not acknowledged is not seen either.
        assert!(store.submitted(JobId(acked as u64 + 1)).is_err());
        drop(store);
        let store = LogStore::open(&eager(dir.path())).unwrap();
        for id in 1..=acked {
            assert!(store.submitted(JobId(id as u64)).is_ok());
        }
    }
}

#[test]
fn a_commit_that_was_cut_short_never_happened() {
    for cut in [1, 2, 5] {
        let dir = tempfile::tempdir().unwrap();
        let mut options = eager(dir.path());
        // One part for the first commit, then some of the second.
        options.fault.parts_before_failure = Some(1 + cut);
        let store = LogStore::open(&options).unwrap();
        store.commit(&[submit(1, 1)]).unwrap();
        let mut large = job(2, 1);
        large.spec = vec![b's'; 400_000].into();
        let batch = [submit(3, 1), Write::Submitted(large)];
        store.commit(&batch).unwrap_err();
        drop(store);
        for _ in 0..2 {
            let store = LogStore::open(&eager(dir.path())).unwrap();
            assert!(store.submitted(JobId(1)).is_ok());
            assert!(store.submitted(JobId(2)).is_err() && store.submitted(JobId(3)).is_err());
            assert_eq!(loaded(&store).0, JobId(1));
        }
        let store = LogStore::open(&eager(dir.path())).unwrap();
        // A shorter one takes its number; nothing of the longer one is left behind it.
        store.commit(&batch[..1]).unwrap();
        store.commit(&batch[1..]).unwrap();
        drop(store);
        let store = LogStore::open(&eager(dir.path())).unwrap();
        assert_eq!(store.submitted(JobId(2)).unwrap().spec.len(), 400_000);
        assert!(store.submitted(JobId(3)).is_ok());
    }
}

#[test]
fn a_full_disk_refuses_submissions_and_still_takes_ends() {
    let Some(disk) = SmallDisk::mount(96) else { return };
    let options = eager(&disk.path().join("data"));
    let store = LogStore::open(&options).unwrap();
    store.commit(&[submit(1, 5000), output(1, 0, 0, "x")]).unwrap();
    // Somebody else fills the disk.
    disk.fill(0);
    assert!(matches!(store.room(), Room::Free { bytes, .. } if bytes < SUBMIT_ROOM));
    let refused = store.commit(&[submit(2, 1)]).unwrap_err();
    assert!(matches!(refused, Error::Full { .. }), "{refused}");
    for rank in 0..100 {
        store.commit(&[ended(1, rank, u64::from(rank), "done")]).unwrap();
    }
    assert!(!disk.path().join("data/ballast").exists(), "the ballast was given up");
    disk.empty();
    store.commit(&[submit(3, 1)]).unwrap();
    assert!(disk.path().join("data/ballast").exists(), "the ballast is back");
    drop(store);
    let store = LogStore::open(&options).unwrap();
    assert_eq!(store.ends(JobId(1), taskq_core::id::Rank(0), 1000).unwrap().len(), 100);
    assert!(store.submitted(JobId(2)).is_err());
    assert!(store.submitted(JobId(3)).is_ok());
}

#[test]
fn a_disk_that_fills_up_under_load_loses_nothing_that_was_acknowledged() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let options = Options::new(disk.path().join("data"));
    let store = LogStore::open(&options).unwrap();
    let mut acked = 0;
    loop {
        let mut large = job(acked + 1, 1);
        large.spec = vec![b's'; 200_000].into();
        match store.commit(&[Write::Submitted(large)]) {
            Ok(()) => acked += 1,
            Err(Error::Full { .. }) => break,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(acked > 20, "{acked}");
    drop(store);
    let store = LogStore::open(&options).unwrap();
    for id in 1..=acked {
        assert_eq!(store.submitted(JobId(id)).unwrap().spec.len(), 200_000);
    }
    assert!(store.submitted(JobId(acked + 1)).is_err());
}

#[test]
fn the_engine_never_writes_files_of_its_own_for_values() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(&eager(dir.path())).unwrap();
    for id in 1..200 {
        let mut large = job(id, 1);
        large.spec = vec![b's'; 300_000].into();
        store
            .commit(&[Write::Submitted(large), job_ended(id, 5), Write::JobGone(JobId(id.saturating_sub(5)))])
            .unwrap();
    }
    let blobs = fs::read_dir(dir.path().join("sled/blobs")).map_or(0, |found| found.count());
    assert_eq!(blobs, 0);
    drop(store);
    fs::create_dir_all(dir.path().join("sled/blobs")).unwrap();
    fs::write(dir.path().join("sled/blobs/1"), b"x").unwrap();
    assert!(matches!(LogStore::open(&eager(dir.path())), Err(Error::Corrupt { .. })));
}

#[test]
fn a_commit_of_any_size_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(&eager(dir.path())).unwrap();
    // Above 128 MiB a commit is cut into larger parts; both sides of that limit, and then small ones again.
    let sizes = [(1, (128 << 20) - (64 << 10)), (2, (128 << 20) + 1), (3, 150 << 20), (4, 10)];
    let spec = |id: u64, bytes: usize| -> Vec<u8> {
        (0..bytes as u64 / 8 + 1).flat_map(|n| (n ^ (id << 56)).to_le_bytes()).take(bytes).collect()
    };
    for (id, bytes) in sizes {
        let mut large = job(id, 1);
        large.spec = spec(id, bytes).into();
        store.commit(&[Write::Submitted(large)]).unwrap();
        assert!(store.submitted(JobId(id)).unwrap().spec == spec(id, bytes), "job {id} at once");
    }
    drop(store);
    let store = LogStore::open(&eager(dir.path())).unwrap();
    for (id, bytes) in sizes {
        assert!(store.submitted(JobId(id)).unwrap().spec == spec(id, bytes), "job {id} after a restart");
    }
}

/// A file system of a few MiB, gone with the value.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, said aloud, where an ordinary user may not mount; in CI that is a failure.
    fn mount(mib: u32) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={mib}m");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).status();
        if done.is_ok_and(|s| s.success()) {
            return Some(SmallDisk(dir));
        }
        eprintln!("SKIPPED: needs root to mount a small disk");
        assert!(std::env::var_os("CI").is_none(), "this test must not be skipped in CI");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves this many bytes free.
    fn fill(&self, leave: u64) {
        let stat = rustix::fs::statvfs(self.path()).unwrap();
        let size = stat.f_bavail * stat.f_frsize - leave;
        fs::write(self.path().join("filler"), vec![1; usize::try_from(size).unwrap()]).unwrap();
    }

    fn empty(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(done.is_ok_and(|s| s.success()), "cannot unmount {}", self.0.path().display());
    }
}

/// What jobs are given and write is nobody else's business.
#[test]
fn only_its_owner_can_look_into_a_store() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let store = LogStore::open(&Options::new(&dir)).unwrap();
    store.commit(&[submit(1, 1)]).unwrap();
    store.put_blob([1; 32], b"a value").unwrap();
    for inside in ["", "sled", "blobs-sha256"] {
        let mode = fs::metadata(dir.join(inside)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{inside:?} has mode {mode:o}");
    }
}

/// Whatever a first start has left that did not get to its end: nothing of it is deleted.
#[test]
fn a_log_beside_the_rest_of_a_first_start_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path(), true);
    fs::rename(dir.path().join("acked"), dir.path().join("acked.none")).unwrap();
    let store = LogStore::open(&Options::new(dir.path())).unwrap();
    assert_eq!(loaded(&store).0, JobId(0));
    drop(store);
    assert!(dir.path().join("sled.unfinished-1/db").exists());
    fs::write(dir.path().join("acked.none"), b"").unwrap();
    drop(LogStore::open(&Options::new(dir.path())).unwrap());
    assert!(!dir.path().join("acked.none").exists(), "beside a witness it says nothing");
}
