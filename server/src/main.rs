//! `taskq-server`: reads the command line, opens the coordinator, serves until told to stop, and says how it ended. Or
//! does what a subcommand says.

use std::{io::IsTerminal as _, process::ExitCode};

use clap::Parser as _;
use taskq_server::{
    Error, cmd,
    config::{Args, CommandLine, LogFormat},
    notify::Manager,
    store,
};
use tokio::{
    net::TcpListener,
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::EnvFilter;

/// Most of what one thread takes here another one frees.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    log(line.serve.log_format);
    let done = match &line.command {
        Some(command) => beside(command),
        None => serve(&line.serve),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            taskq_server::log::failed(line.serve.log_format, &told(&error), code(&error));
            ExitCode::from(code(&error))
        }
    }
}

/// Does something else than serving.
fn beside(command: &cmd::Command) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(command.run());
    // Reading a store cannot be interrupted, and nobody waits for it any more.
    runtime.shutdown_background();
    Ok(done?)
}

fn serve(args: &Args) -> anyhow::Result<()> {
    let config = args.check()?;
    // The coordinator's loop and its disk have threads of their own: half of the cores are left to the connections. A lone
    // call takes a sixth less time with one thread on two cores than with two, which only take turns.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = Builder::new_multi_thread().worker_threads(cores.div_ceil(2)).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(args.listen).await.map_err(|error| {
            let said = taskq_server::listen::refused(&args.listen.to_string(), &error);
            anyhow::Error::new(Error::Listen(error)).context(said)
        })?;
        let coordinator = taskq_server::open(config, listener)?.told_to(Manager::find());
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let shutdown = async move {
            // Cancel-safe: a signal that loses is of no use any more.
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        Ok(coordinator.serve(shutdown).await?)
    })
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("TASKQ_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    match format {
        LogFormat::Text => lines.with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    taskq_server::log::listen_to_panics(format);
}

/// What the system says of a port has been put into words; everything else is told with its causes.
fn told(error: &anyhow::Error) -> String {
    match error.downcast_ref::<Error>() {
        Some(Error::Listen(_)) => error.to_string(),
        _ => format!("{error:#}"),
    }
}

/// The documented exit codes.
fn code(error: &anyhow::Error) -> u8 {
    if error.is::<taskq_server::config::Error>() {
        return 78;
    }
    if let Some(error) = error.downcast_ref::<cmd::Error>() {
        return error.code();
    }
    match error.downcast_ref::<Error>() {
        Some(Error::Store(store::Error::Locked { .. })) => 75,
        Some(
            Error::Store(
                store::Error::Corrupt { .. }
                | store::Error::Loss { .. }
                | store::Error::Unfinished { .. }
                | store::Error::Newer { .. }
                | store::Error::NoDirectory { .. },
            )
            | Error::Access(_),
        ) => 78,
        Some(Error::Store(store::Error::Full { .. } | store::Error::Io { .. })) => 74,
        Some(Error::Listen(_)) => 69,
        Some(Error::Serve(_) | Error::Broken) | None => 70,
    }
}
