//! Power cuts: the data directory lies on a file system in an image; the writer is stopped, the image copied as the disk
//! has it at that moment, and the copy is mounted and opened. What only the kernel knew of is lost then.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod store_support;

use std::{
    fs,
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use store_support::*;
use taskq_core::{effect::Write, id::JobId};
use taskq_server::store::{LogStore, Lookup, Options, Store, Tuning};

const CHILD: &str = "TASKQ_TEST_POWER";
const CUTS: u64 = 25;
const KEPT: u64 = 60;

fn options(dir: &Path, guard: bool) -> Options {
    let mut options = Options::new(dir.join("data"));
    options.guard = guard;
    options.tuning = Tuning { slack: 1 << 20, lump: 100_000 };
    options
}

/// One commit a job: it is submitted, ends, and pushes an old one out. Now and then a large one, in several parts.
fn batch(id: u64) -> Vec<Write> {
    let mut new = job(id, 1);
    new.spec = vec![b's'; spec_bytes(id)].into();
    let mut writes = vec![Write::Submitted(new), ended(id, 0, 0, "detail"), job_ended(id, 1000 + id)];
    writes.extend(id.checked_sub(KEPT).filter(|gone| *gone > 0).map(|gone| Write::JobGone(JobId(gone))));
    writes
}

fn spec_bytes(id: u64) -> usize {
    if id.is_multiple_of(37) { 200_000 } else { 50 + usize::try_from(id % 3000).unwrap() }
}

/// The writer's process: commits until it is stopped, and says each number that is acknowledged.
fn write_for_ever(dir: &Path, guard: bool) -> ! {
    let store = LogStore::open(&options(dir, guard)).unwrap();
    let mut out = std::io::stdout().lock();
    let mut next = store.load(&mut |_| {}).unwrap().0 + 1;
    writeln!(out, "acked {}", next - 1).unwrap();
    loop {
        store.commit(&batch(next)).unwrap();
        writeln!(out, "acked {next}").unwrap();
        out.flush().unwrap();
        next += 1;
    }
}

/// What a cut did.
#[derive(Debug, PartialEq)]
enum After {
    Whole(u64),
    Lost(String),
}

/// Opens the directory and compares it with what was acknowledged.
fn inspect(dir: &Path, acked: u64, guard: bool) -> After {
    let store = match LogStore::open(&options(dir, guard)) {
        Ok(store) => store,
        Err(error) => return After::Lost(error.to_string()),
    };
    let highest = store.load(&mut |_| {}).unwrap().0;
    if highest < acked {
        return After::Lost(format!("{acked} were acknowledged, {highest} are there"));
    }
    for id in 1..=highest {
        match store.submitted(JobId(id)) {
            Ok(record) if id + KEPT > highest => {
                assert_eq!(record.spec.len(), spec_bytes(id), "job {id}");
                assert!(store.job_ended(JobId(id)).unwrap().is_some());
            }
            Err(Lookup::Gone(_)) if id + KEPT <= highest => {}
            other => panic!("job {id} of {highest}: {other:?}"),
        }
    }
    After::Whole(highest)
}

/// An ext4 image that is mounted while this lives.
struct Disk {
    mount: PathBuf,
}

impl Disk {
    fn mount(image: &Path, at: &Path) -> Option<Disk> {
        fs::create_dir_all(at).unwrap();
        let done = Command::new("mount").args(["-o", "loop"]).arg(image).arg(at).status();
        done.is_ok_and(|s| s.success()).then(|| Disk { mount: at.to_owned() })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A process that was just killed may hold it for a moment.
        let deadline = Instant::now() + Duration::from_secs(20);
        while !Command::new("umount")
            .arg(&self.mount)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
        {
            assert!(Instant::now() < deadline, "cannot unmount {}", self.mount.display());
            std::thread::yield_now();
        }
    }
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

fn signal(child: &Child, name: &str) {
    run(Command::new("kill").args([name, &child.id().to_string()]));
}

/// Writes on the image until it has acknowledged `commits` more, and leaves the image as the disk has it then.
fn cut(image: &Path, work: &Path, guard: bool, commits: u64) -> u64 {
    let disk = Disk::mount(image, &work.join("mnt")).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_power_cut_loses_nothing_that_was_acknowledged", "--nocapture"])
        .env(CHILD, format!("{}:{}", u8::from(guard), disk.mount.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut numbers =
        lines.map_while(Result::ok).filter_map(|l| l.rsplit("acked ").next()?.parse::<u64>().ok());
    let first = numbers.next().expect("the writer starts");
    let acked = numbers.by_ref().find(|n| *n >= first + commits).expect("the writer goes on");
    signal(&child, "-STOP");
    let copy = work.join("copy");
    run(Command::new("cp").arg("--sparse=always").arg(image).arg(&copy));
    child.kill().unwrap();
    child.wait().unwrap();
    drop(disk);
    fs::rename(copy, image).unwrap();
    acked
}

fn cuts(guard: bool, count: u64) -> Option<Vec<After>> {
    let work = tempfile::tempdir().unwrap();
    let image = work.path().join("image");
    let fresh = || {
        run(Command::new("truncate").args(["-s", "512M"]).arg(&image));
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
    };
    fresh();
    let Some(disk) = Disk::mount(&image, &work.path().join("mnt")) else {
        eprintln!("SKIPPED: needs root to mount an image");
        assert!(std::env::var_os("CI").is_none(), "this test must not be skipped in CI");
        return None;
    };
    drop(disk);
    let mut random = StdRng::seed_from_u64(5);
    let mut after = Vec::new();
    for _ in 0..count {
        let acked = cut(&image, work.path(), guard, random.random_range(1..400));
        let disk = Disk::mount(&image, &work.path().join("mnt")).unwrap();
        after.push(inspect(&disk.mount, acked, guard));
        drop(disk);
        if matches!(after.last(), Some(After::Lost(_))) {
            fs::remove_file(&image).unwrap();
            fresh();
        }
    }
    Some(after)
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    if let Ok(told) = std::env::var(CHILD) {
        let (guard, dir) = told.split_once(':').unwrap();
        write_for_ever(Path::new(dir), guard == "1");
    }
    let Some(after) = cuts(true, CUTS) else { return };
    println!("{after:?}");
    assert!(after.iter().all(|a| matches!(a, After::Whole(_))), "{after:?}");
    assert!(matches!(after.last(), Some(After::Whole(n)) if *n > CUTS), "{after:?}");
}

#[test]
fn without_the_guard_a_power_cut_loses_data() {
    let Some(after) = cuts(false, 4) else { return };
    assert!(after.iter().any(|a| matches!(a, After::Lost(_))), "the harness sees no loss: {after:?}");
}
