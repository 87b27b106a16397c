//! Calls each their own job, while many others wait in the same queue for a worker that serves them.

use crate::bench::cases::{calls, submit};
use crate::bench::meter::Measured;
use crate::bench::stage::{Stage, check};
use crate::bench::worker;

pub(in crate::bench) async fn run(stage: &Stage, tasks: u32, queued: u32) -> anyhow::Result<Measured> {
    submit::bulk(stage, queued).await?;
    let measured = calls::each(stage, tasks, worker::ECHO).await?;
    let left = stage.client().stats().await?.tasks_queued;
    check(left == u64::from(queued), || {
        format!("{queued} calls were to wait meanwhile, and {left} are queued")
    })?;
    Ok(measured)
}
