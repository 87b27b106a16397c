//! Steps per second and bytes per queued job: `cargo bench -p taskq-core`.

use std::{collections::BTreeMap, fs, sync::Arc, time::Instant};

use bytes::Bytes;
use taskq_core::{
    Config, State,
    effect::{Effect, Outcome},
    event::{Event, Report, ReportKind, Verdict, WorkerHello},
    id::{Lease, Now, RequestId, SessionId, TaskId, Timestamp, WorkerId},
    job::{NewJob, Policy, Retry, Shape},
};

const JOBS: u32 = 1_000_000;

fn main() {
    singles();
    array();
}

/// A million separate jobs come in, a hundred a call, and are drained by one worker.
fn singles() {
    let mut state = State::new(Config::default());
    let before = rss();
    let start = Instant::now();
    for request in 0..u64::from(JOBS) / 100 {
        let jobs = (0..100).map(|_| job(1)).collect();
        let mut out = Outcome::default();
        state.step(at(request), Event::Submit { request: RequestId(request), repeat: None, jobs }, &mut out);
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "submit: {:.0} jobs/s, {} bytes a queued job",
        f64::from(JOBS) / seconds,
        (rss() - before) / u64::from(JOBS)
    );
    drain(&mut state, "single jobs");
}

/// The same as one array.
fn array() {
    let mut state = State::new(Config::default());
    let before = rss();
    let start = Instant::now();
    let event = Event::Submit { request: RequestId(0), repeat: None, jobs: vec![job(JOBS)] };
    state.step(at(0), event, &mut Outcome::default());
    println!("array of {JOBS}: submitted in {:?}", start.elapsed());
    drain(&mut state, "array");
    println!("array: {} KiB grown while drained", rss().saturating_sub(before) / 1024);
}

fn drain(state: &mut State, what: &str) {
    let session = SessionId(1);
    let worker = WorkerHello {
        id: WorkerId(1),
        name: Arc::from("w"),
        host: Arc::from("h"),
        version: Arc::from("1"),
        async_slots: 0,
        busy: 0,
        async_busy: 0,
        functions: BTreeMap::new(),
        commands: true,
        address: Arc::from(""),
        slots: 64,
        named: BTreeMap::new(),
        labels: BTreeMap::new(),
        window: 1_024,
        held: Vec::new(),
        draining: false,
    };
    let start = Instant::now();
    let mut out = Outcome::default();
    state.step(at(1), Event::Hello { session, worker }, &mut out);
    let (mut steps, mut ended, mut seq) = (0_u32, 0_u32, 0);
    while ended < JOBS {
        let reports: Vec<Report> = out.effects.iter().flat_map(ends).collect();
        assert!(!reports.is_empty(), "the worker is never left without work");
        ended += reports.len() as u32;
        seq += 1;
        steps += 1;
        out = Outcome::default();
        state.step(at(1), Event::Reports { session, seq, reports }, &mut out);
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{what}: {:.0} tasks/s in {steps} steps", f64::from(JOBS) / seconds);
}

fn ends(effect: &Effect) -> Vec<Report> {
    let Effect::Assign { unit, .. } = effect else { return Vec::new() };
    let indices = unit.spans.iter().flat_map(|(first, many)| *first..*first + *many);
    let what = ReportKind::Ended {
        verdict: Verdict::Succeeded,
        wall_us: 1_000,
        detail: Bytes::new(),
        blob: None,
        last_output: vec![],
    };
    indices
        .map(|index| {
            let lease =
                Lease { task: TaskId { job: unit.job, index }, attempt: unit.attempt, epoch: unit.epoch };
            Report { lease, what: what.clone() }
        })
        .collect()
}

fn job(total: u32) -> NewJob {
    let policy = Policy {
        queue: Arc::from("default"),
        priority: 0,
        shape: Shape { slots: 1, ..Shape::default() },
        retry: Retry {
            max_attempts: 1,
            initial: taskq_core::id::Millis(1_000),
            multiplier_milli: 2_000,
            max: taskq_core::id::Millis(60_000),
            exit_codes: Vec::new(),
        },
        timeout: None,
        kill_grace: taskq_core::id::Millis(10_000),
        crash_limit: 3,
        max_parallel: None,
        max_fails: None,
        keep: None,
    };
    NewJob { policy, total, only: None, key: None, rerun_of: None, spec: Bytes::new() }
}

fn at(ms: u64) -> Now {
    Now { mono: Timestamp(ms), ..Now::default() }
}

/// Resident bytes of this process.
fn rss() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}
