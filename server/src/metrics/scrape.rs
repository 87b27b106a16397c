//! The values of all metrics at one moment.

use std::collections::HashMap;

use taskq_core::{
    id::{Millis, SessionId, WallTime},
    overview::{Overview, WorkerFigures},
    tally::{Ends, Histogram},
};

use super::{
    metric::Metric,
    process::{self, Process},
    text,
};
use crate::store::{Room, Store, Usage};

/// What a worker says of its own process now and then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerProcess {
    /// CPU time since its start.
    pub cpu_us: u64,
    /// Memory.
    pub resident_bytes: u64,
    /// Attempts that it has run to their end.
    pub attempts_ended: u64,
}

/// What was found, of which [`Metric`]s are made.
#[derive(Debug)]
pub(crate) struct Scrape {
    pub(crate) overview: Box<Overview>,
    pub(crate) workers: HashMap<SessionId, WorkerProcess>,
    pub(crate) submits: Histogram,
    pub(crate) commits: Histogram,
    pub(crate) grpc: u64,
    pub(crate) http: u64,
    pub(crate) turned_away: u64,
    /// When this coordinator started.
    pub(crate) started: WallTime,
}

/// The same, of what has to be read from the disk and the kernel.
#[derive(Debug)]
pub(super) struct Found {
    usage: Usage,
    free_bytes: Option<u64>,
    read_only: bool,
    process: Process,
}

/// One value, with those of the metric's labels.
#[derive(Debug)]
pub(super) struct Sample<'a> {
    pub(super) labels: Vec<&'a str>,
    pub(super) value: Value<'a>,
}

/// What a sample says.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Number(f64),
    Spans(&'a Histogram),
}

impl Scrape {
    /// All of it as Prometheus reads it. Looks at the disk: not for a thread that must not block.
    ///
    /// # Errors
    /// What was gathered cannot be written down, which is a bug.
    pub(crate) fn text(&self, store: &dyn Store, read_only: bool) -> Result<String, prometheus::Error> {
        let free_bytes = match store.room() {
            Room::Free { bytes, .. } => Some(bytes),
            Room::Ample | Room::Over => None,
        };
        let found = Found { usage: store.usage(), free_bytes, read_only, process: process::look() };
        text::write(|metric| self.samples(&found, metric))
    }

    /// The values of a metric, which may have none now.
    fn samples<'a>(&'a self, found: &'a Found, metric: Metric) -> Vec<Sample<'a>> {
        let Overview { stats, tally, queues, workers, .. } = &*self.overview;
        let process = &found.process;
        match metric {
            Metric::BuildInfo => {
                let durability = if found.usage.synced { "synced" } else { "none" };
                vec![sample(&[env!("CARGO_PKG_VERSION"), found.usage.engine, durability], 1)]
            }
            Metric::Epoch => one(stats.epoch.0),
            Metric::ReadOnly => one(u64::from(found.read_only)),
            Metric::Recovering => one(u64::from(stats.recovering)),
            Metric::JobsLive => one(stats.jobs),
            Metric::JobsKept => one(found.usage.kept_jobs),
            Metric::JobsSubmitted => one(tally.jobs_submitted),
            Metric::JobsEnded => by_outcome(&[], tally.jobs_ended),
            Metric::Tasks => by_state(&[], [stats.queued, stats.running, stats.backoff]),
            Metric::TasksSubmitted => one(tally.tasks_submitted),
            Metric::TasksEnded => by_outcome(&[], tally.tasks_ended),
            Metric::AttemptsStarted => one(tally.attempts_started),
            Metric::AttemptsEnded => {
                let ended = tally.attempts_ended;
                vec![
                    sample(&["succeeded"], ended.succeeded),
                    sample(&["failed"], ended.failed),
                    sample(&["cancelled"], ended.cancelled),
                    sample(&["rejected"], ended.rejected),
                    sample(&["lost"], ended.lost),
                    sample(&["returned"], ended.returned),
                ]
            }
            Metric::AttemptsRetried => one(tally.retried),
            Metric::StaleReports => one(tally.stale),
            Metric::TaskWait => spans(&tally.wait),
            Metric::TaskRun => spans(&tally.run),
            Metric::Submit => spans(&self.submits),
            Metric::Commit => spans(&self.commits),
            Metric::StoreBytes => one(found.usage.disk_bytes),
            Metric::DiskFreeBytes => maybe(found.free_bytes),
            Metric::Connections => vec![sample(&["grpc"], self.grpc), sample(&["http"], self.http)],
            Metric::ConnectionsRefused => one(self.turned_away),
            Metric::Queues => one(self.overview.all_queues as u64),
            Metric::QueueJobs => each(queues, |queue| vec![sample(&[&queue.name], queue.jobs)]),
            Metric::QueueTasks => {
                each(queues, |queue| by_state(&[&queue.name], [queue.queued, queue.running, queue.backoff]))
            }
            Metric::QueueOldestWait => {
                each(queues, |queue| vec![number(&[&queue.name], seconds(queue.oldest_wait))])
            }
            Metric::QueuePaused => {
                each(queues, |queue| vec![sample(&[&queue.name], u64::from(queue.paused))])
            }
            Metric::QueueTasksSubmitted => {
                each(queues, |queue| vec![sample(&[&queue.name], queue.submitted)])
            }
            Metric::QueueAttemptsStarted => each(queues, |queue| vec![sample(&[&queue.name], queue.started)]),
            Metric::QueueTasksEnded => each(queues, |queue| by_outcome(&[&queue.name], queue.ended)),
            Metric::Workers => {
                let all = self.overview.all_workers;
                vec![
                    sample(&["online"], all.online),
                    sample(&["draining"], all.draining),
                    sample(&["suspect"], all.suspect),
                    sample(&["expected"], all.expected),
                ]
            }
            Metric::WorkersLost => one(tally.workers_lost),
            Metric::Slots => by_kind(&[], [self.overview.plain.offered, self.overview.r#async.offered]),
            Metric::SlotsBusy => by_kind(&[], [self.overview.plain.busy, self.overview.r#async.busy]),
            Metric::WorkerInfo => {
                each(workers, |worker| vec![sample(&[&worker.name, &worker.host, &worker.version], 1)])
            }
            Metric::WorkerUp => {
                each(workers, |worker| vec![sample(&[&worker.name], u64::from(worker.session.is_some()))])
            }
            Metric::WorkerSlots => each(workers, |worker| {
                by_kind(&[&worker.name], [worker.plain.offered, worker.r#async.offered])
            }),
            Metric::WorkerSlotsBusy => {
                each(workers, |worker| by_kind(&[&worker.name], [worker.plain.busy, worker.r#async.busy]))
            }
            Metric::WorkerTasks => each(workers, |worker| {
                vec![
                    sample(&[&worker.name, "running"], worker.running),
                    sample(&[&worker.name, "waiting"], worker.waiting),
                ]
            }),
            Metric::WorkerSilence => {
                each(workers, |worker| vec![number(&[&worker.name], seconds(worker.silent))])
            }
            Metric::WorkerAttemptsEnded => self.of_workers(|process| process.attempts_ended as f64),
            Metric::WorkerCpu => self.of_workers(|process| process.cpu_us as f64 / 1e6),
            Metric::WorkerMemory => self.of_workers(|process| process.resident_bytes as f64),
            Metric::ProcessCpu => vec![number(&[], process.cpu_s)],
            Metric::ProcessResident => maybe(process.resident_bytes),
            Metric::ProcessVirtual => maybe(process.virtual_bytes),
            Metric::ProcessThreads => maybe(process.threads),
            Metric::ProcessOpenFiles => maybe(process.open_files),
            Metric::ProcessMostFiles => maybe(process.most_files),
            Metric::ProcessStart => vec![number(&[], self.started.0 as f64 / 1e3)],
        }
    }

    /// Of workers that have spoken of themselves in their present session.
    fn of_workers(&self, value: impl Fn(&WorkerProcess) -> f64) -> Vec<Sample<'_>> {
        each(&self.overview.workers, |worker: &WorkerFigures| {
            let process = worker.session.and_then(|session| self.workers.get(&session));
            process.map(|process| number(&[&worker.name], value(process))).into_iter().collect()
        })
    }
}

fn one<'a>(value: u64) -> Vec<Sample<'a>> {
    vec![sample(&[], value)]
}

fn maybe<'a>(value: Option<u64>) -> Vec<Sample<'a>> {
    value.map(|value| sample(&[], value)).into_iter().collect()
}

fn spans(histogram: &Histogram) -> Vec<Sample<'_>> {
    vec![Sample { labels: Vec::new(), value: Value::Spans(histogram) }]
}

fn sample<'a>(labels: &[&'a str], value: u64) -> Sample<'a> {
    number(labels, value as f64)
}

fn number<'a>(labels: &[&'a str], value: f64) -> Sample<'a> {
    Sample { labels: labels.to_vec(), value: Value::Number(value) }
}

fn each<'a, T>(all: &'a [T], samples: impl Fn(&'a T) -> Vec<Sample<'a>>) -> Vec<Sample<'a>> {
    all.iter().flat_map(samples).collect()
}

fn labelled<'a>(first: &[&'a str], last: &[(&'static str, u64)]) -> Vec<Sample<'a>> {
    last.iter().map(|(label, value)| sample(&[first, &[*label]].concat(), *value)).collect()
}

fn by_outcome<'a>(first: &[&'a str], ends: Ends) -> Vec<Sample<'a>> {
    let Ends { succeeded, failed, cancelled, skipped } = ends;
    let outcomes =
        [("succeeded", succeeded), ("failed", failed), ("cancelled", cancelled), ("skipped", skipped)];
    labelled(first, &outcomes)
}

fn by_state<'a>(first: &[&'a str], [queued, running, backoff]: [u64; 3]) -> Vec<Sample<'a>> {
    labelled(first, &[("queued", queued), ("running", running), ("backoff", backoff)])
}

fn by_kind<'a>(first: &[&'a str], [plain, r#async]: [u64; 2]) -> Vec<Sample<'a>> {
    labelled(first, &[("plain", plain), ("async", r#async)])
}

fn seconds(span: Millis) -> f64 {
    span.0 as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use taskq_core::{
        Config, State,
        effect::{Effect, Outcome, Reply},
        event::{Event, Question},
        id::{Now, RequestId},
        overview::QueueFigures,
    };

    use super::*;
    use crate::store::MemoryStore;

    fn scrape() -> Scrape {
        let mut out = Outcome::default();
        let question = Question::Overview { queues: 1, workers: 1 };
        let ask = Event::Ask { request: RequestId(1), question };
        State::new(Config::default()).step(Now::default(), ask, &mut out);
        let Some(Effect::Reply(_, Reply::Overview(mut overview))) = out.effects.pop() else {
            panic!("{:?}", out.effects)
        };
        overview.tally.run.add(70_000, 2);
        overview.tally.run.add(u64::MAX / 4, 1);
        overview.queues.push(QueueFigures {
            name: Arc::from("a \"queue\" \\ with\na name"),
            paused: true,
            jobs: 1,
            queued: 2,
            running: 3,
            backoff: 4,
            oldest_wait: Millis(1_500),
            submitted: 9,
            started: 5,
            ended: Ends::default(),
        });
        Scrape {
            overview,
            workers: HashMap::new(),
            submits: Histogram::default(),
            commits: Histogram::default(),
            grpc: 7,
            http: 1,
            turned_away: 0,
            started: WallTime(1_700_000_000_500),
        }
    }

    #[test]
    fn values_and_labels_are_written_as_prometheus_reads_them() {
        let text = scrape().text(&MemoryStore::default(), true).expect("it can be written");
        for line in [
            "# TYPE taskq_read_only gauge",
            "taskq_read_only 1",
            "taskq_connections{protocol=\"grpc\"} 7",
            "taskq_queue_tasks{queue=\"a \\\"queue\\\" \\\\ with\\na name\",state=\"backoff\"} 4",
            "taskq_queue_oldest_wait_seconds{queue=\"a \\\"queue\\\" \\\\ with\\na name\"} 1.5",
            "taskq_task_run_seconds_bucket{le=\"0.05\"} 0",
            "taskq_task_run_seconds_bucket{le=\"0.1\"} 2",
            "taskq_task_run_seconds_bucket{le=\"28800\"} 2",
            "taskq_task_run_seconds_bucket{le=\"+Inf\"} 3",
            "taskq_task_run_seconds_count 3",
            "process_start_time_seconds 1700000000.5",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("taskq_worker_up"), "nothing is said of workers that are not there");
    }
}
