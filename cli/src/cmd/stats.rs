//! `taskq stats`: the coordinator's own numbers.

use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::output;
use crate::text;

/// Show how the coordinator is doing
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  taskq stats\n  taskq stats --json | jq .tasks_running")]
pub(crate) struct Args {}

#[derive(Serialize)]
struct StatsView {
    version: String,
    instance: String,
    epoch: u64,
    uptime_ms: u64,
    store: String,
    durability: String,
    read_only: bool,
    recovering: bool,
    jobs_live: u64,
    jobs_kept: u64,
    tasks_queued: u64,
    tasks_running: u64,
    tasks_backoff: u64,
    tasks_ended: u64,
    stale_reports: u64,
    workers: u32,
    slots: u32,
    commits: u64,
    commit_p50_us: u64,
    commit_p99_us: u64,
    disk_bytes: u64,
    next_job_id: u64,
}

pub(crate) async fn run(Args {}: Args, context: &Context) -> anyhow::Result<Exit> {
    let stats = context.client().await?.stats().await?;
    let view = StatsView {
        version: stats.version,
        instance: stats.instance,
        epoch: stats.epoch,
        uptime_ms: stats.uptime_ms,
        store: stats.store,
        durability: stats.durability,
        read_only: stats.read_only,
        recovering: stats.recovering,
        jobs_live: stats.jobs_live,
        jobs_kept: stats.jobs_kept,
        tasks_queued: stats.tasks_queued,
        tasks_running: stats.tasks_running,
        tasks_backoff: stats.tasks_backoff,
        tasks_ended: stats.tasks_ended,
        stale_reports: stats.stale_reports,
        workers: stats.workers,
        slots: stats.slots,
        commits: stats.commits,
        commit_p50_us: stats.commit_p50_us,
        commit_p99_us: stats.commit_p99_us,
        disk_bytes: stats.disk_bytes,
        next_job_id: stats.next_job_id,
    };
    output::one(&context.screen, "taskq.v1.stats", &view, &lines(&view))?;
    Ok(Exit::Ok)
}

fn lines(view: &StatsView) -> Vec<String> {
    let mut lines = vec![
        format!(
            "coordinator {}  up {}  epoch {}  store {} ({}), {}",
            text::visible(&view.version),
            text::duration(view.uptime_ms),
            view.epoch,
            text::visible(&view.store),
            text::visible(&view.durability),
            text::size(view.disk_bytes)
        ),
        format!("jobs        {} live, {} kept", view.jobs_live, view.jobs_kept),
        format!(
            "tasks       {} queued, {} running, {} backing off; {} ended since start",
            view.tasks_queued, view.tasks_running, view.tasks_backoff, view.tasks_ended
        ),
        format!("workers     {} with {} slots", view.workers, view.slots),
        format!(
            "commits     {} since start, p50 {:.1}ms, p99 {:.1}ms",
            view.commits,
            view.commit_p50_us as f64 / 1_000.0,
            view.commit_p99_us as f64 / 1_000.0
        ),
    ];
    if view.stale_reports > 0 {
        lines.push(format!("stale       {} late reports were refused since start", view.stale_reports));
    }
    if view.read_only {
        lines.push("read-only   the disk is full: free space, submits are refused until then".to_owned());
    }
    if view.recovering {
        lines.push("recovering  waits for workers known before the restart".to_owned());
    }
    lines
}
