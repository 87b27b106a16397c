//! Records per second that the durable store takes, by batch size, beside the bare sync rate of the same disk; then the
//! time to load a million queued jobs and the memory of the index. `cargo bench -p taskq-server --bench store [DIR]`.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use taskq_core::{
    effect::{Submitted, Write},
    id::{JobId, Millis, WallTime},
    job::{Policy, Retry, Shape},
};
use taskq_server::store::{LogStore, Options, Store};

const SPAN: Duration = Duration::from_secs(2);

fn main() {
    let parent = std::env::args().skip(1).find(|a| !a.starts_with("--")).unwrap_or_else(|| ".".to_owned());
    let dir = tempfile::tempdir_in(parent).expect("make a directory");
    println!("fdatasync of 300 appended bytes: {:.0}/s", syncs(dir.path()));
    for batch in [1, 10, 100, 1000] {
        let at = dir.path().join(batch.to_string());
        let (rate, worst) = records(&at, batch);
        println!("batches of {batch:>4}: {rate:>9.0} records/s, longest commit {worst:?}");
        fs::remove_dir_all(at).expect("clean up");
    }
    million(&dir.path().join("million"));
}

fn syncs(dir: &Path) -> f64 {
    let mut file = File::create(dir.join("plain")).expect("create");
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < SPAN {
        file.write_all(&[1; 300]).expect("write");
        file.sync_data().expect("sync");
        count += 1;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

/// Submissions with specs of 200 bytes, forgotten 100,000 jobs later.
fn records(dir: &Path, batch: u64) -> (f64, Duration) {
    let store = LogStore::open(&Options::new(dir)).expect("open");
    let policy = Arc::new(policy());
    let (start, mut next, mut worst) = (Instant::now(), 1, Duration::ZERO);
    while start.elapsed() < SPAN {
        let mut writes: Vec<Write> = (next..next + batch).map(|id| submit(id, &policy)).collect();
        writes.extend(
            (next..next + batch).filter_map(|id| id.checked_sub(100_000)).map(|id| Write::JobGone(JobId(id))),
        );
        next += batch;
        let begun = Instant::now();
        store.commit(&writes).expect("commit");
        worst = worst.max(begun.elapsed());
    }
    ((next - 1) as f64 / start.elapsed().as_secs_f64(), worst)
}

fn million(dir: &Path) {
    let store = LogStore::open(&Options::new(dir)).expect("open");
    let policy = Arc::new(policy());
    for first in (1..=1_000_000).step_by(100) {
        let writes: Vec<Write> = (first..first + 100).map(|id| submit(id, &policy)).collect();
        store.commit(&writes).expect("commit");
    }
    let before = Instant::now();
    drop(store);
    println!("close with 1,000,000 queued jobs: {:?}", before.elapsed());
    let rss = rss_bytes();
    let start = Instant::now();
    let store = LogStore::open(&Options::new(dir)).expect("open");
    let opened = start.elapsed();
    let mut facts = 0;
    store.load(&mut |_| facts += 1).expect("load");
    println!("open {opened:?}, open and load {:?}, {facts} facts", start.elapsed());
    println!("memory {} MB, {} MB before opening; log {:?}", rss_bytes() >> 20, rss >> 20, store.shape());
}

fn rss_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn submit(id: u64, policy: &Arc<Policy>) -> Write {
    Write::Submitted(Submitted {
        id: JobId(id),
        policy: policy.clone(),
        total: 1,
        only: None,
        key: None,
        repeat: None,
        place: (0, 1),
        rerun_of: None,
        wall: WallTime(1_700_000_000_000 + id),
        spec: Bytes::from(vec![b's'; 200]),
    })
}

fn policy() -> Policy {
    Policy {
        queue: "default".into(),
        priority: 0,
        shape: Shape { slots: 1, ..Shape::default() },
        retry: Retry {
            max_attempts: 1,
            initial: Millis(1000),
            multiplier_milli: 2000,
            max: Millis(60_000),
            exit_codes: vec![],
        },
        timeout: None,
        kill_grace: Millis(10_000),
        crash_limit: 3,
        max_parallel: None,
        max_fails: None,
        keep: None,
    }
}
