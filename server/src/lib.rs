//! The coordinator as a library: [`open`] restores what the disk has, [`Coordinator::serve`] takes it to the world.
//!
//! Bytes enter at `api`, become an event, pass once through `taskq-core` in `coordinator/run`, leave as writes (disk
//! first: `coordinator/commit`) and effects (then the world: `coordinator/deliver`). Reads go from `store` to `api`:
//! what is readable is what is durable. Scheduling decisions are all in `taskq-core`.

pub mod access;
pub mod api;
pub mod clock;
pub mod config;
pub mod coordinator;
pub mod disk;
pub mod elements;
pub mod metrics;
pub mod store;
pub mod templates;

use std::{io, sync::Arc, time::Duration};

use taskq_core::{State, id::Epoch};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
};

use crate::{
    access::{Access, Token},
    api::{Context, Start},
    clock::Clock,
    config::Config,
    coordinator::{Handle, commit, deliver, restore, retain, run, sessions::Sessions},
    disk::Space,
    metrics::Metrics,
    store::{LogStore, MemoryStore, Options, Store},
    templates::Templates,
};

/// How long calls may take to end once the coordinator stops.
const FAREWELL: Duration = Duration::from_secs(3);

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
}

/// Opens the store, restores the state in a new epoch and writes `access.toml`.
///
/// # Errors
/// If another server has the directory, the store cannot be read, or the listener has no address.
pub fn open(config: Config, listener: TcpListener) -> Result<Coordinator, Error> {
    let clock = Clock::start();
    let addr = listener.local_addr().map_err(Error::Listen)?;
    let store: Arc<dyn Store> = match &config.data {
        Some(dir) => Arc::new(LogStore::open(&Options { guard: config.guard, ..Options::new(dir) })?),
        None => Arc::new(MemoryStore::default()),
    };
    let limits = taskq_core::Config {
        lease: config.lease,
        grace: config.lease.max(taskq_core::id::Millis(30_000)),
        max_live_jobs: config.max_jobs,
        ..taskq_core::Config::default()
    };
    let (state, epoch) = restore::restore(&*store, limits, clock.now())?;
    let access = match &config.data {
        Some(dir) => access::ensure(dir, addr)?,
        None => Access { addr, token: Token::random() },
    };
    Ok(Coordinator { config, listener, access, store, state, epoch, clock })
}

impl Coordinator {
    /// How to come in.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Answers until `shutdown` is ready, then ends within a few seconds; running tasks go on at their workers.
    ///
    /// # Errors
    /// If the store or the gRPC server fails. Nothing is acknowledged after the store's first error.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let Coordinator { config, listener, access, store, state, epoch, clock } = self;
        let instance = access.token.fingerprint();
        let (handle, inbox) = Handle::new(Arc::new(Sessions::default()));
        let metrics = Arc::new(Metrics::default());
        let templates = Arc::new(Templates::new(Arc::clone(&store)));
        let greeting = deliver::Greeting { epoch, lease: config.lease, instance: instance.clone() };
        let deliver = deliver::Deliver::new(&handle, templates, greeting);
        let (commits, committing) = commit::start(Arc::clone(&store), deliver, Arc::clone(&metrics));
        let (ended, mut looped) = oneshot::channel();
        let looping = start_loop(run::run(clock, state, inbox, commits), ended)?;

        let space = Arc::new(Space::of(config.data.as_deref()));
        let (stop, stopping) = watch::channel(false);
        let start = Start { at: tokio::time::Instant::now(), epoch, instance };
        let context = Context {
            handle: handle.clone(),
            store: Arc::clone(&store),
            space: Arc::clone(&space),
            metrics,
            start,
            stopping,
        };
        let watching = tokio::spawn(async move { space.watch().await });
        let retaining = tokio::spawn(retain::retain(store, config.keep, handle.clone()));
        let (farewell, said) = oneshot::channel::<()>();
        let incoming = api::accept::accept(listener);
        let router = api::router(context, access.token);
        let mut serving = Box::pin(router.serve_with_incoming_shutdown(incoming, async {
            // Dropped or sent: both say stop.
            let _stop = said.await;
        }));
        tracing::info!(addr = %access.addr, %epoch, "the coordinator is ready");

        // Cancel-safe: each arm ends the coordinator.
        let served = tokio::select! {
            served = &mut serving => served,
            () = shutdown => {
                tracing::info!("stopping");
                stop.send_replace(true);
                handle.sessions.close_all();
                drop(farewell);
                tokio::time::timeout(FAREWELL, &mut serving).await.unwrap_or(Ok(()))
            }
            _ = &mut looped => Ok(()),
        };
        stop.send_replace(true);
        handle.sessions.close_all();
        watching.abort();
        retaining.abort();
        drop((serving, handle));
        // The loop ends once every handle is gone; calls that are still open hold some.
        let _ended = tokio::time::timeout(FAREWELL, looped).await;
        let committed = tokio::task::spawn_blocking(move || join(looping, committing)).await;
        match committed {
            Ok(Some(result)) => result?,
            Ok(None) | Err(_) => tracing::warn!("some calls did not end in time"),
        }
        Ok(served?)
    }
}

/// The loop on a thread and a runtime of its own, so that nothing else delays it.
fn start_loop(
    body: impl Future<Output = ()> + Send + 'static,
    ended: oneshot::Sender<()>,
) -> Result<std::thread::JoinHandle<()>, Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(Error::Listen)?;
    let thread = std::thread::Builder::new().name("loop".into()).spawn(move || {
        runtime.block_on(body);
        // Nobody waits for it any more when the coordinator has gone already.
        let _told = ended.send(());
    });
    thread.map_err(Error::Listen)
}

/// The commit thread's result; `None` if the loop still runs.
fn join(
    looping: std::thread::JoinHandle<()>,
    committing: commit::Thread,
) -> Option<Result<(), store::Error>> {
    if !looping.is_finished() && !committing.is_finished() {
        return None;
    }
    committing.join().ok()
}
