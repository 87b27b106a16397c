//! Size: what a million of something costs, and that memory and disk stay flat.
//!
//! The figures are promised for release binaries, which `make test` uses. Within CI's time the drain takes 100,000
//! tasks and the soak 300,000 jobs at a retention of 10,000; `make soak` takes 1,000,000 and 3,000,000 at 100,000.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use taskq_proto::v1 as pb;
use taskq_tests::{Access, Api, Cluster, FakeWorker, Seed, Setup, procs, spec, wait};

const MILLION: u64 = 1_000_000;
const MIB: u64 = 1 << 20;

/// Longest time for one of the bulk steps of these tests.
const BULK: Duration = Duration::from_secs(900);

fn full() -> bool {
    std::env::var("TASKQ_SOAK").as_deref() == Ok("full")
}

/// These tests measure: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn resident(cluster: &Cluster) -> u64 {
    procs::resident_bytes(cluster.server_pid()).expect("the coordinator lives")
}

#[test]
fn a_million_task_array_is_submitted_at_once_and_costs_little() {
    let _alone = alone();
    let cluster = Cluster::start();
    let api = cluster.api();
    api.submit_one(spec::command(&["true"]));
    let before = resident(&cluster);
    let mut times = Vec::new();
    for _ in 0..5 {
        let request = spec::request(vec![spec::array(spec::command(&["true"]), MILLION as u32)]);
        let start = Instant::now();
        api.submit(&request).expect("submit");
        times.push(start.elapsed());
    }
    times.sort();
    let added = resident(&cluster).saturating_sub(before) / 5;
    let typed =
        (0..5).map(|_| cluster.taskq(&["submit", "--array", "1-1000000", "--", "true"]).ok().wall).min();
    println!(
        "array of 1,000,000: {:?} over gRPC, {typed:?} with the command line; {added} bytes each",
        times[2]
    );
    assert!(times[2] < Duration::from_millis(50), "{times:?}");
    assert!(typed < Some(Duration::from_millis(250)), "with a process start and a poll's step: {typed:?}");
    assert!(added < 10 * MIB, "{added} bytes");
}

#[test]
fn draining_an_array_keeps_memory_flat() {
    let _alone = alone();
    let tasks = if full() { MILLION } else { 100_000 };
    let cluster = Cluster::start();
    let api = cluster.api();
    let workers = FakeWorkers::start(&cluster.access(), 2);
    let id = api.submit_one(spec::array(spec::command(&["true"]), tasks as u32));
    let mut samples = Vec::new();
    let start = Instant::now();
    wait::until_within(BULK, "the array is drained", || {
        let job = api.get(id).ok()?;
        samples.push((u64::from(job.counts?.succeeded), resident(&cluster)));
        spec::is_terminal(job.state).then_some(())
    });
    let seconds = start.elapsed().as_secs_f64();
    let early = samples.iter().find(|(done, _)| *done > tasks / 10).map_or(0, |(_, bytes)| *bytes);
    let late = samples.last().map_or(0, |(_, bytes)| *bytes);
    println!("drained {tasks} tasks in {seconds:.1} s; {early} bytes at a tenth, {late} at the end");
    assert!(late < early + early / 4 + 24 * MIB, "resident memory grew from {early} to {late}");
    workers.stop();
}

#[test]
fn a_million_queued_jobs_cost_under_200_bytes_each_and_restart_within_5_s() {
    let _alone = alone();
    let mut cluster = Setup::new().start();
    let api = cluster.api();
    submit_many(&api, 10_000);
    let before = resident(&cluster);
    let start = Instant::now();
    let mut quarters = Vec::new();
    for _ in 0..4 {
        submit_many(&api, MILLION / 4);
        quarters.push(resident(&cluster).saturating_sub(before));
    }
    let seconds = start.elapsed().as_secs_f64();
    let each = resident(&cluster).saturating_sub(before) / MILLION;
    println!(
        "1,000,000 jobs submitted in {seconds:.1} s, {each} bytes each; added at each quarter: {quarters:?}"
    );

    cluster.kill_server();
    let start = Instant::now();
    cluster.launch_server();
    let api = wait::until("the coordinator serves again", || cluster.api_if_ready());
    let served = start.elapsed();
    let queued = api.stats().expect("stats").tasks_queued;
    println!(
        "restart with {queued} queued jobs: serves after {served:?}, {} bytes resident",
        resident(&cluster)
    );
    assert_eq!(queued, MILLION + 10_000);
    assert!(served < Duration::from_secs(5), "{served:?}");
    assert!(each < 200, "{each} bytes for each queued job");
}

#[test]
fn a_soak_keeps_memory_and_disk_flat() {
    let _alone = alone();
    let (jobs, keep) = if full() { (3 * MILLION, 100_000) } else { (300_000, 10_000) };
    let mut seed = Seed::new("soak");
    let cluster = Setup::new().flags(&["--keep-jobs", &keep.to_string()]).start();
    let api = cluster.api();
    let workers = FakeWorkers::start(&cluster.access(), 2);
    let (mut submitted, mut samples) = (0, Vec::new());
    while submitted < jobs {
        let batch = mixed(&mut seed);
        submitted += batch.len() as u64;
        let last = *api.submit(&spec::request(batch)).expect("submit").last().expect("an id");
        // A bounded backlog: what is measured is the flow, not a queue.
        wait::until_within(BULK, "the backlog is worked off", || {
            let stats = api.stats().ok()?;
            (stats.jobs_live < 20_000).then_some(())
        });
        if submitted / (jobs / 60) > samples.len() as u64 {
            samples.push((last, resident(&cluster), procs::disk_bytes(&cluster.data())));
        }
    }
    wait::until_within(BULK, "everything has ended", || (api.stats().ok()?.jobs_live == 0).then_some(()));
    wait::until_within(BULK, "retention has removed the old", || {
        (api.stats().ok()?.jobs_kept <= keep + keep / 10).then_some(())
    });
    let third = samples.len() / 3;
    let most = |range: &[(u64, u64, u64)]| {
        range.iter().fold((0, 0), |most: (u64, u64), sample| (most.0.max(sample.1), most.1.max(sample.2)))
    };
    let (middle, last) = (most(&samples[third..2 * third]), most(&samples[2 * third..]));
    println!(
        "{submitted} jobs; memory and disk at most {middle:?} in the second third, {last:?} in the last"
    );
    for (id, memory, disk) in samples.iter().step_by(6) {
        println!("  at job {id}: {} MiB of memory, {} MiB of disk", memory / MIB, disk / MIB);
    }
    assert!(last.0 < middle.0 + middle.0 / 5 + 16 * MIB, "memory grows: {middle:?}, then {last:?}");
    assert!(last.1 < middle.1 + middle.1 / 3 + 64 * MIB, "the disk grows: {middle:?}, then {last:?}");
    let oldest = api.get(1).expect_err("the first job is beyond retention");
    assert_eq!(oldest.code(), tonic::Code::NotFound, "{oldest}");
    workers.stop();
}

/// Jobs of mixed shapes, one request's worth: alone, in small and in large batches, arrays, with labels and long
/// arguments.
fn mixed(seed: &mut Seed) -> Vec<pb::JobSpec> {
    let size = *seed.pick(&[1, 1, 10, 100, 1_000, 1_000, 5_000]);
    let shape = seed.number(1, 6);
    let text = "x".repeat(seed.number(1, 200) as usize);
    let job = |number: u64| {
        let mut one = spec::command(&["echo", &text]);
        match shape {
            1 => one = spec::array(one, 5),
            2 => drop(one.labels.insert("number".to_owned(), number.to_string())),
            3 => one.queue = format!("queue-{}", number % 7),
            4 => one.priority = (number % 5) as i32,
            _ => {}
        }
        one
    };
    (0..size).map(job).collect()
}

fn submit_many(api: &Api, count: u64) {
    for _ in 0..count / 10_000 {
        let ids = api.submit(&spec::request(vec![spec::command(&["true"]); 10_000])).expect("submit");
        assert_eq!(ids.len(), 10_000);
    }
}

/// Workers that run nothing and report success, on a thread of their own.
struct FakeWorkers {
    stop: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl FakeWorkers {
    fn start(access: &Access, count: u32) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let access = access.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                for number in 0..count {
                    let name = format!("fake-{number}");
                    let (mut worker, _) = FakeWorker::join(&access, &name, 64, 4_096).await.expect("join");
                    // It ends with the runtime.
                    tokio::spawn(async move { worker.work().await });
                }
                // Sent or dropped: both mean stop.
                let _ = stopped.await;
            });
        });
        Self { stop, thread }
    }

    fn stop(self) {
        drop(self.stop);
        assert!(self.thread.join().is_ok(), "a fake worker failed");
    }
}
