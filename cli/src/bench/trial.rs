//! One variant once: a stage of its own, the limit that binds it, the work, and the end of the stage. Within its time, or
//! until somebody interrupts.

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, interval, sleep_until};

use crate::exit::{self, Exit, Failure};
use crate::interrupt::Interrupts;

use super::case::{Limit, Variant, Work};
use super::cases::{backlog, calls, commands, latency, payload, submit};
use super::machine::{self, Machine};
use super::meter::Measured;
use super::stage::{Place, Stage};
use super::telling::Telling;

/// What came of it.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) measured: Measured,
    /// What the machine could do just before, if that is what binds: operations a second, or microseconds for one.
    pub(super) limit: Option<f64>,
}

/// Where trials take place, and what ends them early.
pub(super) struct Ground<'a> {
    pub(super) place: &'a Place,
    /// The time of one trial.
    pub(super) most: Duration,
    pub(super) interrupts: Interrupts,
    pub(super) telling: Telling,
}

impl Ground<'_> {
    /// Measures a variant.
    pub(super) async fn trial(&mut self, variant: &Variant) -> anyhow::Result<Trial> {
        let threads = self.place.slots * variant.workers;
        self.on_a_stage(variant.workers, async |stage| {
            let limit = limit(stage, variant.limit, threads).await?;
            let measured = work(stage, variant.work, variant.tasks).await?;
            Ok(Trial { measured, limit })
        })
        .await
    }

    /// Measures the machine.
    pub(super) async fn machine(&mut self) -> anyhow::Result<Machine> {
        let threads = self.place.slots;
        self.on_a_stage(1, async |stage| {
            Ok(Machine {
                cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
                kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
                fdatasync_per_second: fdatasyncs(stage.folder()).await?,
                spawns_per_second: blocking(move || machine::spawns(threads)).await?,
                lone_spawn_us: blocking(machine::lone_spawn_us).await?,
                round_trip_us: blocking(machine::round_trip_us).await?,
                grpc_round_trip_us: latency::round_trip_us(stage).await?,
            })
        })
        .await
    }

    /// Starts a stage, lets something happen on it, and stops it, however that went.
    async fn on_a_stage<T>(
        &mut self,
        workers: u32,
        act: impl AsyncFnOnce(&Stage) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + self.most;
        let stage = self.in_time(deadline, None, Stage::start(self.place, workers)).await?;
        let ready_and_act = async {
            stage.until_ready().await?;
            act(&stage).await
        };
        let acted = self.in_time(deadline, Some(&stage), ready_and_act).await;
        // What has ended by itself says why in its log.
        let acted = acted.map_err(|error| match exit::of_error(&error) {
            Exit::Interrupted => error,
            exit => Failure::because(exit, format!("{error:#}{}", stage.said())),
        });
        let stopped = stage.stop().await;
        let acted = acted?;
        stopped?;
        Ok(acted)
    }

    async fn in_time<T>(
        &mut self,
        deadline: Instant,
        stage: Option<&Stage>,
        act: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let ended = async {
            match stage {
                Some(stage) => stage.ended().await,
                None => std::future::pending().await,
            }
        };
        let (mut act, mut ended, mut late) = (pin!(act), pin!(ended), pin!(sleep_until(deadline)));
        let mut looks = interval(self.telling.pause());
        loop {
            // Cancel-safe: only the interrupts and looks are polled anew, and both say so.
            tokio::select! {
                biased;
                acted = &mut act => return acted,
                error = &mut ended => return Err(error),
                () = self.interrupts.next() => {
                    return Err(Failure::because(Exit::Interrupted, "interrupted; nothing that was started is left"));
                }
                () = &mut late => {
                    let seconds = self.most.as_secs_f64();
                    let advice = "allow more with --timeout, or measure less with --tasks or --quick";
                    return Err(Failure::because(
                        Exit::TimedOut,
                        format!("it was not done within {seconds} s; {advice}"),
                    ));
                }
                _ = looks.tick() => self.telling.look(stage.map_or(0, Stage::done)),
            }
        }
    }
}

async fn work(stage: &Stage, work: Work, tasks: u32) -> anyhow::Result<Measured> {
    match work {
        Work::Submit(how) => submit::run(stage, tasks, how).await,
        Work::Commands(output) => commands::run(stage, tasks, output).await,
        Work::Array { function } => calls::array(stage, tasks, function).await,
        Work::Each { function } => calls::each(stage, tasks, function).await,
        Work::Latency(of) => latency::run(stage, tasks, of).await,
        Work::Payload { bytes } => payload::run(stage, tasks, bytes).await,
        Work::Backlog { queued } => backlog::run(stage, tasks, queued).await,
    }
}

/// What the machine can do of it, right now.
async fn limit(stage: &Stage, limit: Limit, threads: u32) -> anyhow::Result<Option<f64>> {
    match limit {
        Limit::None | Limit::First => Ok(None),
        Limit::Fdatasyncs => fdatasyncs(stage.folder()).await.map(Some),
        Limit::Spawns => blocking(move || machine::spawns(threads)).await.map(Some),
        Limit::Path { spawns } => {
            let sync_us = 1e6 / fdatasyncs(stage.folder()).await?;
            let round_trip_us = latency::round_trip_us(stage).await?;
            let spawn_us = if spawns == 0 { 0.0 } else { blocking(machine::lone_spawn_us).await? };
            Ok(Some(3.0 * sync_us + 4.0 * round_trip_us + f64::from(spawns) * spawn_us))
        }
    }
}

async fn fdatasyncs(folder: &Path) -> anyhow::Result<f64> {
    let folder = folder.to_owned();
    blocking(move || machine::fdatasyncs(&folder)).await
}

/// On a thread that may block, so that an interrupt is heard meanwhile.
async fn blocking<T: Send + 'static>(
    measure: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(measure).await?
}
