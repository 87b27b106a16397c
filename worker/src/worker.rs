//! The worker's loop: what the coordinator said, what happened to tasks, what may start now.
//!
//! It decides nothing about processes (`runner.rs`) and nothing about the wire (`session/`); it is the one place that
//! knows which attempts are here and in which state.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::{debug, info, warn};

use crate::attempt::{How, Key, Outcome, Task};
use crate::clock;
use crate::command::Surroundings;
use crate::config::{self, Config, OnLeaseLost};
use crate::outbox::{self, Event, Outbox, Report, Seq};
use crate::runner::{self, Context, Stop};
use crate::session::connect;
use crate::session::{self, Hello, Incarnation, Losses, Lost, News, Outgoing, Saying};
use crate::slots::Slots;
use crate::spawner::{Setup, Spawner, Who};

/// A task that has waited this long behind others is given back: somebody else may be free.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a stopping worker waits for its last reports to be confirmed.
const LAST_REPORTS: Duration = Duration::from_secs(5);
/// Self-fencing comes this much before the lease is over, or a quarter of a short lease.
const MARGIN: Duration = Duration::from_secs(1);
/// The number of the first message of a link.
const HELLO: Seq = Seq(1);
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
    let channel = connect::connect_lazy(&config.access).map_err(Error::Access)?;
    let mut worker = Worker::start(config)?;
    let result = worker.work(session::open(channel), drain, stop).await;
    worker.context.spawner.farewell().await;
    result
}

struct Worker {
    config: Config,
    incarnation: Incarnation,
    context: Arc<Context>,
    events: mpsc::UnboundedReceiver<Report>,
    slots: Slots,
    runners: HashMap<Key, Runner>,
    tasks: JoinSet<()>,
    outbox: Outbox,
    link: Option<Link>,
    /// Whether this worker has ever been welcome: before, a refusal is its end.
    known: bool,
    losses: Losses,
    lease: Duration,
    phase: Phase,
    /// When to look for tasks that waited too long.
    give_back_at: Option<Instant>,
    /// By the clock since boot: from then on tasks may be somebody else's. None: that does not matter.
    safe_until: Option<Duration>,
    /// When to give back what has not started by then; the spawner kills the rest.
    fence_at: Option<Instant>,
    /// When to leave, confirmed or not.
    leave_at: Option<Instant>,
}

struct Runner {
    stop: watch::Sender<Option<Stop>>,
    /// Its reports are nobody's business.
    dropped: bool,
}

struct Link {
    outgoing: Outgoing,
    /// None before Welcome.
    heartbeat: Option<Interval>,
    /// When each message went that has not been answered, by the clock since boot: the lease begins anew when one
    /// arrives, hence not before it went.
    unanswered: VecDeque<(Seq, Duration)>,
}

impl Link {
    /// Call it before each message.
    fn sending(&mut self) {
        self.unanswered.push_back((self.outgoing.next_seq(), clock::since_boot()));
    }

    /// When the last message went that has arrived for sure.
    fn answered(&mut self, seq: Seq) -> Option<Duration> {
        let mut last = None;
        while self.unanswered.front().is_some_and(|(sent, _)| *sent <= seq) {
            last = self.unanswered.pop_front().map(|(_, at)| at);
        }
        last
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Working,
    Draining,
    Stopping,
}

impl Worker {
    fn start(config: Config) -> Result<Worker, Error> {
        // What a killed spawner leaves behind comes to us.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|errno| Error::Spawner(errno.into()))?;
        let open_files = raise_open_files();
        let incarnation = Incarnation(rand::random::<u64>().max(1));
        let setup = Setup {
            incarnation: incarnation.0,
            addr: config.access.addr.clone(),
            token: config.access.token.reveal().to_owned(),
            worker: config.name.clone(),
            open_files,
            nobody_to_tell: config.coordinator_is_here,
        };
        let who = Who { program: config.spawner.clone(), setup };
        let (reports, events) = mpsc::unbounded_channel();
        let context = Context {
            spawner: Spawner::start(who).map_err(Error::Spawner)?,
            surroundings: Surroundings::new(config.name.clone(), config.nice),
            reports,
            room: outbox::room(),
        };
        Ok(Worker {
            incarnation,
            context: Arc::new(context),
            events,
            slots: Slots::new(config.slots, config.resources.clone()),
            runners: HashMap::new(),
            tasks: JoinSet::new(),
            outbox: Outbox::default(),
            link: None,
            known: false,
            losses: Losses::default(),
            lease: Duration::ZERO,
            phase: Phase::Working,
            give_back_at: None,
            safe_until: None,
            fence_at: None,
            leave_at: None,
            config,
        })
    }

    async fn work(
        &mut self,
        mut news: mpsc::Receiver<News>,
        drain: impl Future<Output = ()>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let (mut drain, mut stop) = (pin!(drain), pin!(stop));
        let (mut told_to_drain, mut told_to_stop) = (false, false);
        let mut events = Vec::with_capacity(EVENTS);
        info!(
            name = self.config.name,
            slots = self.config.slots,
            addr = self.config.access.addr,
            "worker started"
        );
        while !self.is_done() {
            self.start_what_fits();
            let Worker { link, outbox, events: inbox, .. } = self;
            let (outgoing, heartbeat) = match link {
                Some(Link { outgoing, heartbeat: Some(heartbeat), .. }) => {
                    (Some(&*outgoing), Some(heartbeat))
                }
                Some(_) | None => (None, None),
            };
            tokio::select! {
                said = news.recv() => self.hear(said.expect("the session lives as long as its listener"))?,
                _ = inbox.recv_many(&mut events, EVENTS) => events.drain(..).for_each(|event| self.happened(event)),
                () = ready(outgoing), if outbox.has_unsent() => self.send(),
                () = tick(heartbeat) => self.beat(),
                () = at(self.give_back_at) => self.give_back(),
                () = at(self.fence_at) => self.fence(),
                () = at(self.leave_at) => break,
                () = &mut drain, if !told_to_drain => {
                    told_to_drain = true;
                    self.drain();
                }
                () = &mut stop, if !told_to_stop => {
                    told_to_stop = true;
                    self.stop();
                }
            }
        }
        self.say_goodbye(news).await;
        Ok(())
    }

    fn is_done(&mut self) -> bool {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        if self.phase == Phase::Working || !self.slots.is_empty() {
            return false;
        }
        if self.phase == Phase::Stopping && self.leave_at.is_none() {
            self.leave_at = Some(Instant::now() + LAST_REPORTS);
        }
        self.outbox.is_settled()
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
        info!("drained");
    }

    // ── what the coordinator says ──

    fn hear(&mut self, news: News) -> Result<(), Error> {
        match news {
            News::Opening(outgoing) => {
                let mut link = Link { outgoing, heartbeat: None, unanswered: VecDeque::new() };
                link.sending();
                link.outgoing.hello(&self.hello());
                self.link = Some(link);
            }
            News::Lost(lost) => self.lost(lost)?,
            News::Said(saying) => match saying {
                Saying::Welcome { epoch, lease, heartbeat, abandon } => {
                    info!(epoch = epoch.0, "connected to the coordinator");
                    self.welcome(lease, heartbeat, &abandon);
                }
                Saying::Assign { tasks, unknown } => {
                    for key in unknown {
                        self.give_back_one(key, "its template was never sent");
                    }
                    self.assigned(tasks);
                }
                Saying::Committed(seq) => {
                    self.outbox.confirm(seq);
                    self.renew(seq);
                }
                Saying::Stop { keys, stale: true } => self.abandon(&keys.into_iter().collect()),
                Saying::Stop { keys, stale: false } => keys.into_iter().for_each(|key| self.cancel(key)),
                Saying::Drain => self.drain(),
            },
        }
        Ok(())
    }

    fn hello(&self) -> Hello {
        let dropped = |key: &Key| self.runners.get(key).is_some_and(|runner| runner.dropped);
        let held = self.slots.held().filter(|key| !dropped(key)).chain(self.outbox.ended());
        Hello {
            incarnation: self.incarnation,
            name: self.config.name.clone(),
            host: config::host(),
            slots: self.config.slots,
            named: self.config.resources.clone(),
            labels: self.config.labels.clone(),
            window: self.config.window(),
            held: held.collect(),
        }
    }

    fn lost(&mut self, lost: Lost) -> Result<(), Error> {
        match (self.known, &lost) {
            (false, Lost::Unauthorised(why)) => return Err(Error::Unauthorised(why.clone())),
            (false, Lost::Refused(why)) => return Err(Error::Refused(why.clone())),
            (true, Lost::Unauthorised(_) | Lost::Refused(_))
            | (_, Lost::NameTaken(_) | Lost::Unavailable(_)) => {}
        }
        let addr = &self.config.access.addr;
        match (self.losses.is_news(&lost), &lost) {
            (false, _) => debug!(reason = %lost, "still no coordinator"),
            (true, Lost::NameTaken(_)) => {
                warn!(addr, reason = %lost, "the coordinator does not take this worker now; trying again");
            }
            (true, Lost::Unauthorised(_) | Lost::Refused(_) | Lost::Unavailable(_)) => {
                warn!(addr, reason = %lost, "no coordinator; trying again until it is there");
            }
        }
        self.link = None;
        self.outbox.rewind();
        Ok(())
    }

    fn welcome(&mut self, lease: Duration, heartbeat: Duration, abandon: &HashSet<Key>) {
        self.known = true;
        self.losses.forget();
        self.lease = lease;
        self.renew(HELLO);
        self.abandon(abandon);
        if let Some(link) = &mut self.link {
            let mut beat = interval(heartbeat.max(Duration::from_millis(10)));
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beat.reset();
            link.heartbeat = Some(beat);
        }
    }

    /// The coordinator has heard us: the lease is as long as ever.
    fn renew(&mut self, seq: Seq) {
        let Some(sent) = self.link.as_mut().and_then(|link| link.answered(seq)) else { return };
        if self.config.on_lease_lost == OnLeaseLost::Kill {
            let until = sent + self.lease - MARGIN.min(self.lease / 4);
            self.context.spawner.lease(until);
            self.safe_until = Some(until);
            self.fence_at = Some(Instant::now() + until.saturating_sub(clock::since_boot()));
        }
    }

    fn assigned(&mut self, tasks: Vec<Task>) {
        let now = Instant::now();
        for task in tasks {
            if self.phase > Phase::Working {
                self.give_back_one(task.key, "the worker drains");
            } else if !self.outbox.holds_end_of(task.key) {
                self.slots.add(task, now.into_std());
                self.give_back_at.get_or_insert(now + PATIENCE);
            }
        }
    }

    fn cancel(&mut self, key: Key) {
        if let Some(runner) = self.runners.get(&key) {
            runner.stop.send_replace(Some(Stop::Cancelled));
        } else if self.slots.remove(key).is_some() {
            let now = clock::unix_ms();
            let outcome = Outcome {
                how: How::Cancelled,
                started_unix_ms: now,
                ended_unix_ms: now,
                ..Outcome::default()
            };
            self.outbox.push(Report { key, event: Event::Ended(Box::new(outcome)) });
        }
    }

    fn abandon(&mut self, keys: &HashSet<Key>) {
        for key in keys {
            if let Some(runner) = self.runners.get_mut(key) {
                runner.dropped = true;
                runner.stop.send_replace(Some(Stop::Stale));
                info!(task = %key, "killed: it was given to another worker");
            }
            self.slots.remove(*key);
        }
        self.outbox.abandon(keys);
    }

    // ── what happens here ──

    fn start_what_fits(&mut self) {
        if self.safe_until.is_some_and(|until| until <= clock::since_boot()) {
            return;
        }
        while let Some((task, slot)) = self.slots.start() {
            let key = task.key;
            let (stop, stopped) = watch::channel(None);
            self.runners.insert(key, Runner { stop, dropped: false });
            self.tasks.spawn(runner::run(Arc::clone(&self.context), task, slot, stopped));
        }
    }

    fn happened(&mut self, report: Report) {
        let dropped = self.runners.get(&report.key).is_none_or(|runner| runner.dropped);
        if let Event::Ended(_) = report.event {
            self.runners.remove(&report.key);
            self.slots.end(report.key);
        }
        if !dropped {
            self.outbox.push(report);
        }
    }

    fn send(&mut self) {
        if let Some(link) = &mut self.link {
            let reports = self.outbox.take(link.outgoing.next_seq());
            if !reports.is_empty() {
                link.sending();
                link.outgoing.reports(reports);
                link.heartbeat.iter_mut().for_each(Interval::reset);
            }
        }
    }

    fn beat(&mut self) {
        if let Some(link) = &mut self.link {
            link.sending();
            link.outgoing.heartbeat();
        }
    }

    fn give_back_one(&mut self, key: Key, reason: &'static str) {
        self.outbox.push(Report { key, event: Event::Returned { reason } });
    }

    fn give_back(&mut self) {
        for key in self.slots.give_back(Instant::now().into_std(), PATIENCE) {
            self.give_back_one(key, "it waited behind long tasks");
        }
        self.give_back_at = self.slots.oldest().map(|since| Instant::from_std(since) + PATIENCE);
    }

    fn fence(&mut self) {
        warn!(
            "no word of the coordinator for as long as the lease: what runs is killed, as others may run it now"
        );
        self.fence_at = None;
        for key in self.slots.give_back(Instant::now().into_std(), Duration::ZERO) {
            self.give_back_one(key, "the worker lost its lease");
        }
    }

    fn drain(&mut self) {
        if self.phase == Phase::Working {
            info!(running = self.runners.len(), "draining: finishing what runs");
            self.phase = Phase::Draining;
            for key in self.slots.give_back(Instant::now().into_std(), Duration::ZERO) {
                self.give_back_one(key, "the worker drains");
            }
        }
    }

    fn stop(&mut self) {
        self.drain();
        info!(running = self.runners.len(), "stopping what runs");
        self.phase = Phase::Stopping;
        for runner in self.runners.values() {
            runner.stop.send_if_modified(|stop| {
                let first = stop.is_none();
                stop.get_or_insert(Stop::Preempted);
                first
            });
        }
    }
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
