//! Which job goes next: fair between queues, by priority inside a queue, in submission order inside a priority.
//!
//! Jobs that have something to start stand in *classes* (queue, priority, shape), so that the question "does it fit
//! this worker?" is asked once for each class and not for each job. Queues share by stride scheduling: each has a
//! `pass` that grows with what it was given, as slots times the time that they are expected to be taken, and the lowest
//! pass goes first: a queue of hour-long tasks and one of short ones have the same part of the slots.
//!
//! Nothing waits for ever: each class counts how many tasks of *later* jobs of its queue went before its first job.
//! Beyond [`PATIENCE`] the class is urgent: it goes first wherever it fits, and a worker that could fit it once
//! emptied takes nothing else from that queue (see `step/dispatch.rs`).
//!
//! Knows nothing of workers, tasks or time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{id::JobId, job::Shape, line::Line};

/// After this many tasks of later jobs of its queue a job goes first.
pub const PATIENCE: u32 = 10_000;

/// One overtaking is charged to at most this many overtaken classes, oldest first, so that a queue with
/// thousands of priorities costs no more than one with a few.
const CHARGED: usize = 64;

/// A queue that had nothing to start for a while, or found no worker, catches up at most so much: a slot for a second.
const CREDIT_US: u64 = 1_000_000;

/// A queue's number while it is known; reused afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u32);

/// A class's number while it is in use; reused afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(pub u32);

/// The order of what can start.
#[derive(Debug, Default)]
pub struct Ready {
    classes: Vec<Option<Class>>,
    vacant: Vec<ClassId>,
    by_kind: BTreeMap<(QueueId, Reverse<i32>, Arc<Shape>), ClassId>,
    lanes: BTreeMap<QueueId, Lane>,
    active: BTreeSet<(u64, QueueId)>,
    pass: u64,
    /// Queues of which workers were kept free for something that is no longer urgent.
    relieved: BTreeSet<QueueId>,
}

/// Jobs that can stand for each other on any worker.
#[derive(Debug)]
struct Class {
    queue: QueueId,
    priority: i32,
    shape: Arc<Shape>,
    users: u32,
    /// With `passed` as it was when the job came, or was last served.
    jobs: Line,
    /// Tasks of later jobs that went before the first job; wraps.
    passed: u32,
}

/// One queue's order.
#[derive(Debug, Default)]
struct Lane {
    pass: u64,
    paused: bool,
    order: BTreeSet<(Reverse<i32>, ClassId)>,
    heads: BTreeSet<(JobId, ClassId)>,
    urgent: BTreeSet<ClassId>,
}

/// How a class stands with one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Takes it.
    Yes,
    /// Would if it were emptier.
    Busy,
    /// Never.
    No,
}

impl Ready {
    /// The class of a policy; [`Ready::release`] must be called once for each call.
    pub fn class(&mut self, queue: QueueId, priority: i32, shape: &Shape) -> ClassId {
        let kind = (queue, Reverse(priority), Arc::new(shape.clone()));
        if let Some(&id) = self.by_kind.get(&kind) {
            self.known_mut(id).users += 1;
            return id;
        }
        let class =
            Class { queue, priority, shape: kind.2.clone(), users: 1, jobs: Line::default(), passed: 0 };
        let id = match self.vacant.pop() {
            Some(id) => {
                self.classes[id.0 as usize] = Some(class);
                id
            }
            None => {
                self.classes.push(Some(class));
                ClassId(u32::try_from(self.classes.len() - 1).expect("fewer classes than jobs"))
            }
        };
        self.by_kind.insert(kind, id);
        self.lanes.entry(queue).or_default();
        id
    }

    /// Undoes one [`Ready::class`].
    pub fn release(&mut self, id: ClassId) {
        let class = self.known_mut(id);
        class.users -= 1;
        if class.users > 0 {
            return;
        }
        assert!(class.jobs.is_empty(), "a class outlives its jobs");
        let kind = (class.queue, Reverse(class.priority), class.shape.clone());
        self.by_kind.remove(&kind);
        self.classes[id.0 as usize] = None;
        self.vacant.push(id);
    }

    /// Forgets a queue without classes.
    pub fn forget_queue(&mut self, queue: QueueId) {
        let lane = self.lanes.remove(&queue);
        assert!(lane.is_none_or(|lane| lane.heads.is_empty()), "a queue outlives its jobs");
    }

    /// Stops or restarts a queue.
    pub fn pause(&mut self, queue: QueueId, paused: bool) {
        self.lanes.entry(queue).or_default().paused = paused;
        self.reactivate(queue);
    }

    /// The classes of a queue that have jobs.
    pub fn classes_of(&self, queue: QueueId) -> impl Iterator<Item = ClassId> + '_ {
        self.lanes.get(&queue).into_iter().flat_map(|lane| lane.order.iter().map(|(_, class)| *class))
    }

    /// A job of the class has something to start. True if the class had none before.
    pub fn insert(&mut self, id: ClassId, job: JobId) -> bool {
        let before = self.head(id);
        let class = self.known_mut(id);
        let passed = class.passed;
        class.jobs.insert(job, passed);
        self.rehead(id, before);
        before.is_none()
    }

    /// A job has nothing to start.
    pub fn remove(&mut self, id: ClassId, job: JobId) {
        let before = self.head(id);
        self.known_mut(id).jobs.remove(job);
        self.rehead(id, before);
    }

    /// Tasks of `job` were handed out, which are expected to take so much together: slots times microseconds.
    pub fn served(&mut self, id: ClassId, job: JobId, tasks: u32, slot_us: u64) {
        let class = self.known_mut(id);
        let (queue, passed) = (class.queue, class.passed);
        class.jobs.restamp(job, passed);
        let lane = self.lanes.entry(queue).or_default();
        let was = lane.pass;
        let start = was.max(self.pass.saturating_sub(CREDIT_US));
        lane.pass = start.saturating_add(slot_us);
        self.pass = self.pass.max(start);
        let pass = lane.pass;
        let overtaken: Vec<ClassId> =
            lane.heads.range(..(job, ClassId(0))).take(CHARGED).map(|(_, class)| *class).collect();
        if self.active.remove(&(was, queue)) {
            self.active.insert((pass, queue));
        }
        for other in overtaken {
            let class = self.known_mut(other);
            class.passed = class.passed.wrapping_add(tasks);
            self.judge(other);
        }
        self.judge(id);
    }

    /// Queues with something to start, the one whose turn it is first.
    pub fn queues(&self) -> impl Iterator<Item = QueueId> + '_ {
        self.active.iter().map(|(_, queue)| *queue)
    }

    /// The class of this queue to serve on a worker that answers `fit`.
    pub fn choose(
        &self,
        queue: QueueId,
        mut fit: impl FnMut(ClassId, JobId) -> Fit,
    ) -> Option<(ClassId, JobId)> {
        let lane = self.lanes.get(&queue)?;
        let mut urgent: Vec<(JobId, ClassId)> =
            lane.urgent.iter().filter_map(|class| Some((self.head(*class)?, *class))).collect();
        urgent.sort_unstable();
        for (job, class) in urgent {
            match fit(class, job) {
                Fit::Yes => return Some((class, job)),
                Fit::Busy => return None,
                Fit::No => {}
            }
        }
        let mut best: Option<(Reverse<i32>, JobId, ClassId)> = None;
        for (priority, class) in &lane.order {
            if best.is_some_and(|(found, ..)| found < *priority) {
                break;
            }
            let Some(job) = self.head(*class) else { continue };
            if best.is_none_or(|(_, first, _)| job < first) && fit(*class, job) == Fit::Yes {
                best = Some((*priority, job, *class));
            }
        }
        best.map(|(_, job, class)| (class, job))
    }

    /// What a class needs.
    #[must_use]
    pub fn shape(&self, id: ClassId) -> &Arc<Shape> {
        &self.known(id).shape
    }

    /// Classes that may now have what was kept free for an urgent one. Each is told once.
    pub fn relieved(&mut self) -> Vec<ClassId> {
        let queues = std::mem::take(&mut self.relieved);
        queues.into_iter().flat_map(|queue| self.classes_of(queue).collect::<Vec<_>>()).collect()
    }

    /// Whether the class is in use.
    #[must_use]
    pub fn is_known(&self, id: ClassId) -> bool {
        self.classes.get(id.0 as usize).is_some_and(Option::is_some)
    }

    /// The first job of a class.
    #[must_use]
    pub fn head(&self, id: ClassId) -> Option<JobId> {
        self.known(id).jobs.first().map(|(job, _)| job)
    }

    /// The jobs of a class from its first on.
    pub fn jobs(&self, id: ClassId) -> impl Iterator<Item = JobId> + '_ {
        self.known(id).jobs.iter()
    }

    /// Whether the class goes before every other of its queue.
    #[must_use]
    pub fn is_urgent(&self, id: ClassId) -> bool {
        self.lanes.get(&self.known(id).queue).is_some_and(|lane| lane.urgent.contains(&id))
    }

    /// Whether the job stands in the class.
    #[must_use]
    pub fn contains(&self, id: ClassId, job: JobId) -> bool {
        self.known(id).jobs.contains(job)
    }

    /// Jobs of the class's queue that go before this one; counting stops at `limit`.
    #[must_use]
    pub fn before(&self, id: ClassId, job: JobId, limit: usize) -> usize {
        let class = self.known(id);
        let Some(lane) = self.lanes.get(&class.queue) else { return 0 };
        let mut count = 0;
        for (priority, other) in &lane.order {
            let other = self.known(*other);
            count += match priority.0.cmp(&class.priority) {
                std::cmp::Ordering::Greater => other.jobs.len(),
                std::cmp::Ordering::Equal => other.jobs.before(job, limit),
                std::cmp::Ordering::Less => break,
            };
            if count >= limit {
                return limit;
            }
        }
        count
    }

    /// Every (class, job) that stands here, for checks.
    pub fn all(&self) -> impl Iterator<Item = (ClassId, JobId)> + '_ {
        self.classes.iter().enumerate().filter_map(|(at, class)| Some((at, class.as_ref()?))).flat_map(
            |(at, class)| {
                let id = ClassId(u32::try_from(at).expect("fewer classes than jobs"));
                class.jobs.iter().map(move |job| (id, job))
            },
        )
    }

    fn rehead(&mut self, id: ClassId, before: Option<JobId>) {
        let after = self.head(id);
        if before == after {
            return;
        }
        let (queue, priority) = (self.known(id).queue, self.known(id).priority);
        let lane = self.lanes.entry(queue).or_default();
        if let Some(job) = before {
            lane.heads.remove(&(job, id));
        }
        match after {
            Some(job) => {
                lane.heads.insert((job, id));
                lane.order.insert((Reverse(priority), id));
            }
            None => {
                lane.order.remove(&(Reverse(priority), id));
            }
        }
        self.judge(id);
        self.reactivate(queue);
    }

    fn judge(&mut self, id: ClassId) {
        let class = self.known(id);
        let queue = class.queue;
        let urgent = class.jobs.first().is_some_and(|(_, stamp)| class.passed.wrapping_sub(stamp) > PATIENCE);
        let lane = self.lanes.entry(queue).or_default();
        if urgent {
            lane.urgent.insert(id);
        } else if lane.urgent.remove(&id) {
            self.relieved.insert(queue);
        }
    }

    /// A queue that comes back starts level with the others: what it did not use is not saved up.
    fn reactivate(&mut self, queue: QueueId) {
        let floor = self.active.first().map_or(self.pass, |(pass, _)| (*pass).max(self.pass));
        let lane = self.lanes.entry(queue).or_default();
        let should = !lane.paused && !lane.heads.is_empty();
        let is = self.active.contains(&(lane.pass, queue));
        if should && !is {
            lane.pass = lane.pass.max(floor);
            self.active.insert((lane.pass, queue));
        } else if !should && is {
            self.active.remove(&(lane.pass, queue));
        }
    }

    fn known(&self, id: ClassId) -> &Class {
        self.classes[id.0 as usize].as_ref().expect("a class is kept while a policy uses it")
    }

    fn known_mut(&mut self, id: ClassId) -> &mut Class {
        self.classes[id.0 as usize].as_mut().expect("a class is kept while a policy uses it")
    }
}
