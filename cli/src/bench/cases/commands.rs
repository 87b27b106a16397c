//! One array of programs that do nothing, from submit until all have ended.

use taskq_client::model::State;
use taskq_client::{Elements, JobBuilder, ResultsQuery};

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
        let query = ResultsQuery { with_output: true, ..ResultsQuery::default() };
        let mut results = job.results(query);
        let mut whole = 0;
        while let Some(end) = results.next().await {
            let task = end?.task;
            let written = task.outcome.unwrap_or_default().stdout;
            let right = written == format!("{:0OUTPUT_BYTES$}", task.index);
            whole += u32::from(right);
        }
        check(whole == tasks, || format!("of {tasks} outputs, only {whole} are whole"))?;
    }
    Ok(measured)
}
