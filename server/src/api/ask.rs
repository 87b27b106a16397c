//! What a client may ask the loop, each with the type of its answer. The core pairs events and replies in prose; here
//! the compiler knows the pairs, and the one place where they could disagree is [`Context::ask`].

use std::sync::Arc;

use roaring::RoaringBitmap;
use taskq_core::{
    effect::{JobView, QueueView, Reason, Reply, Stats, TaskView, WorkerView},
    event::{Act, Event, Question, QueueAct},
    id::{JobId, Millis, RequestId, WorkerId},
    job::{NewJob, Phase},
    overview::Overview,
};

use super::{Context, broken, status::Failure};
use crate::{
    coordinator::pending::Held,
    metrics::metric::{QUEUES, WORKERS},
};

/// A request with a typed answer.
pub(super) trait Ask {
    /// What comes back.
    type Answer;
    /// What the loop is told.
    fn event(self, request: RequestId) -> Event;
    /// The answer in a reply; `None` if that reply answers something else.
    fn answer(reply: Reply) -> Option<Self::Answer>;
}

/// The loop knows live jobs only: of others the store says whether they ended, were removed, or never were.
pub(super) enum Live<T> {
    Yes(T),
    No,
}

impl<T> Live<T> {
    fn of(reply: Reply, take: impl FnOnce(Reply) -> Option<T>) -> Option<Live<T>> {
        match reply {
            Reply::NotLive(_) => Some(Live::No),
            reply => take(reply).map(Live::Yes),
        }
    }
}

impl Context {
    /// Asks the loop; a rejection is a failure.
    pub(super) async fn ask<A: Ask>(&self, what: A) -> Result<A::Answer, Failure> {
        self.ask_holding(None, what).await
    }

    /// The same, with something that is kept until there is an answer, whether or not the caller still waits.
    pub(super) async fn ask_holding<A: Ask>(
        &self,
        held: Option<Held>,
        what: A,
    ) -> Result<A::Answer, Failure> {
        match self.handle.ask_holding(held, |request| what.event(request)).await? {
            Reply::Rejected(why) => Err(why.into()),
            reply => A::answer(reply).ok_or_else(|| broken("a request was answered by something else")),
        }
    }

    /// The same, ahead of clients that wait: who watches wants to see most of all when there are many.
    pub(super) async fn ask_ahead<A: Ask>(&self, what: A) -> Result<A::Answer, Failure> {
        let reply = self.handle.ask_ahead(|request| what.event(request)).await?;
        A::answer(reply).ok_or_else(|| broken("a request was answered by something else"))
    }
}

/// Stores jobs, all or none: their ids in order, and whether an earlier call had done it.
pub(super) struct Submit {
    pub(super) repeat: Option<[u8; 16]>,
    pub(super) jobs: Vec<NewJob>,
}

impl Ask for Submit {
    type Answer = (Vec<JobId>, bool);
    fn event(self, request: RequestId) -> Event {
        Event::Submit { request, repeat: self.repeat, jobs: self.jobs }
    }
    fn answer(reply: Reply) -> Option<Self::Answer> {
        let Reply::Submitted { ids, repeated } = reply else { return None };
        Some((ids, repeated))
    }
}

/// Changes one job: how many tasks were touched, how many of them are being stopped, and a remark.
pub(super) struct Change {
    pub(super) job: JobId,
    pub(super) act: Act,
    pub(super) dry_run: bool,
}

impl Ask for Change {
    type Answer = Live<(u32, u32, &'static str)>;
    fn event(self, request: RequestId) -> Event {
        let Change { job, act, dry_run } = self;
        Event::Act { request, job, act, dry_run }
    }
    fn answer(reply: Reply) -> Option<Self::Answer> {
        Live::of(reply, |reply| {
            let Reply::Acted { tasks, stopping, note } = reply else { return None };
            Some((tasks, stopping, note))
        })
    }
}

/// Changes a queue: how it is now, and how many jobs and tasks were purged.
pub(super) struct ChangeQueue {
    pub(super) name: Arc<str>,
    pub(super) act: QueueAct,
}

impl Ask for ChangeQueue {
    type Answer = (QueueView, u64, u64);
    fn event(self, request: RequestId) -> Event {
        Event::Queue { request, name: self.name, act: self.act }
    }
    fn answer(reply: Reply) -> Option<Self::Answer> {
        let Reply::Queue { queue, purged_jobs, purged_tasks } = reply else { return None };
        Some((queue, purged_jobs, purged_tasks))
    }
}

/// One job, once it has ended or the time is over.
pub(super) struct Wait {
    pub(super) job: JobId,
    pub(super) timeout: Millis,
}

impl Ask for Wait {
    type Answer = Live<JobView>;
    fn event(self, request: RequestId) -> Event {
        Event::Wait { request, job: self.job, timeout: self.timeout }
    }
    fn answer(reply: Reply) -> Option<Self::Answer> {
        Job::answer(reply)
    }
}

/// One job as it is.
pub(super) struct Job(pub(super) JobId);

impl Ask for Job {
    type Answer = Live<JobView>;
    fn event(self, request: RequestId) -> Event {
        Event::Ask { request, question: Question::Job(self.0) }
    }
    fn answer(reply: Reply) -> Option<Self::Answer> {
        Live::of(reply, |reply| if let Reply::Job(job) = reply { Some(job) } else { None })
    }
}

/// Live jobs, newest first.
pub(super) struct Jobs {
    pub(super) before: Option<JobId>,
    pub(super) queue: Option<Arc<str>>,
    pub(super) limit: usize,
}

impl Ask for Jobs {
    type Answer = Vec<JobView>;
    fn event(self, request: RequestId) -> Event {
        let Jobs { before, queue, limit } = self;
        Event::Ask { request, question: Question::Jobs { before, queue, limit } }
    }
    fn answer(reply: Reply) -> Option<Self::Answer> {
        if let Reply::Jobs(jobs) = reply { Some(jobs) } else { None }
    }
}

/// Live tasks in index order, and the index to go on from, if any are left.
pub(super) struct Tasks {
    pub(super) job: JobId,
    pub(super) from: u32,
    pub(super) limit: usize,
}

impl Ask for Tasks {
    type Answer = Live<(Vec<TaskView>, Option<u32>)>;
    fn event(self, request: RequestId) -> Event {
        let Tasks { job, from, limit } = self;
        Event::Ask { request, question: Question::Tasks { job, from, limit } }
    }
    fn answer(reply: Reply) -> Option<Self::Answer> {
        Live::of(reply, |reply| {
            let Reply::Tasks { tasks, next } = reply else { return None };
            Some((tasks, next))
        })
    }
}

/// Which tasks of a live job failed or were cancelled.
pub(super) struct Unsuccessful(pub(super) JobId);

impl Ask for Unsuccessful {
    type Answer = Live<RoaringBitmap>;
    fn event(self, request: RequestId) -> Event {
        Event::Ask { request, question: Question::Unsuccessful(self.0) }
    }
    fn answer(reply: Reply) -> Option<Self::Answer> {
        Live::of(reply, |reply| if let Reply::Unsuccessful(set) = reply { Some(set) } else { None })
    }
}

/// Why a job or task is not running: its phase, and every reason that holds.
pub(super) struct Explain(pub(super) JobId, pub(super) Option<u32>);

impl Ask for Explain {
    type Answer = Live<(Phase, Vec<Reason>)>;
    fn event(self, request: RequestId) -> Event {
        Event::Ask { request, question: Question::Explain(self.0, self.1) }
    }
    fn answer(reply: Reply) -> Option<Self::Answer> {
        Live::of(reply, |reply| {
            let Reply::Explanation { phase, reasons } = reply else { return None };
            Some((phase, reasons))
        })
    }
}

/// Workers, all or by name.
pub(super) struct Workers(pub(super) Option<Arc<str>>);

impl Ask for Workers {
    type Answer = Vec<WorkerView>;
    fn event(self, request: RequestId) -> Event {
        Event::Ask { request, question: Question::Workers(self.0) }
    }
    fn answer(reply: Reply) -> Option<Self::Answer> {
        if let Reply::Workers(workers) = reply { Some(workers) } else { None }
    }
}

/// Gives a worker nothing new: the worker as it is then.
pub(super) struct Drain(pub(super) Arc<str>);

impl Ask for Drain {
    type Answer = WorkerView;
    fn event(self, request: RequestId) -> Event {
        Event::Drain { request, name: self.0 }
    }
    fn answer(reply: Reply) -> Option<Self::Answer> {
        if let Reply::Workers(workers) = reply { workers.into_iter().next() } else { None }
    }
}

/// Every queue.
pub(super) struct Queues;

impl Ask for Queues {
    type Answer = Vec<QueueView>;
    fn event(self, request: RequestId) -> Event {
        Event::Ask { request, question: Question::Queues }
    }
    fn answer(reply: Reply) -> Option<Self::Answer> {
        if let Reply::Queues(queues) = reply { Some(queues) } else { None }
    }
}

/// Figures.
pub(super) struct Figures;

impl Ask for Figures {
    type Answer = Stats;
    fn event(self, request: RequestId) -> Event {
        Event::Ask { request, question: Question::Stats }
    }
    fn answer(reply: Reply) -> Option<Self::Answer> {
        if let Reply::Stats(stats) = reply { Some(stats) } else { None }
    }
}

/// All figures.
pub(super) struct Everything;

impl Ask for Everything {
    type Answer = Box<Overview>;
    fn event(self, request: RequestId) -> Event {
        Event::Ask { request, question: Question::Overview { queues: QUEUES, workers: WORKERS } }
    }
    fn answer(reply: Reply) -> Option<Self::Answer> {
        if let Reply::Overview(overview) = reply { Some(overview) } else { None }
    }
}

/// A worker is dead, nothing of it runs any more: how many tasks it had.
pub(super) struct Bury(pub(super) WorkerId);

impl Ask for Bury {
    type Answer = u32;
    fn event(self, request: RequestId) -> Event {
        Event::Bury { request, worker: self.0 }
    }
    fn answer(reply: Reply) -> Option<Self::Answer> {
        if let Reply::Buried(tasks) = reply { Some(tasks) } else { None }
    }
}
