//! The worker's loop: it waits for what the coordinator says (`told`), for what happens to tasks (`here`), and for
//! time to pass; `link` is the open session.
//!
//! It decides nothing about processes (`runtime/`) and nothing about the wire (`session/`); it is the one place that
//! knows which attempts are here and in which state.

use std::fmt;
use std::future::{Future, pending};
use std::os::unix::ffi::OsStrExt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use rustix::process::{Resource, Rlimit};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::{debug, info};

use crate::attempt::Key;
use crate::cgroup::{self, Places};
use crate::config::Config;
use crate::memory::{self, Memory};
use crate::notify::{Manager, beat_due};
use crate::outbox::{self, Outbox};
use crate::registry::{Function, Registry};
use crate::runtime::{
    Attempt, ChildProgram, Children, Flusher, News as Told, Shared, Surroundings, take_leave,
};
use crate::runtimes::{Programs, Runtimes};
use crate::session::connect;
use crate::session::{self, Blobs, Incarnation, Losses, News, Outgoing};
use crate::slots::Slots;
use crate::spawner::{Setup, Spawner, Who};

mod here;
mod link;
mod pace;
mod told;
mod values;

use link::Link;
use pace::Pace;
use values::{Stored, Values};

/// A task that has waited this long behind others is given back: somebody else may be free.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a stopping worker waits for its last reports to be confirmed.
const LAST_REPORTS: Duration = Duration::from_secs(5);
/// How often a worker says how it is, also while it reports.
const FIGURES: Duration = Duration::from_secs(5);
/// Events handled in one go.
const EVENTS: usize = 256;

/// Why a worker ended without having been told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The token is not the coordinator's.
    #[error("the coordinator refused the token ({0}); copy its access.toml here, or give --token-file")]
    Unauthorised(String),
    /// The coordinator does not want a worker like this one.
    #[error("the coordinator refused this worker: {0}")]
    Refused(String),
    /// Address or token are unusable.
    #[error(transparent)]
    Access(taskq_client::Error),
    /// The process that runs tasks cannot be started.
    #[error("cannot start the process that runs tasks")]
    Spawner(#[source] std::io::Error),
    /// There are not enough threads for the functions.
    #[error("cannot start the threads that run functions; give fewer --slots")]
    Threads(#[source] std::io::Error),
    /// The program with functions cannot be started, or does not keep to the protocol.
    #[error("cannot use the program {command:?} of --child: {why}")]
    Child {
        /// As it was given.
        command: String,
        /// What happened.
        why: String,
    },
}

/// Works until `shutdown` completes, then drains: takes nothing, gives back what has not started, finishes the rest.
///
/// Dropping the future instead kills what runs, and tells the coordinator that this worker is dead.
///
/// # Errors
/// See [`Error`]. A coordinator that cannot be reached is none: the worker tries for ever.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    run_until(config, shutdown, pending()).await
}

/// As [`run`]; when `stop` completes, what runs is stopped too (TERM, grace, KILL) and goes to other workers.
///
/// # Errors
/// As for [`run`].
pub async fn run_until(
    config: Config,
    drain: impl Future<Output = ()>,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    run_functions(config, Functions::default(), drain, stop).await
}

/// What a worker has beside commands.
#[derive(Clone, Default)]
pub(crate) struct Functions {
    pub registry: Registry,
    /// Of each child of this program.
    pub memory_bytes: Option<u64>,
}

/// As [`run_until`], with functions.
pub(crate) async fn run_functions(
    config: Config,
    functions: Functions,
    drain: impl Future<Output = ()>,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let dial = connect::Dial::new(&config.access).map_err(Error::Access)?.from_address(config.source_address);
    let blobs = Blobs::new(dial.channel(Duration::MAX));
    let mut drain = pin!(drain);
    let Some((mut worker, inbox)) = Loop::start(config, functions, blobs, drain.as_mut()).await? else {
        return Ok(());
    };
    let result = worker.work(session::open(dial), inbox, drain, stop).await;
    // Children go first: nobody is to miss one when the spawner ends it.
    let shared = Arc::clone(&worker.shared);
    drop(worker);
    shared.spawner.farewell().await;
    result
}

struct Loop {
    config: Config,
    places: Places,
    incarnation: Incarnation,
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    slots: Slots,
    running: FxHashMap<Key, Running>,
    pace: Pace,
    runtimes: Arc<Runtimes>,
    outbox: Outbox,
    blobs: Blobs,
    values: Values,
    uploads: JoinSet<()>,
    /// What is done beside the tasks.
    chores: JoinSet<()>,
    link: Option<Link>,
    /// Whether this worker has ever been welcome: before, a refusal is its end.
    known: bool,
    losses: Losses,
    lease: Duration,
    phase: Phase,
    /// Who ended the work, once it is ending.
    drainer: Option<Drainer>,
    /// The coordinator does not know that yet.
    must_tell: bool,
    /// When to look for tasks that waited too long.
    give_back_at: Option<Instant>,
    /// By the clock since boot: from then on tasks may be somebody else's. None: that does not matter.
    safe_until: Option<Duration>,
    /// When to give back what has not started by then; the spawner kills the rest.
    fence_at: Option<Instant>,
    /// When to leave, confirmed or not.
    leave_at: Option<Instant>,
}

/// What the runtimes and the uploads have to say.
struct Inbox {
    events: mpsc::UnboundedReceiver<Told>,
    stored: mpsc::UnboundedReceiver<Stored>,
}

struct Running {
    attempt: Box<dyn Attempt>,
    /// The function, if its calls can be handed over several at once.
    function: Option<Arc<str>>,
    /// Since when it has been behind another one in its slot, and may not have begun.
    behind: Option<Instant>,
    /// Its reports are nobody's business.
    dropped: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Working,
    Draining,
    Stopping,
}

/// On whose word a worker drains; for its log.
#[derive(Clone, Copy)]
enum Drainer {
    Operator,
    Here,
}

impl fmt::Display for Drainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Drainer::Operator => "an operator asked the coordinator for it (`taskq worker drain`)",
            Drainer::Here => "this process was told to stop",
        })
    }
}

impl Loop {
    /// None: it was told to end before it had begun.
    async fn start(
        config: Config,
        functions: Functions,
        blobs: Blobs,
        drain: impl Future<Output = ()>,
    ) -> Result<Option<(Loop, Inbox)>, Error> {
        // What a killed spawner leaves behind comes to us.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|errno| Error::Spawner(errno.into()))?;
        let open_files = raise_open_files();
        let incarnation = Incarnation(rand::random::<u64>().max(1));
        // Before there are threads or children: the worker may have to step into another group, and they with it.
        let places = cgroup::find();
        cgroup::sweep(&places);
        let setup = Setup {
            incarnation: incarnation.0,
            addr: config.access.addr.clone(),
            token: config.access.token.reveal().to_owned(),
            worker: config.name.clone(),
            open_files,
            nobody_to_tell: config.coordinator_is_here,
            source_address: config.source_address.map(|ip| ip.to_string()).unwrap_or_default(),
            places: Some((&places).into()),
        };
        let who = Who { program: config.spawner.clone(), setup };
        // Bounded by what sends into it: two reports a task that runs, and output as far as there is room for it.
        let (news, events) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            spawner: Spawner::start(who).map_err(Error::Spawner)?,
            surroundings: Surroundings::new(config.name.clone(), config.nice),
            news,
            room: outbox::room(),
            memory: Memory::watch(),
            flusher: Flusher::default(),
        });
        let started = tokio::select! {
            biased;
            started = runtimes(&config, functions, &shared, &blobs) => started.map(Some),
            () = drain => Ok(None),
        };
        let (registry, runtimes) = match started {
            Ok(Some(started)) => started,
            nothing @ (Ok(None) | Err(_)) => {
                // It has nothing to mourn.
                shared.spawner.farewell().await;
                return nothing.map(|_| None);
            }
        };
        let mut chores = JoinSet::new();
        chores.spawn(cgroup::sweep_again(places.clone()));
        let (values, stored) = Values::new();
        let worker = Loop {
            places,
            incarnation,
            shared,
            registry,
            slots: Slots::new(config.slots, config.async_slots, config.resources.clone()),
            running: FxHashMap::default(),
            pace: Pace::default(),
            runtimes,
            outbox: Outbox::default(),
            blobs,
            values,
            uploads: JoinSet::new(),
            chores,
            link: None,
            known: false,
            losses: Losses::default(),
            lease: Duration::ZERO,
            phase: Phase::Working,
            drainer: None,
            must_tell: false,
            give_back_at: None,
            safe_until: None,
            fence_at: None,
            leave_at: None,
            config,
        };
        Ok(Some((worker, Inbox { events, stored })))
    }

    async fn work(
        &mut self,
        mut news: mpsc::Receiver<News>,
        inbox: Inbox,
        drain: impl Future<Output = ()>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let (mut drain, mut stop) = (pin!(drain), pin!(stop));
        let (mut told_to_drain, mut told_to_stop) = (false, false);
        let Inbox { events: mut told, mut stored } = inbox;
        let mut events = Vec::with_capacity(EVENTS);
        let mut look = interval(memory::LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut figures = interval(FIGURES);
        figures.set_missed_tick_behavior(MissedTickBehavior::Delay);
        info!(
            name = self.config.name,
            slots = self.config.slots,
            limits = self.places.kept(),
            addr = self.config.access.addr,
            "worker started"
        );
        let mut manager = if self.config.tell_manager { Manager::find() } else { None };
        manager.iter().for_each(Manager::ready);
        while !self.is_done() {
            self.start_what_fits();
            // Who has more to do than there are slots reports several ends at a time.
            let now = Instant::now();
            let due = self.outbox.due(self.slots.has_waiting(), now);
            let is_due = self.must_tell || due.is_some_and(|due| due <= now);
            let later = due.filter(|_| !is_due);
            let Loop { link, .. } = self;
            let is_welcome = matches!(link, Some(Link { heartbeat: Some(_), .. }));
            let (outgoing, heartbeat) = match link {
                Some(Link { outgoing, heartbeat: Some(heartbeat), .. }) => {
                    (Some(&*outgoing), Some(heartbeat))
                }
                Some(_) | None => (None, None),
            };
            tokio::select! {
                said = news.recv() => self.hear(said.expect("the session lives as long as its listener"))?,
                Some(stored) = stored.recv() => self.stored(stored),
                _ = told.recv_many(&mut events, EVENTS) => events.drain(..).for_each(|event| self.happened(event)),
                () = ready(outgoing), if is_due => self.send(),
                () = at(later) => {}
                () = tick(heartbeat) => self.beat(),
                _ = look.tick() => self.shared.memory.look(),
                _ = figures.tick(), if is_welcome => self.beat(),
                () = beat_due(manager.as_mut()) => manager.iter().for_each(|manager| manager.beat(&self.status())),
                () = at(self.give_back_at) => self.give_back(),
                () = at(self.fence_at) => self.fence(),
                () = at(self.leave_at) => break,
                () = &mut drain, if !told_to_drain => {
                    told_to_drain = true;
                    self.drain(Drainer::Here);
                }
                () = &mut stop, if !told_to_stop => {
                    told_to_stop = true;
                    self.stop();
                }
            }
        }
        if let Some(manager) = manager {
            manager.stopping().await;
        }
        self.say_goodbye(news).await;
        if let Some(by) = self.drainer {
            info!("drained, as {by}: the worker ends, and is back when it is started again");
        }
        Ok(())
    }

    fn is_done(&mut self) -> bool {
        self.runtimes.tend();
        take_leave(&mut self.uploads);
        take_leave(&mut self.chores);
        if self.phase == Phase::Working {
            return false;
        }
        // Nothing runs any more: what is left is to be told, and a value that cannot be stored does not hold it up.
        if self.phase == Phase::Stopping && self.running.is_empty() && self.leave_at.is_none() {
            self.leave_at = Some(Instant::now() + LAST_REPORTS);
        }
        self.slots.is_empty() && self.values.is_empty() && self.outbox.is_settled()
    }

    /// Leaves in good order, if there is anybody to tell.
    async fn say_goodbye(&mut self, mut news: mpsc::Receiver<News>) {
        let Some(Link { outgoing, heartbeat: Some(_), .. }) = &mut self.link else { return };
        let ending = async {
            if outgoing.ready().await {
                outgoing.goodbye();
            }
            while let Some(News::Said(_) | News::Opening(_)) = news.recv().await {}
        };
        let _ = timeout(LAST_REPORTS, ending).await;
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.runtimes.abandon();
    }
}

async fn runtimes(
    config: &Config,
    functions: Functions,
    shared: &Arc<Shared>,
    blobs: &Blobs,
) -> Result<(Arc<Registry>, Arc<Runtimes>), Error> {
    let Functions { mut registry, memory_bytes } = functions;
    let foreign = foreign(config, shared, &mut registry, memory_bytes).await?;
    let registry = Arc::new(registry);
    let own = ChildProgram { argv: vec![config.spawner.as_os_str().as_bytes().to_vec()], memory_bytes };
    let programs = Programs { own, foreign };
    let runtimes = Runtimes::start(shared, Arc::clone(&registry), blobs.clone(), programs, config.slots);
    Ok((registry, runtimes.map_err(Error::Threads)?))
}

/// Starts a child of another program once, to hear what functions it has.
async fn foreign(
    config: &Config,
    shared: &Shared,
    registry: &mut Registry,
    memory_bytes: Option<u64>,
) -> Result<Option<ChildProgram>, Error> {
    let Some(command) = &config.child else { return Ok(None) };
    let unusable = |why| Error::Child { command: command.clone(), why };
    let argv = ["/bin/sh", "-c", command].map(|word| word.as_bytes().to_vec()).to_vec();
    let program = ChildProgram { argv, memory_bytes };
    info!(
        "waiting until the program {command:?} of --child says which functions it has, for {:?} at most",
        Children::PATIENCE
    );
    for function in Children::functions(shared, &program).await.map_err(unusable)? {
        registry.try_add(&function, Function::Foreign).map_err(unusable)?;
    }
    Ok(Some(program))
}

/// A connection and two pipes per task, thousands of tasks: the soft limit of 1,024 files is not for us. Returns the
/// former one, which tasks get.
fn raise_open_files() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if rustix::process::setrlimit(Resource::Nofile, raised).is_err() {
        debug!("the limit of open files stays as it is");
    }
    limit.current.unwrap_or(0)
}

async fn ready(outgoing: Option<&Outgoing>) {
    match outgoing {
        // A link that is lost is not ready; the session will say so.
        Some(outgoing) if outgoing.ready().await => {}
        Some(_) | None => pending().await,
    }
}

async fn tick(heartbeat: Option<&mut Interval>) {
    match heartbeat {
        Some(heartbeat) => _ = heartbeat.tick().await,
        None => pending().await,
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
