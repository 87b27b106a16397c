//! Reading one job, many jobs, tasks. Live ones are asked for in the loop, ended ones read from the store.

use globset::GlobMatcher;
use roaring::RoaringBitmap;
use taskq_core::{
    effect::JobView,
    id::{JobId, Millis, Rank, TaskId},
    job::End,
};
use taskq_proto::v1 as pb;

use super::{
    Context,
    ask::{Explain, Job, Jobs, Live, Tasks, Unsuccessful, Wait},
    convert::{
        indices,
        view::{self, Inline},
    },
    status::{Failure, Invalid},
};
use crate::store::{EndedJob, EndedTask, Lookup, Store, SubmittedRecord};

/// Jobs or tasks on one page.
const PAGE: usize = 1_000;
const PAGE_DEFAULT: usize = 100;
/// Tasks that are read in one go.
const TASKS: usize = 250;
/// Bytes of tasks, with the output that came with their ends, after which a page is closed.
const PAGE_BYTES: usize = 1 << 20;
/// Jobs that one call looks at before it answers with what it found so far.
const SCAN: usize = 20_000;
/// How long one wait lasts at most.
const WAIT_MS: u64 = 60_000;
/// Ends that are looked through for an error text, a job.
const ERRORS: usize = 10_000;

impl Context {
    /// One job.
    pub(super) async fn get(&self, id: JobId) -> Result<pb::Job, Failure> {
        let live = self.ask(Job(id)).await?;
        self.shown(id, live).await
    }

    /// One job, once it has ended or the time is over.
    pub(super) async fn wait(&self, request: pb::WaitRequest) -> Result<pb::Job, Failure> {
        let job = JobId(request.job_id);
        let timeout = match request.timeout_ms {
            0 => Millis(WAIT_MS),
            ms => Millis(ms.min(WAIT_MS)),
        };
        let live = self.ask(Wait { job, timeout }).await?;
        self.shown(job, live).await
    }

    async fn shown(&self, id: JobId, live: Live<JobView>) -> Result<pb::Job, Failure> {
        match live {
            Live::Yes(live) => self.read(move |store| show(store, id, Some(&live))).await,
            Live::No => self.read(move |store| show(store, id, None)).await,
        }
    }

    /// A page of jobs, newest first.
    pub(super) async fn list(&self, request: pb::ListRequest) -> Result<pb::ListReply, Failure> {
        let filter = Filter::parse(request.filter.unwrap_or_default())?;
        let size = page_size(request.page_size);
        let mut before = token(&request.page_token)?.map(JobId);
        let mut jobs = Vec::new();
        for _ in 0..SCAN / PAGE {
            let (batch, next) = self.newest(before, &filter).await?;
            for job in batch {
                let id = job.id;
                if jobs.len() == size {
                    return Ok(pb::ListReply { jobs, next_page_token: (id + 1).to_string() });
                }
                jobs.push(job);
            }
            before = next;
            if before.is_none() {
                return Ok(pb::ListReply { jobs, next_page_token: String::new() });
            }
        }
        let next_page_token = before.map(|id| id.to_string()).unwrap_or_default();
        Ok(pb::ListReply { jobs, next_page_token })
    }

    /// The next `PAGE` jobs that pass the filter, or fewer, and where to go on.
    async fn newest(
        &self,
        before: Option<JobId>,
        filter: &Filter,
    ) -> Result<(Vec<pb::Job>, Option<JobId>), Failure> {
        // Live ones first: a job that ends meanwhile is seen in the store, and shown once.
        let queue = filter.queue.as_deref().map(Into::into);
        let live = self.ask(Jobs { before, queue, limit: PAGE }).await?;
        let filter = filter.clone();
        self.read(move |store| Ok(merge(store, before, &live, &filter))).await
    }

    /// A page of a job's tasks, in index order.
    pub(super) async fn list_tasks(
        &self,
        request: pb::ListTasksRequest,
    ) -> Result<pb::ListTasksReply, Failure> {
        let job = JobId(request.job_id);
        let wanted = indices(&request.indices)?;
        let states = request.states;
        let size = page_size(request.page_size);
        // With their output they may take 120 KiB each.
        let limit = if states.is_empty() { size.min(TASKS) } else { TASKS };
        let mut from = token(&request.page_token)?.map_or(Ok(0), u32::try_from);
        let mut tasks = Vec::new();
        let mut bytes = 0;
        while let Ok(first) = from {
            let skipped = wanted.as_ref().map_or(Some(first), |set| set.range(first..).next());
            let Some(first) = skipped else { break };
            let (page, next) = self.tasks(job, first, limit, request.with_history).await?;
            let next =
                next.filter(|next| wanted.as_ref().is_none_or(|set| set.range(*next..).next().is_some()));
            let fits = |task: &pb::Task| {
                wanted.as_ref().is_none_or(|set| set.contains(task.index))
                    && (states.is_empty() || states.contains(&task.state))
            };
            let mut page = page.into_iter().filter(fits).peekable();
            while let Some(task) = page.next() {
                bytes += prost::Message::encoded_len(&task);
                tasks.push(task);
                if tasks.len() == size || bytes >= PAGE_BYTES {
                    let next = page.peek().map(|task| task.index).or(next);
                    let next_page_token = next.map(|index| index.to_string()).unwrap_or_default();
                    return Ok(pb::ListTasksReply { tasks, next_page_token });
                }
            }
            let Some(next) = next else { break };
            from = Ok(next);
        }
        if let (Some(set), true) = (&wanted, tasks.is_empty() && states.is_empty()) {
            let index = set.min().unwrap_or_default();
            return Err(taskq_core::effect::Rejection::NoTask { job, index }.into());
        }
        Ok(pb::ListTasksReply { tasks, next_page_token: String::new() })
    }

    /// Tasks from one index on, live and ended, and where to go on.
    async fn tasks(
        &self,
        job: JobId,
        from: u32,
        limit: usize,
        history: bool,
    ) -> Result<(Vec<pb::Task>, Option<u32>), Failure> {
        match self.ask(Tasks { job, from, limit }).await? {
            Live::Yes((tasks, next)) => {
                let mut shown: Vec<_> = tasks.iter().map(|task| view::live_task(job, task)).collect();
                let indices: RoaringBitmap = tasks.iter().map(|task| task.index).collect();
                self.read(move |store| {
                    let ended = store.ends_of(job, &indices, limit)?;
                    overlay(store, job, &mut shown, &ended, history)?;
                    Ok((shown, next))
                })
                .await
            }
            Live::No => self.read(move |store| ended_tasks(store, job, from, limit, history)).await,
        }
    }

    /// Which tasks of a job failed or were cancelled or skipped.
    pub(super) async fn unsuccessful(&self, job: JobId) -> Result<RoaringBitmap, Failure> {
        match self.ask(Unsuccessful(job)).await? {
            Live::Yes(set) => Ok(set),
            Live::No => self.read(move |store| unsuccessful(store, job)).await,
        }
    }

    /// Why a job or task is not running.
    pub(super) async fn explain(&self, request: pb::ExplainRequest) -> Result<pb::ExplainReply, Failure> {
        let (job, index) = (JobId(request.job_id), request.index);
        match self.ask(Explain(job, index)).await? {
            Live::Yes((phase, reasons)) => Ok(pb::ExplainReply {
                state: view::state(phase).into(),
                reasons: reasons.iter().map(|reason| view::reason(job, reason)).collect(),
            }),
            Live::No => {
                let shown = self.read(move |store| show(store, job, None)).await?;
                Ok(pb::ExplainReply { state: shown.state, reasons: Vec::new() })
            }
        }
    }
}

/// A job as the store has it, with the live part where there is one.
pub(super) fn show(store: &dyn Store, id: JobId, live: Option<&JobView>) -> Result<pb::Job, Lookup> {
    let stored = store.submitted(id)?;
    match (store.job_ended(id)?, live) {
        (Some(ended), _) => Ok(view::ended_job(id, &stored, &ended)),
        (None, Some(live)) => Ok(view::live_job(live, &stored)),
        // It was live when the store was asked and ended when the loop was, or the other way round: removed since.
        (None, None) => Err(Lookup::Gone(id)),
    }
}

fn merge(
    store: &dyn Store,
    before: Option<JobId>,
    live: &[JobView],
    filter: &Filter,
) -> (Vec<pb::Job>, Option<JobId>) {
    let ended = store.ended_jobs(before, PAGE);
    // Below the last id of a full list the other side may have more that this one has not reached.
    let live_floor = if live.len() == PAGE { live.last().map(|job| job.id) } else { None };
    let ended_floor = if ended.len() == PAGE { ended.last().copied() } else { None };
    let floor = live_floor.max(ended_floor);
    let mut ids: Vec<(JobId, Option<&JobView>)> = live.iter().map(|job| (job.id, Some(job))).collect();
    ids.extend(ended.into_iter().map(|id| (id, None)));
    ids.sort_by_key(|(id, live)| (std::cmp::Reverse(*id), live.is_some()));
    ids.dedup_by_key(|(id, _)| *id);
    let shown = ids.into_iter().filter(|(id, _)| floor.is_none_or(|floor| *id >= floor));
    let jobs = shown.filter_map(|(id, live)| filter.pass(store, id, live)).collect();
    (jobs, floor)
}

/// `pb::Filter`, checked.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    wanted: pb::Filter,
    queue: Option<String>,
    glob: Option<GlobMatcher>,
}

impl Filter {
    pub(super) fn parse(wanted: pb::Filter) -> Result<Filter, Invalid> {
        let glob = match wanted.name_glob.as_str() {
            "" => None,
            text => {
                let glob = globset::Glob::new(text);
                Some(glob.map_err(|error| Invalid::new("name_glob", error.to_string()))?.compile_matcher())
            }
        };
        let queue = Some(wanted.queue.clone()).filter(|queue| !queue.is_empty());
        Ok(Filter { wanted, queue, glob })
    }

    /// The job, if every condition holds.
    fn pass(&self, store: &dyn Store, id: JobId, live: Option<&JobView>) -> Option<pb::Job> {
        // Removed between the two looks: it is no longer there to be listed.
        let stored: SubmittedRecord = store.submitted(id).ok()?;
        let ended: Option<EndedJob> = store.job_ended(id).ok()?;
        let job = match (ended, live) {
            (Some(ended), _) => view::ended_job(id, &stored, &ended),
            (None, Some(live)) => view::live_job(live, &stored),
            (None, None) => return None,
        };
        let spec = job.spec.as_ref()?;
        let wanted = &self.wanted;
        let queue = if spec.queue.is_empty() { "default" } else { &spec.queue };
        let good = (wanted.states.is_empty() || wanted.states.contains(&job.state))
            && self.queue.as_deref().is_none_or(|wanted| wanted == queue)
            && wanted.labels.iter().all(|(name, value)| spec.labels.get(name) == Some(value))
            && self.glob.as_ref().is_none_or(|glob| glob.is_match(&spec.name))
            && job.submitted_unix_ms >= wanted.since_unix_ms
            && (wanted.error_like.is_empty() || failed_like(store, id, &wanted.error_like));
        good.then_some(job)
    }
}

fn failed_like(store: &dyn Store, id: JobId, text: &str) -> bool {
    let ends = store.ends(id, Rank(0), ERRORS).unwrap_or_default();
    ends.iter().filter(|task| task.end == End::Failed).any(|task| {
        let outcome = view::outcome(task, Inline::ALL);
        outcome.message.contains(text) || String::from_utf8_lossy(&outcome.stderr).contains(text)
    })
}

/// Puts the durable ends over the tasks of a live job; with history, their earlier attempts.
fn overlay(
    store: &dyn Store,
    job: JobId,
    tasks: &mut [pb::Task],
    ended: &[EndedTask],
    history: bool,
) -> Result<(), Lookup> {
    let mut ended = ended.iter().peekable();
    for task in tasks {
        if let Some(end) = ended.next_if(|end| end.index == task.index) {
            *task = view::ended_task(job, end, Inline::ALL);
        }
        if history {
            let earlier = store.attempts(TaskId { job, index: task.index })?;
            task.earlier = earlier.iter().map(view::earlier).collect();
        }
    }
    Ok(())
}

fn ended_tasks(
    store: &dyn Store,
    job: JobId,
    from: u32,
    limit: usize,
    history: bool,
) -> Result<(Vec<pb::Task>, Option<u32>), Lookup> {
    let stored = store.submitted(job)?;
    let members = stored.only.unwrap_or_else(|| {
        let mut all = RoaringBitmap::new();
        all.insert_range(from..from.saturating_add(limit as u32 + 1).min(stored.total));
        all
    });
    let mut page: Vec<u32> = members.range(from..).take(limit + 1).collect();
    let next = if page.len() > limit { page.pop() } else { None };
    let ended = store.ends_of(job, &page.into_iter().collect(), limit)?;
    let mut tasks: Vec<_> = ended.iter().map(|task| view::ended_task(job, task, Inline::ALL)).collect();
    overlay(store, job, &mut tasks, &ended, history)?;
    Ok((tasks, next))
}

fn unsuccessful(store: &dyn Store, job: JobId) -> Result<RoaringBitmap, Lookup> {
    let mut set = RoaringBitmap::new();
    let mut rank = Rank(0);
    loop {
        let ends = store.ends(job, rank, PAGE)?;
        if ends.is_empty() {
            return Ok(set);
        }
        rank = Rank(rank.0 + ends.len() as u64);
        set.extend(ends.iter().filter(|task| task.end != End::Succeeded).map(|task| task.index));
    }
}

fn page_size(asked: u32) -> usize {
    if asked == 0 { PAGE_DEFAULT } else { (asked as usize).min(PAGE) }
}

fn token(text: &str) -> Result<Option<u64>, Invalid> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |_| Invalid::new("page_token", "is not one that this call returned; begin without one");
    text.parse().map(Some).map_err(wrong)
}
