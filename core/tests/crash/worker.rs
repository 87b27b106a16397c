//! A worker process as it should be: runs what it is given, keeps what is not confirmed, does as it is told.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use taskq_core::{
    effect::{Effect, Unit},
    event::{Event, Progress, Report, ReportKind, Verdict, WorkerHello},
    id::{Lease, SessionId, TaskId, Timestamp, WorkerId},
    job::{Limits, Policy, Runtime, SlotKind},
};

use crate::{audit::Audit, rng::Rng};

pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) name: Arc<str>,
    slots: u32,
    async_slots: u32,
    /// Of `slots`, how many threads go on without a task.
    busy: u32,
    /// It is to be said.
    busy_changed: bool,
    window: u32,
    pub(crate) link: Link,
    holds: BTreeMap<Lease, Hold>,
    /// Tasks that came until now.
    came: u64,
    cancels: BTreeSet<Lease>,
    /// Reports without confirmation, with the message they went in, in this session.
    unconfirmed: Vec<(Report, Option<u64>)>,
    seq: u64,
    pub(crate) draining: bool,
    /// It has said goodbye in this session: whatever still comes is not for it.
    left: bool,
    pub(crate) heard: Timestamp,
    pub(crate) dead: bool,
}

pub(crate) enum Link {
    Down,
    /// Both directions keep their order; what is in them is lost with the connection.
    Up {
        session: SessionId,
        welcome: bool,
        up: VecDeque<Event>,
        down: VecDeque<Effect>,
        cut: bool,
    },
}

#[derive(Clone, Copy, PartialEq)]
enum Hold {
    /// As the so-manieth that came.
    Waiting(u64),
    Running,
}

impl Worker {
    pub(crate) fn new(id: WorkerId, name: &str, rng: &mut Rng, now: Timestamp) -> Worker {
        let slots = 2 + rng.below(2) as u32;
        let async_slots = 2 + rng.below(3) as u32;
        let window = slots + async_slots + rng.below(4) as u32;
        Worker {
            id,
            name: Arc::from(name),
            slots,
            async_slots,
            busy: 0,
            busy_changed: false,
            window,
            link: Link::Down,
            holds: BTreeMap::new(),
            came: 0,
            cancels: BTreeSet::new(),
            unconfirmed: Vec::new(),
            seq: 0,
            draining: false,
            left: false,
            heard: now,
            dead: false,
        }
    }

    /// Big enough for anything.
    pub(crate) fn widen(&mut self) {
        self.slots = 3;
        self.async_slots = 4;
        self.window = 10;
    }

    pub(crate) fn connect(&mut self, session: SessionId) {
        let mut held: BTreeSet<Lease> = self.holds.keys().copied().collect();
        held.extend(
            self.unconfirmed.iter().filter(|(report, _)| is_end(report)).map(|(report, _)| report.lease),
        );
        for (_, seq) in &mut self.unconfirmed {
            *seq = None;
        }
        self.seq = 1;
        self.left = false;
        self.busy_changed = false;
        let hello = WorkerHello {
            id: self.id,
            name: self.name.clone(),
            host: Arc::from("h"),
            version: Arc::from("1"),
            slots: self.slots,
            named: BTreeMap::new(),
            labels: BTreeMap::new(),
            async_slots: self.async_slots,
            busy: self.busy,
            async_busy: 0,
            functions: BTreeMap::from([
                (Arc::from("work"), Runtime::Threads),
                (Arc::from("wait"), Runtime::Async),
            ]),
            commands: true,
            limits: Limits::default(),
            address: Arc::from("a"),
            window: self.window,
            held: held.into_iter().collect(),
            draining: self.draining,
        };
        let up = VecDeque::from([Event::Hello { session, worker: hello }]);
        self.link = Link::Up { session, welcome: false, up, down: VecDeque::new(), cut: false };
    }

    pub(crate) fn session(&self) -> Option<SessionId> {
        match &self.link {
            Link::Up { session, .. } => Some(*session),
            Link::Down => None,
        }
    }

    /// One message of the coordinator arrives.
    pub(crate) fn receive(&mut self, effect: Effect, now: Timestamp, audit: &mut Audit) {
        self.heard = now;
        match effect {
            Effect::Welcome { abandon, .. } => {
                audit.may_hold(self.id);
                for lease in abandon {
                    self.drop(&lease);
                }
                if let Link::Up { welcome, .. } = &mut self.link {
                    *welcome = true;
                }
                self.flush();
            }
            Effect::Refuse(_, refusal) => {
                self.link = Link::Down;
                if matches!(refusal, taskq_core::effect::Refusal::Buried) {
                    self.dead = true;
                }
            }
            Effect::Assign { .. } if self.left => {}
            Effect::Assign { unit, .. } => self.take(&unit, audit),
            Effect::Cancel(_, lease) => {
                self.cancels.insert(lease);
            }
            Effect::Abandon(_, lease) => self.drop(&lease),
            Effect::Committed { seq, .. } => {
                self.unconfirmed.retain(|(_, sent)| sent.is_none_or(|sent| sent > seq));
            }
            Effect::Drain(_) => self.draining = true,
            Effect::Close(_) => self.link = Link::Down,
            Effect::Reply(..) => panic!("a reply goes to a client"),
        }
    }

    fn take(&mut self, unit: &Unit, audit: &mut Audit) {
        audit.may_hold(self.id);
        audit.received(unit);
        for (first, many) in &unit.spans {
            for index in *first..*first + *many {
                let task = TaskId { job: unit.job, index };
                let lease = Lease { task, attempt: unit.attempt, epoch: unit.epoch };
                self.came += 1;
                self.holds.insert(lease, Hold::Waiting(self.came));
            }
        }
        assert!(self.holds.len() <= self.window as usize, "a worker holds more than its window");
    }

    fn drop(&mut self, lease: &Lease) {
        self.holds.remove(lease);
        self.cancels.remove(lease);
        self.unconfirmed.retain(|(report, _)| report.lease != *lease);
    }

    /// Starts what may start next, by the rule that both sides keep.
    pub(crate) fn start(
        &mut self,
        policies: &BTreeMap<taskq_core::id::JobId, Arc<Policy>>,
        audit: &mut Audit,
    ) {
        for kind in [SlotKind::Plain, SlotKind::Async] {
            self.start_one(kind, policies, audit);
        }
    }

    fn start_one(
        &mut self,
        kind: SlotKind,
        policies: &BTreeMap<taskq_core::id::JobId, Arc<Policy>>,
        audit: &mut Audit,
    ) {
        let policy = |lease: &Lease| &policies[&lease.task.job];
        let here = |lease: &&Lease| kind_of(policy(lease)) == kind;
        let holds = || self.holds.iter().filter(|(lease, _)| here(lease));
        let (slots, busy) = match kind {
            SlotKind::Plain => (self.slots, self.busy),
            SlotKind::Async => (self.async_slots, 0),
        };
        let running = holds().filter(|(_, hold)| **hold == Hold::Running);
        let used: u32 = running.map(|(lease, _)| policy(lease).shape.slots).sum();
        assert!(used + busy <= slots, "more runs than there are slots");
        let waiting = holds().filter_map(|(lease, hold)| match hold {
            Hold::Waiting(came) => Some((Reverse(policy(lease).priority), came, *lease)),
            Hold::Running => None,
        });
        let Some((_, _, next)) = waiting.min() else { return };
        if used + busy + policy(&next).shape.slots > slots || self.cancels.contains(&next) {
            return;
        }
        self.holds.insert(next, Hold::Running);
        *audit.runs.entry(next.task).or_default() += 1;
        self.say(next, ReportKind::Started);
    }

    /// Something that runs ends, or something that is to be cancelled is.
    pub(crate) fn finish(
        &mut self,
        rng: &mut Rng,
        policies: &BTreeMap<taskq_core::id::JobId, Arc<Policy>>,
        calm: bool,
    ) {
        // A function that nobody waits for any more returns.
        if self.busy > 0 && (calm || rng.one_in(4)) {
            self.busy -= 1;
            self.busy_changed = true;
        }
        // Somebody sent it home; the coordinator hears of it with the next heartbeat.
        self.draining |= !calm && rng.one_in(200);
        let leases: Vec<Lease> = self.holds.keys().copied().collect();
        let Some(&lease) = rng.pick(&leases) else { return };
        let running = self.holds[&lease] == Hold::Running;
        let cancel = self.cancels.contains(&lease);
        let verdict = match (running, cancel) {
            (true, true) if rng.one_in(4) => Verdict::Succeeded,
            (_, true) => Verdict::Cancelled,
            (false, false) if calm || !rng.one_in(8) => return,
            (false, false) => {
                self.holds.remove(&lease);
                self.say(lease, ReportKind::Returned);
                return;
            }
            (true, false) if calm => Verdict::Succeeded,
            (true, false) => match rng.below(16) {
                0 => Verdict::Rejected,
                1 => Verdict::Lost,
                2 => Verdict::Failed { exit_code: 1, fatal: false },
                3 => Verdict::Failed { exit_code: 2, fatal: rng.one_in(2) },
                _ => Verdict::Succeeded,
            },
        };
        if running && rng.one_in(3) {
            let stream = taskq_core::event::Stream::Stdout;
            self.say(lease, ReportKind::Output { stream, offset: 0, data: Bytes::from_static(b"x") });
        }
        if running && rng.one_in(3) {
            let progress = Progress { fraction: 0.5, note: Arc::from("half") };
            self.say(lease, ReportKind::Progress(progress));
        }
        let policy = &policies[&lease.task.job];
        if running
            && verdict == Verdict::Cancelled
            && policy.shape.function.as_deref() == Some("work")
            && rng.one_in(2)
        {
            self.busy += policy.shape.slots;
            self.busy_changed = true;
        }
        self.holds.remove(&lease);
        self.cancels.remove(&lease);
        let wall_us = rng.below(2_000_000);
        self.say(
            lease,
            ReportKind::Ended {
                verdict,
                wall_us,
                detail: Bytes::from_static(b"d"),
                blob: None,
                last_output: vec![],
            },
        );
    }

    fn say(&mut self, lease: Lease, what: ReportKind) {
        self.unconfirmed.push((Report { lease, what }, None));
    }

    /// Sends what has gathered, once greeted.
    pub(crate) fn flush(&mut self) {
        let Link::Up { session, welcome: true, up, .. } = &mut self.link else { return };
        let mut reports = Vec::new();
        if std::mem::take(&mut self.busy_changed) {
            up.push_back(Event::Busy { session: *session, plain: self.busy, r#async: 0 });
        }
        self.seq += 1;
        for (report, sent) in self.unconfirmed.iter_mut().filter(|(_, sent)| sent.is_none()) {
            *sent = Some(self.seq);
            reports.push(report.clone());
        }
        let (session, seq) = (*session, self.seq);
        up.push_back(match reports.is_empty() {
            true => Event::Heartbeat { session, seq, draining: self.draining },
            false => Event::Reports { session, seq, reports },
        });
    }

    /// A drained worker with nothing left says goodbye.
    pub(crate) fn leave(&mut self) {
        let empty = self.holds.is_empty() && self.unconfirmed.is_empty();
        if let Link::Up { session, welcome: true, up, .. } = &mut self.link
            && self.draining
            && empty
        {
            self.seq += 1;
            self.left = true;
            up.push_back(Event::Goodbye { session: *session, seq: self.seq });
        }
    }
}

fn kind_of(policy: &Policy) -> SlotKind {
    if policy.shape.function.as_deref() == Some("wait") { SlotKind::Async } else { SlotKind::Plain }
}

fn is_end(report: &Report) -> bool {
    matches!(report.what, ReportKind::Ended { .. } | ReportKind::Returned)
}
