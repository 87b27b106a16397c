//! `taskq-worker`: reads its settings, listens for signals, runs the worker, and says by its exit code how it went.

use std::{io::IsTerminal as _, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use rustix::process::DumpableBehavior;
use taskq_worker::{Args, Config, Error, LogFormat};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

const NOT_AUTHORISED: u8 = 77;
const CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    taskq_worker::spawner::maybe_become();
    let args = Args::parse();
    start_log(args.log_format);
    match work(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("taskq-worker: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn work(args: Args) -> anyhow::Result<()> {
    // Tasks run under the same user: they must not read the token out of this process.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let config = Config::try_from(args).context("find the coordinator")?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let (drain, mut first) = tokio::sync::oneshot::channel::<()>();
        let (stop, second) = tokio::sync::oneshot::channel::<()>();
        let signals = tokio::spawn(async move {
            let mut steps = [Some(drain), Some(stop)].into_iter();
            while let Some(step) = steps.next().flatten() {
                tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
                let _ = step.send(());
            }
        });
        let drained = async { _ = (&mut first).await };
        let result = taskq_worker::run_until(config, drained, async { _ = second.await }).await;
        signals.abort();
        result.map_err(anyhow::Error::from)
    })
}

fn listen(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("listen for signals")
}

fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Error>() {
        Some(Error::Unauthorised(_)) => NOT_AUTHORISED,
        Some(Error::Refused(_) | Error::Access(_) | Error::Spawner(_)) | None => CONFIGURATION,
    }
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("TASKQ_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    match format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().init(),
    }
}
