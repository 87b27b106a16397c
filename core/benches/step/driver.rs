//! A shell around the scheduler, as far as a bench needs one: it submits, and it is the worker that ends what it is
//! given. It times the steps, and nothing of its own.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use taskq_core::{
    Config, State,
    effect::{Effect, Outcome, Reply, Stats},
    event::{Act, Event, Question, Report, ReportKind, Verdict, WorkerHello},
    id::{JobId, Lease, Millis, Now, RequestId, SessionId, TaskId, Timestamp, WorkerId},
    job::{Limits, NewJob, Policy, Retry, Shape},
};

/// What a worker of two slots that serves functions takes ahead, and the most reports that it sends in one message.
const WINDOW: u32 = 8_194;
const REPORTS: usize = 512;

pub(crate) struct Driver {
    state: State,
    requests: u64,
    /// Milliseconds since the start; one goes by with each message of a worker.
    now: u64,
    workers: u64,
    /// What the worker was given and has not ended, in order.
    held: VecDeque<Lease>,
}

impl Driver {
    pub(crate) fn new() -> Driver {
        let state = State::new(Config::default());
        Driver { state, requests: 0, now: 1, workers: 0, held: VecDeque::new() }
    }

    /// Submits jobs in one step, with a request id as every client gives one.
    pub(crate) fn submit(&mut self, jobs: Vec<NewJob>) -> (Vec<JobId>, Duration) {
        let request = self.request();
        let mut repeat = [0; 16];
        repeat[..8].copy_from_slice(&request.0.to_le_bytes());
        let (out, time) = self.step(Event::Submit { request, repeat: Some(repeat), jobs });
        let Some(Reply::Submitted { ids, .. }) = reply(&out) else { panic!("submitted: {:?}", out.effects) };
        (ids.clone(), time)
    }

    /// Cancels jobs of which nothing runs.
    pub(crate) fn cancel(&mut self, jobs: &[JobId]) {
        for job in jobs {
            let request = self.request();
            self.step(Event::Act { request, job: *job, act: Act::Cancel(None), dry_run: false });
            assert!(!self.state.is_live(*job), "a cancelled job of which nothing runs has ended");
        }
    }

    /// A worker comes, ends every task that there is, and leaves. How many it ended, and the time from hello to the last.
    pub(crate) fn drain(&mut self) -> (u64, Duration) {
        self.workers += 1;
        let session = SessionId(self.workers);
        let (_, mut time) = self.step(Event::Hello { session, worker: hello(WorkerId(self.workers)) });
        let (mut ended, mut seq) = (0, 0);
        loop {
            while self.state.next_deadline() == Some(Timestamp(0)) {
                time += self.step(Event::Tick).1;
            }
            let many = REPORTS.min(self.held.len());
            if many == 0 {
                break;
            }
            let reports: Vec<Report> = self.held.drain(..many).map(report).collect();
            ended += many as u64;
            seq += 1;
            self.now += 1;
            time += self.step(Event::Reports { session, seq, reports }).1;
        }
        self.step(Event::Goodbye { session, seq: seq + 1 });
        assert_eq!(self.stats().queued + self.stats().running, 0, "the worker was never left without work");
        (ended, time)
    }

    fn stats(&mut self) -> Stats {
        let request = self.request();
        let (out, _) = self.step(Event::Ask { request, question: Question::Stats });
        let Some(Reply::Stats(stats)) = reply(&out) else { panic!("stats: {:?}", out.effects) };
        *stats
    }

    fn step(&mut self, event: Event) -> (Outcome, Duration) {
        let now = Now { mono: Timestamp(self.now), ..Now::default() };
        let mut out = Outcome::default();
        let start = Instant::now();
        self.state.step(now, event, &mut out);
        let time = start.elapsed();
        self.held.extend(out.effects.iter().flat_map(leases));
        (out, time)
    }

    fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }
}

fn hello(id: WorkerId) -> WorkerHello {
    WorkerHello {
        id,
        name: Arc::from("w"),
        host: Arc::from("h"),
        version: Arc::from("1"),
        slots: 2,
        named: BTreeMap::new(),
        labels: BTreeMap::new(),
        async_slots: 0,
        busy: 0,
        async_busy: 0,
        functions: BTreeMap::new(),
        commands: true,
        limits: Limits::default(),
        address: Arc::from(""),
        window: WINDOW,
        held: Vec::new(),
        draining: false,
    }
}

fn reply(out: &Outcome) -> Option<&Reply> {
    out.effects.iter().find_map(|effect| match effect {
        Effect::Reply(_, reply) => Some(reply),
        _ => None,
    })
}

fn leases(effect: &Effect) -> Vec<Lease> {
    let Effect::Assign { unit, .. } = effect else { return Vec::new() };
    let indices = unit.spans.iter().flat_map(|(first, many)| *first..*first + *many);
    let lease =
        |index| Lease { task: TaskId { job: unit.job, index }, attempt: unit.attempt, epoch: unit.epoch };
    indices.map(lease).collect()
}

fn report(lease: Lease) -> Report {
    let what = ReportKind::Ended {
        verdict: Verdict::Succeeded,
        wall_us: 20,
        detail: Bytes::from_static(b"the outcome, as its worker encoded it"),
        blob: None,
        last_output: Vec::new(),
    };
    Report { lease, what }
}

/// So many equal jobs.
pub(crate) fn jobs(many: u32, elements: u32) -> Vec<NewJob> {
    let policy = Policy {
        queue: Arc::from("default"),
        priority: 0,
        shape: Shape { slots: 1, ..Shape::default() },
        retry: Retry {
            max_attempts: 1,
            initial: Millis(1_000),
            multiplier_milli: 2_000,
            max: Millis(60_000),
            exit_codes: Vec::new(),
        },
        timeout: None,
        kill_grace: Millis(10_000),
        crash_limit: 3,
        max_parallel: None,
        max_fails: None,
        keep: None,
    };
    let job = NewJob { policy, total: elements, only: None, key: None, rerun_of: None, spec: Bytes::new() };
    vec![job; many as usize]
}
