//! Every metric, once: its name, kind, labels and what it says. `docs/METRICS.md` is written from here.

/// What Prometheus calls the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only rises, from 0 at each start.
    Counter,
    /// As it is now.
    Gauge,
    /// How many took how long.
    Histogram,
}

/// How a metric is introduced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) labels: &'static [&'static str],
    pub(crate) help: &'static str,
}

/// Every metric, in the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    BuildInfo,
    Epoch,
    ReadOnly,
    Recovering,
    JobsLive,
    JobsKept,
    JobsSubmitted,
    JobsEnded,
    Tasks,
    TasksSubmitted,
    TasksEnded,
    AttemptsStarted,
    AttemptsEnded,
    AttemptsRetried,
    StaleReports,
    TaskWait,
    TaskRun,
    Submit,
    Commit,
    StoreBytes,
    DiskFreeBytes,
    Connections,
    ConnectionsRefused,
    Queues,
    QueueJobs,
    QueueTasks,
    QueueOldestWait,
    QueuePaused,
    QueueTasksSubmitted,
    QueueAttemptsStarted,
    QueueTasksEnded,
    Workers,
    WorkersLost,
    Slots,
    SlotsBusy,
    WorkerInfo,
    WorkerUp,
    WorkerSlots,
    WorkerSlotsBusy,
    WorkerTasks,
    WorkerSilence,
    WorkerAttemptsEnded,
    WorkerCpu,
    WorkerMemory,
    ProcessCpu,
    ProcessResident,
    ProcessVirtual,
    ProcessThreads,
    ProcessOpenFiles,
    ProcessMostFiles,
    ProcessStart,
}

/// Queues that are told one by one.
pub(crate) const QUEUES: usize = 200;
/// Workers that are told one by one.
pub(crate) const WORKERS: usize = 1_000;

impl Metric {
    /// One that is missing here is never made, which the compiler says.
    pub(crate) const ALL: &'static [Metric] = &[
        Metric::BuildInfo,
        Metric::Epoch,
        Metric::ReadOnly,
        Metric::Recovering,
        Metric::JobsLive,
        Metric::JobsKept,
        Metric::JobsSubmitted,
        Metric::JobsEnded,
        Metric::Tasks,
        Metric::TasksSubmitted,
        Metric::TasksEnded,
        Metric::AttemptsStarted,
        Metric::AttemptsEnded,
        Metric::AttemptsRetried,
        Metric::StaleReports,
        Metric::TaskWait,
        Metric::TaskRun,
        Metric::Submit,
        Metric::Commit,
        Metric::StoreBytes,
        Metric::DiskFreeBytes,
        Metric::Connections,
        Metric::ConnectionsRefused,
        Metric::Queues,
        Metric::QueueJobs,
        Metric::QueueTasks,
        Metric::QueueOldestWait,
        Metric::QueuePaused,
        Metric::QueueTasksSubmitted,
        Metric::QueueAttemptsStarted,
        Metric::QueueTasksEnded,
        Metric::Workers,
        Metric::WorkersLost,
        Metric::Slots,
        Metric::SlotsBusy,
        Metric::WorkerInfo,
        Metric::WorkerUp,
        Metric::WorkerSlots,
        Metric::WorkerSlotsBusy,
        Metric::WorkerTasks,
        Metric::WorkerSilence,
        Metric::WorkerAttemptsEnded,
        Metric::WorkerCpu,
        Metric::WorkerMemory,
        Metric::ProcessCpu,
        Metric::ProcessResident,
        Metric::ProcessVirtual,
        Metric::ProcessThreads,
        Metric::ProcessOpenFiles,
        Metric::ProcessMostFiles,
        Metric::ProcessStart,
    ];

    /// How it is introduced.
    pub(crate) fn about(self) -> About {
        let (name, kind, labels, help): (_, _, &[&str], _) = match self {
            Metric::BuildInfo => (
                "taskq_build_info",
                Kind::Gauge,
                &["version", "store", "durability"],
                "Always 1: which coordinator this is.",
            ),
            Metric::Epoch => {
                ("taskq_epoch", Kind::Gauge, &[], "Rises by one with each start of the coordinator.")
            }
            Metric::ReadOnly => (
                "taskq_read_only",
                Kind::Gauge,
                &[],
                "1 if submits are refused, because the disk is full or failed.",
            ),
            Metric::Recovering => (
                "taskq_recovering",
                Kind::Gauge,
                &[],
                "1 while a restarted coordinator waits for the workers that it knew.",
            ),
            Metric::JobsLive => ("taskq_jobs_live", Kind::Gauge, &[], "Jobs that have not ended."),
            Metric::JobsKept => ("taskq_jobs_kept", Kind::Gauge, &[], "Jobs that have ended and are kept."),
            Metric::JobsSubmitted => ("taskq_jobs_submitted_total", Kind::Counter, &[], "Jobs taken in."),
            Metric::JobsEnded => {
                ("taskq_jobs_ended_total", Kind::Counter, &["outcome"], "Jobs that ended, by how.")
            }
            Metric::Tasks => ("taskq_tasks", Kind::Gauge, &["state"], "Tasks that have not ended, by state."),
            Metric::TasksSubmitted => ("taskq_tasks_submitted_total", Kind::Counter, &[], "Tasks taken in."),
            Metric::TasksEnded => {
                ("taskq_tasks_ended_total", Kind::Counter, &["outcome"], "Tasks that ended, by how.")
            }
            Metric::AttemptsStarted => (
                "taskq_attempts_started_total",
                Kind::Counter,
                &[],
                "Attempts handed to workers, or found running at one after a restart.",
            ),
            Metric::AttemptsEnded => (
                "taskq_attempts_ended_total",
                Kind::Counter,
                &["verdict"],
                "Attempts that ended, by how. lost: with its worker. rejected: the worker could not run it. returned: given \
                 back before it began.",
            ),
            Metric::AttemptsRetried => (
                "taskq_attempts_retried_total",
                Kind::Counter,
                &[],
                "Attempts that failed or were lost, and are followed by another.",
            ),
            Metric::StaleReports => (
                "taskq_reports_stale_total",
                Kind::Counter,
                &[],
                "Reports refused by their token, and attempts that a worker comes back with when others have them.",
            ),
            Metric::TaskWait => (
                "taskq_task_wait_seconds",
                Kind::Histogram,
                &[],
                "From the submit of a task's job until it was handed to a worker for the first time.",
            ),
            Metric::TaskRun => (
                "taskq_task_run_seconds",
                Kind::Histogram,
                &[],
                "How long attempts ran that succeeded or failed, as their workers say.",
            ),
            Metric::Submit => (
                "taskq_submit_seconds",
                Kind::Histogram,
                &[],
                "From when a submit is understood until it is durable and acknowledged.",
            ),
            Metric::Commit => (
                "taskq_commit_seconds",
                Kind::Histogram,
                &[],
                "How long batches took to be written and synced to the disk.",
            ),
            Metric::StoreBytes => {
                ("taskq_store_bytes", Kind::Gauge, &[], "What the store takes on the disk.")
            }
            Metric::DiskFreeBytes => (
                "taskq_disk_free_bytes",
                Kind::Gauge,
                &[],
                "Free room on the store's disk. Below 64 MiB output is not kept, below 32 MiB submits are refused.",
            ),
            Metric::Connections => ("taskq_connections", Kind::Gauge, &["protocol"], "Open connections."),
            Metric::ConnectionsRefused => (
                "taskq_connections_refused_total",
                Kind::Counter,
                &[],
                "Connections closed at once, because there were too many.",
            ),
            Metric::Queues => (
                "taskq_queues",
                Kind::Gauge,
                &[],
                "Queues that are known. The first 200 by name are told one by one; sums over all are in taskq_tasks.",
            ),
            Metric::QueueJobs => {
                ("taskq_queue_jobs", Kind::Gauge, &["queue"], "Jobs of a queue that have not ended.")
            }
            Metric::QueueTasks => (
                "taskq_queue_tasks",
                Kind::Gauge,
                &["queue", "state"],
                "Tasks of a queue that have not ended, by state.",
            ),
            Metric::QueueOldestWait => (
                "taskq_queue_oldest_wait_seconds",
                Kind::Gauge,
                &["queue"],
                "Since the oldest job of a queue was submitted of which nothing runs; 0 without such a job.",
            ),
            Metric::QueuePaused => {
                ("taskq_queue_paused", Kind::Gauge, &["queue"], "1 if a queue is paused: it starts nothing.")
            }
            Metric::QueueTasksSubmitted => (
                "taskq_queue_tasks_submitted_total",
                Kind::Counter,
                &["queue"],
                "Tasks taken in for a queue. Of a queue that was not used for long it may begin anew.",
            ),
            Metric::QueueAttemptsStarted => (
                "taskq_queue_attempts_started_total",
                Kind::Counter,
                &["queue"],
                "Attempts of a queue's tasks handed to workers. It may begin anew as above.",
            ),
            Metric::QueueTasksEnded => (
                "taskq_queue_tasks_ended_total",
                Kind::Counter,
                &["queue", "outcome"],
                "Tasks of a queue that ended, by how. It may begin anew as above.",
            ),
            Metric::Workers => (
                "taskq_workers",
                Kind::Gauge,
                &["status"],
                "Workers by status. suspect: connection lost, lease running. expected: known before a restart, not back yet.",
            ),
            Metric::WorkersLost => (
                "taskq_workers_lost_total",
                Kind::Counter,
                &[],
                "Workers that died, or were silent for a lease; not those that were drained.",
            ),
            Metric::Slots => ("taskq_slots", Kind::Gauge, &["kind"], "Slots of connected workers."),
            Metric::SlotsBusy => {
                ("taskq_slots_busy", Kind::Gauge, &["kind"], "Those of them that are taken.")
            }
            Metric::WorkerInfo => (
                "taskq_worker_info",
                Kind::Gauge,
                &["worker", "host", "version"],
                "Always 1: which workers there are. The first 1,000 by name are told one by one.",
            ),
            Metric::WorkerUp => ("taskq_worker_up", Kind::Gauge, &["worker"], "1 if a worker is connected."),
            Metric::WorkerSlots => {
                ("taskq_worker_slots", Kind::Gauge, &["worker", "kind"], "Slots of a worker.")
            }
            Metric::WorkerSlotsBusy => {
                ("taskq_worker_slots_busy", Kind::Gauge, &["worker", "kind"], "Those of them that are taken.")
            }
            Metric::WorkerTasks => (
                "taskq_worker_tasks",
                Kind::Gauge,
                &["worker", "state"],
                "Tasks at a worker. waiting: sent ahead, so that no slot idles.",
            ),
            Metric::WorkerSilence => (
                "taskq_worker_silence_seconds",
                Kind::Gauge,
                &["worker"],
                "Since a worker was last heard. After a lease (15 s) without a word it has lost its tasks.",
            ),
            Metric::WorkerAttemptsEnded => (
                "taskq_worker_attempts_ended_total",
                Kind::Counter,
                &["worker"],
                "Attempts that a worker has run to their end, as it says itself every few seconds.",
            ),
            Metric::WorkerCpu => (
                "taskq_worker_cpu_seconds_total",
                Kind::Counter,
                &["worker"],
                "CPU time of a worker's own process, without commands and child processes.",
            ),
            Metric::WorkerMemory => (
                "taskq_worker_resident_memory_bytes",
                Kind::Gauge,
                &["worker"],
                "Memory of a worker's own process, without commands and child processes.",
            ),
            Metric::ProcessCpu => {
                ("process_cpu_seconds_total", Kind::Counter, &[], "CPU time of the coordinator.")
            }
            Metric::ProcessResident => {
                ("process_resident_memory_bytes", Kind::Gauge, &[], "Memory of the coordinator.")
            }
            Metric::ProcessVirtual => {
                ("process_virtual_memory_bytes", Kind::Gauge, &[], "Address space of the coordinator.")
            }
            Metric::ProcessThreads => ("process_threads", Kind::Gauge, &[], "Threads of the coordinator."),
            Metric::ProcessOpenFiles => {
                ("process_open_fds", Kind::Gauge, &[], "Open files and connections of the coordinator.")
            }
            Metric::ProcessMostFiles => ("process_max_fds", Kind::Gauge, &[], "How many it may have open."),
            Metric::ProcessStart => (
                "process_start_time_seconds",
                Kind::Gauge,
                &[],
                "When the coordinator started, in seconds since 1970.",
            ),
        };
        About { name, kind, labels, help }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    const BEGIN: &str =
        "<!-- from server/src/metrics/metric.rs; UPDATE=1 cargo test -p taskq-server --lib metric -->\n";
    const END: &str = "<!-- end -->\n";

    /// The table of the documentation.
    fn table() -> String {
        let mut table = "| name | type | labels | what it says |\n|---|---|---|---|\n".to_owned();
        for metric in Metric::ALL {
            let About { name, kind, labels, help } = metric.about();
            let kind = format!("{kind:?}").to_lowercase();
            table += &format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", "));
        }
        table
    }

    #[test]
    fn the_documents_have_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md");
        let text = std::fs::read_to_string(&path).expect("the document of metrics");
        let (before, rest) = text.split_once(BEGIN).expect("the table's beginning");
        let (written, after) = rest.split_once(END).expect("the table's end");
        if std::env::var_os("UPDATE").is_some() {
            let text = [before, BEGIN, &table(), END, after].concat();
            std::fs::write(&path, text).expect("the document can be written");
        } else {
            assert_eq!(written, table(), "UPDATE=1 writes it anew");
        }
    }

    #[test]
    fn names_follow_the_conventions() {
        let mut names = BTreeSet::new();
        for metric in Metric::ALL {
            let About { name, kind, labels, help } = metric.about();
            assert!(names.insert(name), "{name} is there twice");
            assert!(name.starts_with("taskq_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
            assert!(help.ends_with('.') && !help.contains('\n') && !help.contains('|'), "{name}: {help}");
            for label in labels {
                assert!(label.chars().all(|c| c.is_ascii_lowercase()), "{name}: {label}");
            }
        }
    }
}
