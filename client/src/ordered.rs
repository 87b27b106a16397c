//! The ends of a job's tasks in the order of their indices, within a bounded memory.
//!
//! Ends come in the order in which they happened. Those that are ahead of their turn are held back; when they
//! weigh too much, the ones that are furthest ahead are dropped, remembered by number alone, and fetched again
//! when their turn comes.

use crate::client::Client;
use crate::error::{Error, Result};
use crate::job::JobId;
use crate::model::{Failure, Outcome, Span, Task, is_terminal};
use crate::results::{Results, ResultsQuery};
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, VecDeque};
use taskq_proto::v1::ListTasksRequest;

/// What may be held back.
const HELD_BYTES: usize = 16 << 20;
/// What a task weighs besides its output: its fields, and its place in the map.
const TASK_BYTES: usize = 512;
/// How many dropped tasks are fetched at a time, with output or values and without.
const FETCH_HEAVY: u32 = 64;
const FETCH: u32 = 1_000;

/// Ends of all tasks of a job, in the order of their indices.
#[derive(Debug)]
pub struct InOrder {
    client: Client,
    job: JobId,
    results: Results,
    heavy: bool,
    turns: Turns,
    held: BTreeMap<u32, Task>,
    held_bytes: usize,
    limit: usize,
    dropped: RoaringBitmap,
    fetched: VecDeque<Task>,
    over: bool,
}

impl InOrder {
    /// The end of the next task by index. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<Task>> {
        while !self.over {
            let Some(index) = self.turns.next() else { break };
            if let Some(task) = self.ready(index) {
                self.turns.advance();
                return Some(Ok(task));
            }
            let got = if self.dropped.contains(index) {
                self.fetch(index).await
            } else {
                self.receive(index).await
            };
            if let Err(error) = got {
                self.over = true;
                return Some(Err(error));
            }
        }
        None
    }

    /// How many bytes may be held back; at least one end always is. Default: 16 MiB.
    #[must_use]
    pub fn hold_at_most(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// How many bytes are held back now.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn ready(&mut self, index: u32) -> Option<Task> {
        if self.fetched.front().is_some_and(|task| task.index == index) {
            return self.fetched.pop_front();
        }
        let task = self.held.remove(&index)?;
        self.held_bytes -= weight(&task);
        Some(task)
    }

    async fn receive(&mut self, awaited: u32) -> Result<()> {
        match self.results.next().await {
            Some(end) => {
                let task = end?.task;
                self.held_bytes += weight(&task);
                if let Some(twice) = self.held.insert(task.index, task) {
                    self.held_bytes -= weight(&twice);
                }
                self.make_room();
                Ok(())
            }
            None => {
                let job = self.job;
                Err(Error::Internal(format!("job {job} ended, but the end of its task {awaited} never came")))
            }
        }
    }

    fn make_room(&mut self) {
        while self.held_bytes > self.limit && self.held.len() > 1 {
            if let Some((index, task)) = self.held.pop_last() {
                self.held_bytes -= weight(&task);
                self.dropped.insert(index);
            }
        }
    }

    /// Fetches a run of dropped tasks that begins with `first`.
    async fn fetch(&mut self, first: u32) -> Result<()> {
        let most = if self.heavy { FETCH_HEAVY } else { FETCH };
        let run = (first..=u32::MAX).take(most as usize).take_while(|index| self.dropped.contains(*index));
        let count = u32::try_from(run.count()).unwrap_or(most);
        let request = ListTasksRequest {
            job_id: self.job.0,
            indices: vec![Span { first, count }],
            page_size: count,
            ..Default::default()
        };
        let (tasks, _) = self.client.task_page(request).await?;
        let in_order =
            tasks.iter().zip(first..).all(|(task, index)| task.index == index && is_terminal(task.state()));
        if tasks.is_empty() || tasks.len() > count as usize || !in_order {
            let job = self.job;
            return Err(Error::Internal(format!(
                "asked for the ends of tasks {first}+{count} of job {job}, got others"
            )));
        }
        for task in tasks {
            self.dropped.remove(task.index);
            self.fetched.push_back(task);
        }
        Ok(())
    }
}

fn weight(task: &Task) -> usize {
    let failure = |failure: &Failure| {
        failure.message.len() + failure.value.len() + failure.chain.iter().map(String::len).sum::<usize>()
    };
    let text = |outcome: &Outcome| {
        let bytes = outcome.stdout.len() + outcome.stderr.len() + outcome.message.len() + outcome.value.len();
        bytes + outcome.failure.as_ref().map_or(0, failure)
    };
    TASK_BYTES + task.worker.len() + task.outcome.iter().chain(&task.earlier).map(text).sum::<usize>()
}

/// Whose turn it is.
#[derive(Debug)]
struct Turns {
    spans: VecDeque<Span>,
}

impl Turns {
    fn next(&self) -> Option<u32> {
        self.spans.front().map(|span| span.first)
    }

    fn advance(&mut self) {
        if let Some(span) = self.spans.front_mut() {
            span.first = span.first.saturating_add(1);
            span.count -= 1;
            if span.count == 0 {
                self.spans.pop_front();
            }
        }
    }
}

impl Client {
    /// Ends of all tasks of a job in the order of their indices, from the first, waiting for each. Of `query`
    /// only `with_output` and `with_values` count.
    ///
    /// # Errors
    /// There is no such job, or no longer.
    pub async fn results_in_order(&self, id: impl Into<JobId>, query: ResultsQuery) -> Result<InOrder> {
        let id = id.into();
        let job = self.get(id).await?;
        let total = job.counts.map_or(0, |counts| counts.total);
        let only = job.spec.and_then(|spec| spec.elements).map(|elements| elements.only).unwrap_or_default();
        let spans = if only.is_empty() { vec![Span { first: 0, count: total }] } else { only };
        Ok(self.in_order_of(id, spans, query))
    }

    /// The same if it is known already which tasks the job has.
    pub(crate) fn in_order_of(&self, id: JobId, mut spans: Vec<Span>, query: ResultsQuery) -> InOrder {
        spans.retain(|span| span.count > 0);
        spans.sort_by_key(|span| span.first);
        let results = self.results(id, ResultsQuery { cursor: 0, follow: true, ..query });
        InOrder {
            client: self.clone(),
            job: id,
            results,
            heavy: query.with_output || query.with_values,
            turns: Turns { spans: spans.into() },
            held: BTreeMap::new(),
            held_bytes: 0,
            limit: HELD_BYTES,
            dropped: RoaringBitmap::new(),
            fetched: VecDeque::new(),
            over: false,
        }
    }
}
