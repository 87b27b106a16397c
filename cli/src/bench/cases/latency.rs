//! One lone operation after another on an idle system, each from submit to its result.

use std::time::Instant;

use taskq_client::JobBuilder;
use taskq_client::model::State;

use crate::bench::daemon;
use crate::bench::machine::micros;
use crate::bench::meter::{Measured, Meter, nanos};
use crate::bench::stage::{Stage, check};
use crate::bench::{figures, worker};

/// Questions whose answers are timed.
const QUESTIONS: usize = 300;

/// What is done each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) enum Of {
    Call,
    Command,
    /// A whole process of the command line.
    Cli,
}

pub(in crate::bench) async fn run(stage: &Stage, tasks: u32, of: Of) -> anyhow::Result<Measured> {
    let mut times = Vec::with_capacity(tasks as usize);
    let meter = Meter::start(stage)?;
    for n in 0..u64::from(tasks) {
        let began = Instant::now();
        match of {
            Of::Call => {
                let value: u64 = stage.client().call(worker::ECHO, n).await?;
                times.push(nanos(began.elapsed()));
                check(value == n, || format!("{}({n}) is {value}", worker::ECHO))?;
            }
            Of::Command => {
                let job = stage.client().submit(JobBuilder::command(["true"])).await?;
                let ended = job.wait(None).await?;
                times.push(nanos(began.elapsed()));
                check(ended.state() == State::Succeeded, || format!("`true` ended as {:?}", ended.state()))?;
            }
            Of::Cli => {
                command_line(stage).await?;
                times.push(nanos(began.elapsed()));
            }
        }
        stage.tick(1);
    }
    meter.stop(times)
}

/// How long the smallest question to the coordinator takes, in microseconds: a job is looked up that does not exist.
pub(in crate::bench) async fn round_trip_us(stage: &Stage) -> anyhow::Result<f64> {
    let mut times = Vec::with_capacity(QUESTIONS);
    for _ in 0..QUESTIONS {
        let began = Instant::now();
        let answer = stage.client().get(u64::MAX).await;
        times.push(micros(began.elapsed()));
        match answer {
            Err(error) if error.kind() == taskq_client::Kind::NotFound => {}
            Err(error) => return Err(error.into()),
            Ok(job) => check(false, || format!("there is a job {}", job.id))?,
        }
    }
    Ok(figures::median(&times))
}

/// `taskq --addr .. run -- true`, to its end.
async fn command_line(stage: &Stage) -> anyhow::Result<()> {
    let furnish = |command: &mut std::process::Command| {
        let access = stage.access();
        command.env("TASKQ_TOKEN", access.token.reveal());
        command.args(["run", "--addr", &access.addr, "--", "true"]);
    };
    let status = daemon::run("taskq run", furnish).await?;
    check(status.success(), || format!("`taskq run -- true` ended with {status}"))
}
