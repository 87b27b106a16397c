//! Forgets ended jobs that are old, or too many, and blobs that no job needs any more.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use taskq_core::{effect::Reply, event::Question};
use taskq_core::{
    event::Event,
    id::{JobId, RequestId},
};

use crate::{
    api::convert,
    clock::Clock,
    coordinator::{Handle, Unanswered},
    store::{Retention, Store},
};

/// How soon it looks again after it has found something.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: it doubles as long as nothing is overdue, so that an idle coordinator is idle.
const LONG_PAUSE: Duration = Duration::from_secs(8);
/// Jobs forgotten in one step: few enough that others are not held up.
const STEP: usize = 1_000;
/// How often blobs that no job needs are looked for.
const SWEEP: Duration = Duration::from_secs(3_600);

/// Runs until the coordinator stops. A job is as old as both clocks say: one that jumps forward forgets nothing.
pub async fn retain(clock: Clock, store: Arc<dyn Store>, keep: Retention, handle: Handle) {
    let mut swept = tokio::time::Instant::now();
    let mut pause = PAUSE;
    loop {
        let jobs = store.expired(clock.calendar(), &keep, STEP);
        let more = jobs.len() == STEP;
        pause = if jobs.is_empty() { (2 * pause).min(LONG_PAUSE) } else { PAUSE };
        if forget(&handle, jobs).await.is_err() {
            return;
        }
        if swept.elapsed() >= SWEEP {
            swept = tokio::time::Instant::now();
            sweep(&store, &handle).await;
        }
        if !more {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Returns when the last of them is durably forgotten.
async fn forget(handle: &Handle, jobs: Vec<JobId>) -> Result<(), Unanswered> {
    let Some(last) = jobs.last() else { return Ok(()) };
    let mut gone = handle.follow(*last);
    handle.tell(Event::Forget { jobs }).await?;
    gone.changed().await.map_err(|_| Unanswered::Stopping)
}

async fn sweep(store: &Arc<dyn Store>, handle: &Handle) {
    let ask = |request: RequestId| Event::Ask { request, question: Question::Stats };
    let Ok(Reply::Stats(stats)) = handle.ask(ask).await else { return };
    let store = Arc::clone(store);
    let swept = tokio::task::spawn_blocking(move || {
        let used = OnceLock::new();
        store.sweep_blobs(&|blob| used.get_or_init(|| blobs_in_use(&*store, stats.next_job)).contains(blob))
    });
    match swept.await {
        Ok(Ok(0)) => {}
        Ok(Ok(blobs)) => tracing::info!(blobs, "removed blobs that no job refers to"),
        Ok(Err(error)) => tracing::error!(%error, "cannot remove old blobs"),
        Err(error) => tracing::error!(%error, "looking for old blobs failed"),
    }
}

/// The blobs that jobs below `end` refer to. A job submitted meanwhile refers to young blobs, which stay anyway.
fn blobs_in_use(store: &dyn Store, end: JobId) -> HashSet<[u8; 32]> {
    let specs = (1..end.0).filter_map(|id| store.submitted(JobId(id)).ok());
    let inputs = specs.flat_map(|record| convert::submit::blobs(&record.spec));
    inputs.chain(store.outcome_blobs()).collect()
}
