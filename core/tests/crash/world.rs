//! A coordinator with its disk, its workers, its clients and the network between them, driven by one random history.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use roaring::RoaringBitmap;
use taskq_core::{
    Config, Restore, State,
    effect::{Effect, Outcome, Reply, Write},
    event::{Act, Event, QueueAct},
    id::{Epoch, JobId, Millis, Now, RequestId, SessionId, TaskId, Timestamp, WallTime, WorkerId},
    job::{Key, NewJob, Policy, Retry, Shape},
};

mod clients;
mod heal;
mod network;

use crate::{
    audit::Audit,
    rng::Rng,
    worker::{Link, Worker},
};

const LEASE: u64 = 100;
const NAMES: [&str; 3] = ["a", "b", "c"];
const QUEUES: [&str; 2] = ["red", "blue"];
/// What jobs are: commands, calls on threads, calls on the event loop.
const FUNCTIONS: [Option<&str>; 4] = [None, None, Some("work"), Some("wait")];

pub(crate) struct World {
    rng: Rng,
    now: u64,
    /// No worker dies, no attempt fails, no lease runs out: every task must run exactly once.
    calm: bool,
    /// Print each step.
    trace: bool,
    state: State,
    epoch: u64,
    log: Vec<Write>,
    highest: JobId,
    /// Steps that are not on disk yet.
    pipeline: VecDeque<Outcome>,
    workers: Vec<Worker>,
    /// Messages of broken connections that were under way.
    limbo: Vec<Event>,
    graves: Vec<WorkerId>,
    policies: BTreeMap<JobId, Arc<Policy>>,
    requests: BTreeMap<RequestId, Asked>,
    answered: BTreeMap<[u8; 16], Vec<JobId>>,
    next: u64,
    pub(crate) audit: Audit,
}

#[derive(Clone)]
enum Asked {
    Submit { repeat: [u8; 16], jobs: Vec<NewJob> },
    Cancel { job: JobId, tasks: Vec<u32> },
    Other,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let calm = rng.one_in(4);
        let mut world = World {
            calm,
            trace: std::env::var_os("TASKQ_TRACE").is_some(),
            state: State::new(config(0)),
            epoch: 0,
            log: Vec::new(),
            highest: JobId(0),
            pipeline: VecDeque::new(),
            workers: Vec::new(),
            limbo: Vec::new(),
            graves: Vec::new(),
            policies: BTreeMap::new(),
            requests: BTreeMap::new(),
            answered: BTreeMap::new(),
            next: 1,
            audit: Audit::default(),
            now: 1,
            rng,
        };
        world.restart();
        world
    }

    /// One random history, then everything heals and must come to its end.
    pub(crate) fn run(&mut self) {
        let steps = 60 + self.rng.below(140);
        for _ in 0..steps {
            self.act();
        }
        self.heal();
        self.state.check().expect("the invariants hold at the end");
        assert_eq!(self.audit.open_jobs(), 0, "every job ends once everything is well again");
        if self.calm {
            for (task, runs) in &self.audit.runs {
                assert_eq!(*runs, 1, "{task:?} ran {runs} times, and nothing went wrong");
            }
        }
    }

    fn act(&mut self) {
        match self.rng.below(34) {
            0..=2 => self.submit(),
            3 => self.client_act(),
            4 => self.queue_act(),
            5..=9 => self.sync(),
            10..=13 => self.deliver(),
            14..=16 => self.work(),
            17..=19 => self.uplink(),
            20..=22 => self.with_worker(|worker, world| worker.start(&world.policies, &mut world.audit)),
            23..=25 => {
                self.with_worker(|worker, world| worker.finish(&mut world.rng, &world.policies, world.calm))
            }
            26 | 27 => self.connect(),
            28 => self.disconnect(),
            29 => self.pass_time(),
            30 => self.crash(),
            31 => self.mishap(),
            32 => self.limbo(),
            _ => self.repeat(),
        }
        self.keep_calm();
    }

    // -- the coordinator --

    /// The wall clock is set by somebody at every step: nothing may depend on it.
    fn clocks(&mut self) -> Now {
        Now { mono: Timestamp(self.now), wall: WallTime(self.rng.below(1 << 42)) }
    }

    fn step(&mut self, event: Event) {
        let mut out = Outcome::default();
        let now = self.clocks();
        let told = self.trace.then(|| format!("{:>6} {event:?}", self.now));
        self.state.step(now, event, &mut out);
        if let Some(told) = told {
            println!("{told}\n       -> {:?}\n       => {:?}", out.writes, out.effects);
        }
        match self.pipeline.back_mut() {
            Some(last) if self.rng.one_in(2) => {
                last.writes.extend(out.writes);
                last.effects.extend(out.effects);
            }
            _ => self.pipeline.push_back(out),
        }
    }

    /// The oldest batch becomes durable; then, and only then, its effects are seen.
    fn sync(&mut self) {
        let Some(batch) = self.pipeline.pop_front() else { return };
        for write in batch.writes {
            self.durable(write);
        }
        for effect in batch.effects {
            self.effect(effect);
        }
    }

    fn durable(&mut self, write: Write) {
        self.audit.durable(&write);
        if let Write::Submitted(job) = &write {
            self.highest = self.highest.max(job.id);
            self.policies.insert(job.id, job.policy.clone());
        }
        self.log.push(write);
    }

    fn effect(&mut self, effect: Effect) {
        if let Effect::Assign { unit, .. } = &effect {
            self.audit.sent(unit);
        }
        let session = match &effect {
            Effect::Reply(request, reply) => return self.reply(*request, reply.clone()),
            Effect::Welcome { session, .. }
            | Effect::Assign { session, .. }
            | Effect::Committed { session, .. } => *session,
            Effect::Refuse(session, _) | Effect::Cancel(session, _) | Effect::Abandon(session, _) => *session,
            Effect::Drain(session) | Effect::Close(session) => *session,
        };
        let worker = self.workers.iter_mut().find(|worker| worker.session() == Some(session));
        if let Some(Worker { link: Link::Up { down, .. }, .. }) = worker {
            down.push_back(effect);
        }
    }

    fn reply(&mut self, request: RequestId, reply: Reply) {
        let Some(asked) = self.requests.remove(&request) else { return };
        match (asked, reply) {
            (Asked::Submit { repeat, .. }, Reply::Submitted { ids, .. }) => {
                for id in &ids {
                    assert!(self.audit.jobs.contains_key(id), "job {id} is acknowledged and not durable");
                }
                let first = self.answered.entry(repeat).or_insert_with(|| ids.clone());
                assert_eq!(*first, ids, "a repeated submit gets the first answer");
            }
            (Asked::Cancel { job, tasks }, Reply::Acted { .. }) => {
                let open = self.audit.jobs.get(&job).is_some_and(|record| !record.closed);
                if open {
                    let tasks = tasks.into_iter().filter(|index| !self.audit.has_ended(job, *index));
                    let tasks: Vec<TaskId> = tasks.map(|index| TaskId { job, index }).collect();
                    self.audit.cancelled.extend(tasks);
                }
            }
            (Asked::Submit { .. } | Asked::Cancel { .. } | Asked::Other, _) => {}
        }
    }

    /// What is not on disk never happened; nobody is connected any more.
    fn crash(&mut self) {
        self.pipeline.clear();
        self.limbo.clear();
        for worker in &mut self.workers {
            worker.link = Link::Down;
            worker.heard = Timestamp(self.now);
        }
        if self.trace {
            println!("{:>6} crash", self.now);
        }
        self.restart();
    }

    fn restart(&mut self) {
        let mut restore = Restore::new();
        for write in self.kept() {
            restore.apply(write);
        }
        assert_eq!(restore.epoch().0, self.epoch, "the epoch is kept");
        self.epoch += 1;
        let mut out = Outcome::default();
        let now = self.clocks();
        self.state = restore.finish(config(self.epoch), self.highest, now, &mut out);
        self.state.check().expect("the invariants hold after a restart");
        assert!(out.effects.is_empty(), "nobody is there to be told");
        for write in out.writes {
            self.durable(write);
        }
        for (id, record) in &self.audit.jobs {
            assert_eq!(
                self.state.is_live(*id),
                !record.closed,
                "job {id} is live exactly while it has not ended"
            );
        }
    }

    /// What a store gives back: in any order, and now and then without what was superseded.
    fn kept(&mut self) -> Vec<Write> {
        let mut writes = self.log.clone();
        if self.rng.one_in(2) {
            writes = compact(writes);
            self.log.clone_from(&writes);
        }
        for at in (1..writes.len()).rev() {
            let other = self.rng.below(at as u64 + 1) as usize;
            writes.swap(at, other);
        }
        writes
    }

    fn pass_time(&mut self) {
        let ms = if self.calm { self.rng.below(10) } else { self.rng.below(LEASE * 2 / 3) };
        // Now and then the scheduler is stopped meanwhile.
        if self.rng.one_in(8) {
            self.now += ms;
        }
        self.pass(ms);
    }

    /// Time passes, deadline by deadline.
    fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(at) = self.state.next_deadline().filter(|at| at.0 <= end) {
            self.now = self.now.max(at.0);
            self.step(Event::Tick);
        }
        self.now = end;
    }

    /// In calm histories everybody is heard within the lease.
    fn keep_calm(&mut self) {
        if !self.calm {
            return;
        }
        let late = Timestamp(self.now.saturating_sub(LEASE / 4));
        let names: BTreeSet<Arc<str>> = self
            .workers
            .iter()
            .filter(|worker| worker.heard < late)
            .map(|worker| worker.name.clone())
            .collect();
        for name in names {
            self.settle(&name);
        }
    }

    /// One worker connects, and everything under way to and from it arrives.
    fn settle(&mut self, name: &str) {
        while !self.limbo.is_empty() {
            self.limbo();
        }
        let Some(at) = self.workers.iter().position(|worker| *worker.name == *name) else { return };
        let mut worker = self.workers.swap_remove(at);
        if let Link::Up { cut: true, session, .. } = worker.link {
            worker.link = Link::Down;
            self.step(Event::Disconnected { session });
        }
        if matches!(worker.link, Link::Down) {
            self.next += 1;
            worker.connect(SessionId(self.next));
        }
        worker.flush();
        self.workers.push(worker);
        let mut idle = 0;
        while idle < 2 {
            idle += 1;
            while !self.pipeline.is_empty() {
                self.sync();
            }
            let Some(worker) = self.workers.last_mut() else { return };
            let Link::Up { up, down, .. } = &mut worker.link else { break };
            let (up, down) = (std::mem::take(up), std::mem::take(down));
            if !up.is_empty() || !down.is_empty() {
                idle = 0;
            }
            for effect in down {
                worker.receive(effect, Timestamp(self.now), &mut self.audit);
            }
            for event in up {
                self.step(event);
            }
        }
        if let Some(worker) = self.workers.last_mut() {
            worker.heard = Timestamp(self.now);
        }
        self.workers.retain(|worker| !worker.dead);
    }
}

fn config(epoch: u64) -> Config {
    Config {
        lease: Millis(LEASE),
        grace: Millis(LEASE * 2),
        epoch: Epoch(epoch),
        lost_kept: Millis(LEASE * 4),
        ..Config::default()
    }
}

/// Drops what is superseded, and tasks of jobs that have ended.
fn compact(writes: Vec<Write>) -> Vec<Write> {
    let mut ended = BTreeSet::new();
    let mut latest: BTreeMap<TaskId, u32> = BTreeMap::new();
    let mut revisions: BTreeMap<JobId, u64> = BTreeMap::new();
    let mut gone = BTreeSet::new();
    let mut epoch = 0;
    for write in &writes {
        match write {
            Write::JobEnded { job, .. } => {
                ended.insert(*job);
            }
            Write::Attempt { task, attempt, .. } => {
                latest.insert(*task, attempt.0);
            }
            Write::Job { job, revision, .. } => {
                revisions.insert(*job, *revision);
            }
            Write::WorkerGone(worker) => {
                gone.insert(*worker);
            }
            Write::Epoch(number) => epoch = number.0,
            _ => {}
        }
    }
    let kept = |write: &Write| match write {
        Write::Epoch(number) => number.0 == epoch,
        Write::Attempt { task, attempt, .. } => !ended.contains(&task.job) && latest[task] == attempt.0,
        Write::Job { job, revision, .. } => !ended.contains(job) && revisions[job] == *revision,
        Write::Ended { job, .. } => !ended.contains(job),
        Write::WorkerSeen { worker, .. } => !gone.contains(worker),
        Write::WorkerGone(_) | Write::Output { .. } => false,
        Write::Submitted(_) | Write::JobEnded { .. } | Write::JobGone(_) | Write::Queue { .. } => true,
    };
    writes.into_iter().filter(kept).collect()
}
