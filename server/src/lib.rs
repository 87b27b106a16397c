//! The coordinator as a library: [`open`] restores what the disk has, [`Coordinator::serve`] takes it to the world.
//!
//! Bytes enter at `api`, become an event, pass once through `taskq-core` in `coordinator/run`, leave as writes (disk
//! first: `coordinator/commit`) and effects (then the world: `coordinator/deliver`). Reads go from `store` to `api`:
//! what is readable is what is durable. Scheduling decisions are all in `taskq-core`.

pub mod access;
pub mod api;
pub mod clock;
pub mod cmd;
pub mod config;
pub mod coordinator;
pub mod dial;
pub mod elements;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod store;
pub mod templates;

use std::{io, path::Path, sync::Arc, time::Duration};

use taskq_core::{State, id::Epoch};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
};

use crate::{
    access::{Access, Token},
    api::room::Promised,
    api::{Context, Start, backup::Backups, pages::Pages},
    clock::Clock,
    config::Config,
    coordinator::{Handle, commit, deliver, restore, retain, run, sessions::Sessions},
    metrics::Metrics,
    store::{LogStore, MemoryStore, Options, Store},
    templates::Templates,
};

/// How long calls may take to end once the coordinator stops, and then the disk.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why the coordinator cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// `access.toml`.
    #[error(transparent)]
    Access(#[from] access::Error),
    /// The port.
    #[error("cannot listen")]
    Listen(#[source] io::Error),
    /// A thread of the coordinator panicked; the log says where.
    #[error(
        "this is a bug in taskq-server: a thread of the coordinator has ended (the log says where); start it again"
    )]
    Broken,
    /// The gRPC server.
    #[error("the gRPC server failed")]
    Serve(#[from] tonic::transport::Error),
}

/// A coordinator that has its state and its port, and does not answer yet.
#[derive(Debug)]
pub struct Coordinator {
    config: Config,
    listener: TcpListener,
    access: Access,
    store: Arc<dyn Store>,
    state: State,
    epoch: Epoch,
    clock: Clock,
    manager: Option<notify::Manager>,
}

/// Opens the store, restores the state in a new epoch and writes `access.toml`.
///
/// # Errors
/// If another server has the directory, the store cannot be read, or the listener has no address.
pub fn open(config: Config, listener: TcpListener) -> Result<Coordinator, Error> {
    let clock = Clock::start();
    if let Some(dir) = &config.data {
        store::check_directories(dir)?;
    }
    let addr = listener.local_addr().map_err(Error::Listen)?;
    if let (Some(dir), true) = (&config.data, config.advertise) {
        access::check_home(dir, addr)?;
    }
    let given = config.token_file.as_deref().map(Token::read).transpose()?;
    let store: Arc<dyn Store> = match &config.data {
        Some(dir) => Arc::new(open_store(dir, &config)?),
        None => Arc::new(MemoryStore::default()),
    };
    let limits = taskq_core::Config {
        lease: config.lease,
        grace: config.lease.max(taskq_core::id::Millis(30_000)),
        max_live_jobs: config.max_jobs,
        lost_detail: api::convert::view::lost_detail(),
        ..taskq_core::Config::default()
    };
    let (state, epoch) = restore::restore(&*store, limits, clock.now())?;
    let access = match &config.data {
        Some(dir) if config.advertise => access::ensure(dir, addr, given)?,
        Some(_) | None => Access { addr, token: given.unwrap_or_else(Token::random) },
    };
    Ok(Coordinator { config, listener, access, store, state, epoch, clock, manager: None })
}

fn open_store(dir: &Path, config: &Config) -> Result<LogStore, store::Error> {
    let (guard, accept_loss) = (config.guard, config.accept_loss);
    LogStore::open(&Options { guard, accept_loss, ..Options::new(dir) })
}

impl Coordinator {
    /// How to come in.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Lets a service manager know how it is.
    #[must_use]
    pub fn told_to(self, manager: Option<notify::Manager>) -> Coordinator {
        Coordinator { manager, ..self }
    }

    /// Answers until `shutdown` is ready, then ends within a few seconds; running tasks go on at their workers.
    ///
    /// # Errors
    /// If the store or the gRPC server fails. Nothing is acknowledged after the store's first error.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let Coordinator { config, listener, access, store, state, epoch, clock, manager } = self;
        let instance = access.token.fingerprint();
        let (handle, inbox) = Handle::new(Arc::new(Sessions::default()));
        let metrics = Arc::new(Metrics::default());
        let templates = Arc::new(Templates::new(Arc::clone(&store)));
        let greeting = deliver::Greeting { epoch, lease: config.lease, instance: instance.clone() };
        let deliver = deliver::Deliver::new(&handle, templates, greeting);
        let (stop, stopping) = watch::channel(false);
        let (commits, mut committed) = commit::start(Arc::clone(&store), deliver, Arc::clone(&metrics));
        start_loop(run::run(clock, state, inbox, commits, stopping.clone()))?;

        let telling = manager.map(|manager| tokio::spawn(manager.tell(handle.clone(), stopping.clone())));
        let start = Start { at: tokio::time::Instant::now(), epoch, instance };
        let context = Context {
            handle: handle.clone(),
            store: Arc::clone(&store),
            room: Promised::default(),
            metrics: Arc::clone(&metrics),
            start,
            backups: Backups::new(access.token.clone()),
            stopping,
        };
        let retaining = tokio::spawn(retain::retain(clock, store, config.keep, handle.clone()));
        let (farewell, said) = oneshot::channel::<()>();
        let pages = Arc::new(Pages::new(context.clone(), access.token.clone()));
        let incoming = api::accept::accept(listener, Arc::downgrade(&pages), metrics);
        let router = api::router(context, access.token);
        let mut serving = Box::pin(router.serve_with_incoming_shutdown(incoming, async {
            // Dropped or sent: both say stop.
            let _stop = said.await;
        }));
        tracing::info!(addr = %access.addr, %epoch, "the coordinator is ready");

        let mut stored = None;
        // Cancel-safe: each arm ends the coordinator.
        let served = tokio::select! {
            served = &mut serving => served,
            ended = &mut committed => {
                stored = Some(ended.unwrap_or(Ok(())).map_err(Error::Store).and(Err(Error::Broken)));
                Ok(())
            }
            () = shutdown => {
                tracing::info!("stopping");
                stop.send_replace(true);
                handle.close();
                drop(farewell);
                tokio::time::timeout(FAREWELL, &mut serving).await.unwrap_or(Ok(()))
            }
        };
        stop.send_replace(true);
        handle.close();
        retaining.abort();
        if let Some(telling) = telling {
            // A manager that does not listen holds up nothing.
            let _told = tokio::time::timeout(FAREWELL, telling).await;
        }
        drop((serving, pages, handle));
        match stored {
            Some(failed) => failed?,
            None => match tokio::time::timeout(FAREWELL, committed).await {
                Ok(ended) => ended.map_err(|_| Error::Broken)??,
                // What it was writing was not acknowledged, and is whole or absent at the next start.
                Err(_) => tracing::warn!("the disk did not finish in time"),
            },
        }
        Ok(served?)
    }
}

/// The loop on a thread and a runtime of its own, so that nothing else delays it. If it panics the commit thread
/// ends, and with it the coordinator.
fn start_loop(body: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(Error::Listen)?;
    let thread = std::thread::Builder::new().name("loop".into()).spawn(move || runtime.block_on(body));
    thread.map(drop).map_err(Error::Listen)
}
