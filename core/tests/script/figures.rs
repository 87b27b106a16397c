//! The figures of an overview as lines of a scenario. Ends are succeeded+failed+cancelled+skipped; attempts are
//! succeeded+failed+cancelled+rejected+lost+returned.

use taskq_core::{
    overview::Overview,
    tally::{Ends, Histogram},
};

pub(super) fn figures(overview: &Overview) -> String {
    let ends =
        |ends: &Ends| format!("{}+{}+{}+{}", ends.succeeded, ends.failed, ends.cancelled, ends.skipped);
    let tally = &overview.tally;
    let (jobs, tasks, attempts) = (&tally.jobs_ended, &tally.tasks_ended, &tally.attempts_ended);
    let timed = |histogram: &Histogram| {
        format!("{} in {} ms", histogram.counts.iter().sum::<u64>(), histogram.sum_us / 1_000)
    };
    let mut lines = vec![
        format!("reply: jobs {} ended {}", tally.jobs_submitted, ends(jobs)),
        format!("tasks {} ended {}", tally.tasks_submitted, ends(tasks)),
        format!(
            "attempts {} ended {}+{}+{}+{}+{}+{} retried {}",
            tally.attempts_started,
            attempts.succeeded,
            attempts.failed,
            attempts.cancelled,
            attempts.rejected,
            attempts.lost,
            attempts.returned,
            tally.retried
        ),
        format!("waited {}, ran {}", timed(&tally.wait), timed(&tally.run)),
        format!(
            "workers {:?} lost {} slots {}/{}",
            overview.all_workers, tally.workers_lost, overview.plain.busy, overview.plain.offered
        ),
    ];
    lines.extend(overview.queues.iter().map(|queue| {
        format!(
            "queue {} of {}: jobs {} queued {} running {} backoff {} oldest {} submitted {} started {} ended {}",
            queue.name,
            overview.all_queues,
            queue.jobs,
            queue.queued,
            queue.running,
            queue.backoff,
            queue.oldest_wait,
            queue.submitted,
            queue.started,
            ends(&queue.ended)
        )
    }));
    lines.extend(overview.workers.iter().map(|worker| {
        format!(
            "worker {}: slots {}/{} running {} waiting {} silent {}",
            worker.name,
            worker.plain.busy,
            worker.plain.offered,
            worker.running,
            worker.waiting,
            worker.silent
        )
    }));
    lines.join("\n")
}
