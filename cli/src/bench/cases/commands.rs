//! One array of programs that do nothing, from submit until all have ended.

use taskq_client::model::State;
use taskq_client::{Elements, JobBuilder, JobHandle, LogsQuery};

use crate::bench::meter::{Measured, Meter};
use crate::bench::stage::{Stage, check};

/// What each task writes, if it writes.
const OUTPUT_BYTES: usize = 2_048;

/// Whether tasks write something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) enum Output {
    Nothing,
    Captured,
}

pub(in crate::bench) async fn run(stage: &Stage, tasks: u32, output: Output) -> anyhow::Result<Measured> {
    let program = match output {
        Output::Nothing => vec!["true".to_owned()],
        // As cheap to start as `true`. The element, its number, comes as the last argument.
        Output::Captured => vec!["printf".to_owned(), format!("%0{OUTPUT_BYTES}d")],
    };
    let job = JobBuilder::command(program).elements(Elements::new().range(0, 1, tasks));

    let meter = Meter::start(stage)?;
    let job = stage.client().submit(job).await?;
    let ended = job.wait(None).await?;
    let measured = meter.stop(Vec::new())?;

    let counts = ended.counts.unwrap_or_default();
    let all = ended.state() == State::Succeeded && counts.succeeded == tasks;
    check(all, || {
        format!("of {tasks} commands, {} have succeeded and {} failed", counts.succeeded, counts.failed)
    })?;
    if output == Output::Captured {
        let whole = whole_outputs(&job, tasks).await?;
        check(whole == tasks as usize, || format!("of {tasks} outputs, only {whole} are whole"))?;
    }
    Ok(measured)
}

/// Of how many tasks all that they wrote was kept: each writes its number, with zeros before it. One that takes long is
/// read in pieces.
async fn whole_outputs(job: &JobHandle, tasks: u32) -> anyhow::Result<usize> {
    let mut read = vec![0; tasks as usize];
    let mut logs = job.logs(LogsQuery::default());
    while let Some(chunk) = logs.next().await {
        let chunk = chunk?;
        let written = format!("{:0OUTPUT_BYTES$}", chunk.index).into_bytes();
        let read = &mut read[chunk.index as usize];
        let next = written.get(*read..*read + chunk.data.len());
        check(next == Some(&chunk.data[..]), || {
            format!("the output of task {} is not its own", chunk.index)
        })?;
        *read += chunk.data.len();
    }
    Ok(read.iter().filter(|read| **read == OUTPUT_BYTES).count())
}
