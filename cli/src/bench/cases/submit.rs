//! Durable submits of what no worker can take: the submit alone is measured, and nothing runs meanwhile.

use std::time::Instant;

use bytes::Bytes;
use taskq_client::model::JobSpec;
use taskq_client::{Client, Codec, Elements, JobBuilder};
use tokio::task::JoinSet;

use crate::bench::meter::{Measured, Meter, nanos};
use crate::bench::stage::{Stage, check};
use crate::bench::worker;

/// Of each array.
const ELEMENTS: u32 = 1_000_000;

/// How jobs are submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) enum How {
    /// One by one, by so many clients at once, each with a connection of its own.
    Single { clients: u32 },
    /// As a stream by one client, which sends them by the hundreds.
    Bulk,
    /// One by one, each an array of a million elements.
    Arrays,
}

pub(in crate::bench) async fn run(stage: &Stage, tasks: u32, how: How) -> anyhow::Result<Measured> {
    let measured = match how {
        How::Single { clients } => single(stage, tasks, clients).await?,
        How::Arrays => {
            let meter = Meter::start(stage)?;
            let times = one_by_one(stage.client().clone(), tasks, array).await?;
            meter.stop(times)?
        }
        How::Bulk => {
            let meter = Meter::start(stage)?;
            bulk(stage, tasks).await?;
            meter.stop(Vec::new())?
        }
    };
    let queued = stage.client().stats().await?.tasks_queued;
    let wanted = match how {
        How::Single { .. } | How::Bulk => u64::from(tasks),
        How::Arrays => u64::from(tasks) * u64::from(ELEMENTS),
    };
    check(queued == wanted, || format!("{wanted} tasks were submitted, and {queued} are queued"))?;
    Ok(measured)
}

async fn single(stage: &Stage, tasks: u32, clients: u32) -> anyhow::Result<Measured> {
    let mut connected = Vec::new();
    for number in 0..clients {
        // The first ones take one more where it does not come out even.
        let share = tasks / clients + u32::from(number < tasks % clients);
        connected.push((stage.another_client().await?, share));
    }
    let meter = Meter::start(stage)?;
    let mut all = JoinSet::new();
    for (client, share) in connected {
        all.spawn(one_by_one(client, share, job));
    }
    let mut times = Vec::with_capacity(tasks as usize);
    while let Some(ended) = all.join_next().await {
        let of_one = ended??;
        stage.tick(of_one.len() as u64);
        times.extend(of_one);
    }
    meter.stop(times)
}

async fn one_by_one(client: Client, jobs: u32, job: fn(u32) -> JobBuilder) -> anyhow::Result<Vec<u64>> {
    let mut times = Vec::with_capacity(jobs as usize);
    for n in 0..jobs {
        let began = Instant::now();
        client.submit(job(n)).await?;
        times.push(nanos(began.elapsed()));
    }
    Ok(times)
}

/// Submits so many jobs, as fast as one client can.
pub(super) async fn bulk(stage: &Stage, jobs: u32) -> anyhow::Result<()> {
    let pattern = stage.client().prepare(job(0)).await?;
    let specs = (0..jobs).map(move |n| with_argument(&pattern, n));
    let mut submitted = stage.client().submit_many(tokio_stream::iter(specs));
    let mut count = 0;
    while let Some(id) = submitted.next().await {
        id?;
        count += 1;
        stage.tick(1);
    }
    check(count == jobs, || format!("of {jobs} jobs, only {count} were taken"))
}

fn job(n: u32) -> JobBuilder {
    JobBuilder::call(worker::UNSERVED, Codec::Json, &n)
}

/// Commands that fit no worker.
fn array(_: u32) -> JobBuilder {
    let elements = Elements::new().range(0, 1, ELEMENTS);
    JobBuilder::command(["true"]).worker_label("bench", "none").elements(elements)
}

fn with_argument(pattern: &JobSpec, n: u32) -> JobSpec {
    let mut spec = pattern.clone();
    spec.call.get_or_insert_default().argument = Bytes::from(n.to_string());
    spec
}
