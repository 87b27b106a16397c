//! The one place that runs the coordinator and the worker inside this process: for `taskq up`, `--local` and
//! `TASKQ_ADDR=local`. The same code as the binaries; what was acknowledged is in the data directory.

use std::path::{Path, PathBuf};

use taskq_client::{Access, Token};
use taskq_server::store;
use taskq_worker::Worker;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

use crate::exit::{Exit, Failure};

/// Stays the same, so that the next start takes the place of one that was killed at once.
const WORKER: &str = "local";

/// Must be the first thing that `main` does: a worker starts this executable once more to watch over its tasks.
pub(crate) fn maybe_become_spawner() {
    taskq_worker::spawner::maybe_become();
}

/// What an embedded coordinator and worker can be told.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) dir: PathBuf,
    /// `HOST:PORT`; port 0 takes a free one.
    pub(crate) listen: String,
    /// Slots of the worker; `None` = one per core.
    pub(crate) slots: Option<u32>,
    /// Whether there is a worker at all.
    pub(crate) works: bool,
    /// Whether other commands are to find it.
    pub(crate) advertise: bool,
    /// What the worker offers beside commands.
    pub(crate) functions: Worker,
}

/// Which part has ended, without having been told to by this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Nobody is served any more.
    Coordinator,
    /// An operator has drained it. The coordinator goes on with the workers that come from elsewhere.
    Worker,
}

/// A coordinator and a worker that live as long as this value.
pub(crate) struct Embedded {
    access: Access,
    slots: u32,
    /// Each says its word by being dropped.
    shutdown: oneshot::Sender<()>,
    drain: Option<oneshot::Sender<()>>,
    kill: oneshot::Sender<()>,
    serving: Option<JoinHandle<Result<(), taskq_server::Error>>>,
    working: Option<JoinHandle<Result<(), taskq_worker::Error>>>,
}

impl Embedded {
    /// Starts on the data directory and a free port of the loopback, for this command alone; a worker only if it `works`.
    pub(crate) async fn start(dir: PathBuf, works: bool) -> anyhow::Result<Embedded> {
        let listen = "127.0.0.1:0".to_owned();
        Embedded::start_at(Settings {
            dir,
            listen,
            slots: None,
            works,
            advertise: false,
            functions: Worker::default(),
        })
        .await
    }

    /// The same with all settings. The port is open when this returns.
    pub(crate) async fn start_at(settings: Settings) -> anyhow::Result<Embedded> {
        let Settings { dir, listen, slots, works, advertise, functions } = settings;
        let filter = EnvFilter::try_from_env("TASKQ_LOG").unwrap_or_else(|_| EnvFilter::new("error"));
        // Only a second start in one process finds a log already there, and shares it.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
        let listener = TcpListener::bind(&listen).await.map_err(|cause| {
            Failure::because(Exit::Unreachable, taskq_server::listen::refused(&listen, &cause))
        })?;
        let exposed = listener.local_addr().is_ok_and(|addr| !addr.ip().is_loopback());
        if exposed {
            let advice = "use taskq-server and taskq-worker for several machines";
            return Err(Failure::because(
                Exit::Config,
                format!("{listen} is reachable from other machines; {advice}"),
            ));
        }
        let config =
            taskq_server::config::Config { advertise, ..taskq_server::config::Config::new(Some(dir)) };
        let coordinator = taskq_server::open(config, listener).map_err(|error| match error {
            taskq_server::Error::Store(store::Error::Locked { dir, pid }) if !advertise => in_use(&dir, pid),
            error => of_server(error),
        })?;
        let (addr, token) =
            (coordinator.access().addr.to_string(), coordinator.access().token.reveal().to_owned());

        let (shutdown, shut_down) = oneshot::channel::<()>();
        let serving = tokio::spawn(coordinator.serve(async { _ = shut_down.await }));

        // Tasks run under the same user: they must not read the token out of this process.
        let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
        let access = Access::new(addr, Token::new(token)?);
        let mut config = taskq_worker::Config::new(access.clone());
        config.name = WORKER.to_owned();
        config.coordinator_is_here = true;
        config.slots = slots.unwrap_or(config.slots);
        let slots = config.slots;
        let (drain, drained) = oneshot::channel::<()>();
        let (kill, killed) = oneshot::channel::<()>();
        let drained = async { _ = drained.await };
        let killed = async { _ = killed.await };
        let working = works.then(|| tokio::spawn(functions.run_until(config, drained, killed)));

        let serving = Some(serving);
        Ok(Embedded { access, slots, shutdown, drain: Some(drain), kill, serving, working })
    }

    /// Where it listens, and its token.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// The worker's name.
    pub(crate) fn worker(&self) -> &str {
        WORKER
    }

    /// How many tasks the worker runs at once.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    /// Ends when the coordinator or the worker ends by itself: which, or why it failed. Each is told once.
    /// Cancel-safe.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<Part> {
        tokio::select! {
            Some(served) = handle(&mut self.serving) => served.map(|()| Part::Coordinator).map_err(of_server),
            Some(worked) = handle(&mut self.working) => worked.map(|()| Part::Worker).map_err(of_worker),
            else => std::future::pending().await,
        }
    }

    /// The worker takes nothing new; returns when what runs has ended. Cancel-safe.
    pub(crate) async fn drained(&mut self) -> anyhow::Result<()> {
        self.drain = None;
        handle(&mut self.working).await.map_or(Ok(()), |result| result.map_err(of_worker))
    }

    /// Stops what runs, then the worker, then the coordinator.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        drop((self.drain, self.kill));
        let worked = handle(&mut self.working).await;
        drop(self.shutdown);
        let served = handle(&mut self.serving).await;
        worked.map_or(Ok(()), |result| result.map_err(of_worker))?;
        served.map_or(Ok(()), |result| result.map_err(of_server))
    }
}

/// The end of a part that runs; `None` if it was told before. A panic goes on here.
async fn handle<T>(part: &mut Option<JoinHandle<T>>) -> Option<T> {
    let ended = part.as_mut()?.await;
    *part = None;
    match ended {
        Ok(result) => Some(result),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

/// `--local` has no --data, which the coordinator's own words would name.
fn in_use(dir: &Path, pid: u32) -> anyhow::Error {
    let dir = dir.display();
    Failure::because(
        Exit::Busy,
        format!(
            "data directory {dir} is in use by process {pid}; if that is a coordinator (taskq up, taskq-server), leave \
             out --local to use it; if it is another --local, try again when it has ended, or name another directory: \
             --addr local:DIR"
        ),
    )
}

/// The documented exit codes for what keeps a coordinator from running.
fn of_server(error: taskq_server::Error) -> anyhow::Error {
    use taskq_server::Error;
    let exit = match &error {
        Error::Store(store::Error::Locked { .. }) => Exit::Busy,
        Error::Store(
            store::Error::Corrupt { .. }
            | store::Error::Loss { .. }
            | store::Error::Unfinished { .. }
            | store::Error::Newer { .. }
            | store::Error::NoDirectory { .. },
        )
        | Error::Access(_) => Exit::Config,
        Error::Store(store::Error::Full { .. } | store::Error::Io { .. }) => Exit::InputOutput,
        Error::Listen(_) => Exit::Unreachable,
        Error::Serve(_) | Error::Broken => Exit::Internal,
    };
    Failure::because(exit, format!("{:#}", anyhow::Error::new(error)))
}

/// The exit codes of taskq-worker for what keeps a worker from running.
fn of_worker(error: taskq_worker::Error) -> anyhow::Error {
    use taskq_worker::Error;
    let exit = match &error {
        Error::Unauthorised(_) => Exit::Denied,
        Error::Refused(_)
        | Error::Access(_)
        | Error::Spawner(_)
        | Error::Threads(_)
        | Error::Child { .. } => Exit::Config,
    };
    Failure::because(exit, format!("{:#}", anyhow::Error::new(error)))
}
