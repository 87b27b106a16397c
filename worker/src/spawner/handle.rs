//! The worker's side: asks the spawner for processes, and replaces a spawner that died.

use std::collections::HashMap;
use std::fs::File;
use std::future::pending;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{self, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use super::wire::{self, Exited, Incoming, Kill, News, Order, Outgoing, Reply, Request, Setup, Stage};
use super::{SECRET_WORD, orphans};
use crate::cgroup::Limits;
use crate::sys;

/// Before a new spawner is tried again when even that cannot be started.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// For whom the spawner works.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    /// The executable that calls [`maybe_become`](super::maybe_become) first.
    pub program: PathBuf,
    pub setup: Setup,
}

/// What to run. Nothing is added to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Command {
    pub argv: Vec<Vec<u8>>,
    /// `NAME=value`
    pub env: Vec<Vec<u8>>,
    /// Empty: the worker's own.
    pub cwd: Vec<u8>,
    pub stdin: Stdin,
    pub nice: i32,
    pub limits: Limits,
}

/// What a process has as its standard input.
#[derive(Clone, Debug)]
pub(crate) enum Stdin {
    /// A file with these bytes; without any, nothing to read.
    Bytes(Bytes),
    /// One end of a socket.
    Socket(Arc<OwnedFd>),
}

impl Default for Stdin {
    fn default() -> Stdin {
        Stdin::Bytes(Bytes::new())
    }
}

/// Why there is no process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Refused {
        stage: Stage,
        errno: i32,
    },
    /// The spawner died meanwhile; whether the process ran is unknown, but it does not any more.
    Lost,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Exit {
    Exited(Exited),
    /// The spawner died, and the process with it.
    Lost,
}

/// A process that runs. Dropping it changes nothing for the process.
pub(crate) struct Process {
    pub control: Control,
    pub started_unix_ms: u64,
    pub exit: Ending,
    /// Reading ends of pipes, in non-blocking mode.
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// Reaches a process that runs.
pub(crate) struct Control {
    id: u64,
    orders: mpsc::UnboundedSender<Ask>,
}

impl Control {
    /// Sends a signal to the process and everything below it.
    pub(crate) fn kill(&self, signal: Signal) {
        let _ = self.orders.send(Ask::Kill(Kill { id: self.id, signal: signal.as_raw() }));
    }
}

/// Knows when a process has ended.
pub(crate) struct Ending(oneshot::Receiver<Exited>);

impl Ending {
    /// Waits until nothing of it is left. Cancel-safe; not to be asked again after it has answered.
    pub(crate) async fn wait(&mut self) -> Exit {
        (&mut self.0).await.map_or(Exit::Lost, Exit::Exited)
    }
}

/// Asks for processes; cheap to clone. When the last clone is gone without [`farewell`](Spawner::farewell), the
/// spawner kills everything and buries the worker.
#[derive(Clone)]
pub(crate) struct Spawner {
    asks: mpsc::UnboundedSender<Ask>,
}

enum Ask {
    Spawn(Box<Command>, oneshot::Sender<Result<Process, Failure>>),
    Kill(Kill),
    Lease(wire::Lease),
    Farewell(oneshot::Sender<()>),
}

impl Spawner {
    /// Starts the spawner process.
    pub(crate) fn start(who: Who) -> io::Result<Spawner> {
        let connection = Connection::open(&who)?;
        // Bounded by what sends into it: a start a slot, a few signals a task, a lease a heartbeat.
        let (asks, inbox) = mpsc::unbounded_channel();
        let orders = asks.downgrade();
        tokio::spawn(drive(who, connection, inbox, orders));
        Ok(Spawner { asks })
    }

    /// Starts a process.
    pub(crate) async fn spawn(&self, command: Command) -> Result<Process, Failure> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask::Spawn(Box::new(command), answer)).map_err(|_| Failure::Lost)?;
        answered.await.unwrap_or(Err(Failure::Lost))
    }

    /// Lets processes run until this time since boot, and kills those that still do then. Each call replaces the last
    /// one; before the first there is no end.
    pub(crate) fn lease(&self, until: Duration) {
        let until_ms = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        let _ = self.asks.send(Ask::Lease(wire::Lease { until_ms }));
    }

    /// Ends the spawner without a burial; what still runs is killed.
    pub(crate) async fn farewell(&self) {
        let (answer, answered) = oneshot::channel();
        if self.asks.send(Ask::Farewell(answer)).is_ok() {
            let _ = answered.await;
        }
    }
}

/// One spawner process and what it owes us.
struct Connection {
    process: process::Child,
    /// Watched for news only: that there is room again matters seldom, and would wake us for each order.
    socket: AsyncFd<OwnedFd>,
    /// While the socket is full.
    full: Option<AsyncFd<OwnedFd>>,
    incoming: Incoming,
    outgoing: Outgoing,
    next_id: u64,
    lease: Option<wire::Lease>,
    starting: HashMap<u64, oneshot::Sender<Result<Process, Failure>>>,
    running: HashMap<u64, oneshot::Sender<Exited>>,
}

enum End {
    /// All handles are gone.
    Unwanted,
    /// The spawner was sent home.
    Farewell(oneshot::Sender<()>),
    /// The spawner is gone.
    Died,
}

async fn drive(
    who: Who,
    mut connection: Connection,
    mut inbox: mpsc::UnboundedReceiver<Ask>,
    orders: mpsc::WeakUnboundedSender<Ask>,
) {
    loop {
        match connection.serve(&mut inbox, &orders).await {
            End::Unwanted => {
                connection.leave();
                return;
            }
            End::Farewell(answer) => {
                let _ = connection.leave().await;
                let _ = answer.send(());
                return;
            }
            End::Died => {
                tracing::warn!(
                    "the spawner process was killed, and all running tasks with it; starting another"
                );
                // What was promised answers `Lost` when it is dropped: only once all is really gone.
                let Connection { process, starting, running, lease, .. } = connection;
                let swept = in_thread(move || {
                    take_leave(process);
                    orphans::sweep();
                });
                if swept.await.is_err() {
                    tracing::error!(
                        "what the spawner's tasks left behind could not be ended; look for stray processes"
                    );
                }
                drop((starting, running));
                connection = loop {
                    match Connection::open(&who) {
                        Ok(connection) => break connection,
                        Err(error) => {
                            tracing::error!(%error, "no process for running tasks could be started; trying again");
                            tokio::time::sleep(RESTART_PAUSE).await;
                        }
                    }
                };
                connection.inherit(lease);
            }
        }
    }
}

impl Connection {
    fn open(who: &Who) -> io::Result<Connection> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let process = orphans::start_spawner(|| {
            process::Command::new(&who.program)
                .arg0("taskq-spawner")
                .arg(SECRET_WORD)
                .stdin(Stdio::from(OwnedFd::from(theirs)))
                .stdout(Stdio::null())
                .env_clear()
                .spawn()
        })?;
        let mut outgoing = Outgoing::default();
        outgoing.push(&Request { order: Some(Order::Setup(who.setup.clone())) }, []);
        Ok(Connection {
            process,
            socket: sys::watch(ours.into(), Interest::READABLE)?,
            full: None,
            incoming: Incoming::default(),
            outgoing,
            next_id: 1,
            lease: None,
            starting: HashMap::new(),
            running: HashMap::new(),
        })
    }

    /// What held for the last spawner holds for this one.
    fn inherit(&mut self, lease: Option<wire::Lease>) {
        self.lease = lease;
        if let Some(lease) = lease {
            self.outgoing.push(&Request { order: Some(Order::Lease(lease)) }, []);
        }
    }

    async fn serve(
        &mut self,
        inbox: &mut mpsc::UnboundedReceiver<Ask>,
        orders: &mpsc::WeakUnboundedSender<Ask>,
    ) -> End {
        loop {
            if self.write().is_err() {
                return End::Died;
            }
            tokio::select! {
                ask = inbox.recv() => {
                    let Some(ask) = ask else { return End::Unwanted };
                    let mut next = Some(ask);
                    while let Some(ask) = next {
                        if let Some(answer) = self.order(ask) {
                            let _ = self.write();
                            return End::Farewell(answer);
                        }
                        next = inbox.try_recv().ok();
                    }
                }
                ready = self.socket.readable() => {
                    if ready.is_err() {
                        return End::Died;
                    }
                    drop(ready);
                    if self.read(orders).is_err() {
                        return End::Died;
                    }
                }
                () = writable(self.full.as_ref()), if self.full.is_some() => {}
            }
        }
    }

    fn order(&mut self, ask: Ask) -> Option<oneshot::Sender<()>> {
        let (order, stdin) = match ask {
            Ask::Kill(kill) => (Order::Kill(kill), None),
            Ask::Lease(lease) => {
                self.lease = Some(lease);
                (Order::Lease(lease), None)
            }
            Ask::Farewell(answer) => {
                self.outgoing.push(&Request { order: Some(Order::Farewell(wire::Farewell {})) }, []);
                return Some(answer);
            }
            Ask::Spawn(command, answer) => {
                let stdin = match standard_input(&command.stdin) {
                    Ok(stdin) => stdin,
                    Err(error) => {
                        let errno = error.raw_os_error().unwrap_or(libc::EIO);
                        let _ = answer.send(Err(Failure::Refused { stage: Stage::Fork, errno }));
                        return None;
                    }
                };
                let id = self.next_id;
                self.next_id += 1;
                self.starting.insert(id, answer);
                let Command { argv, env, cwd, nice, limits, .. } = *command;
                let limits = (limits != Limits::default()).then_some(wire::Limits {
                    memory_bytes: limits.memory_bytes,
                    cpu_milli: limits.cpu_milli,
                    processes: limits.processes,
                });
                let has_stdin = stdin.is_some();
                (Order::Spawn(wire::Spawn { id, argv, env, cwd, nice, has_stdin, limits }), stdin)
            }
        };
        self.outgoing.push(&Request { order: Some(order) }, stdin);
        None
    }

    fn write(&mut self) -> io::Result<()> {
        self.full = None;
        match self.outgoing.send(&self.socket) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let again = self.socket.get_ref().as_fd().try_clone_to_owned()?;
                self.full = Some(sys::watch(again, Interest::WRITABLE)?);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn read(&mut self, orders: &mpsc::WeakUnboundedSender<Ask>) -> io::Result<()> {
        let (socket, incoming) = (&self.socket, &mut self.incoming);
        match socket.try_io(Interest::READABLE, |socket| incoming.receive(socket)) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Ok(_) | Err(_) => {}
        }
        while let Some(Reply { news: Some(news) }) = self.incoming.frame()? {
            match news {
                News::Started(started) => self.started(started, orders)?,
                News::Failed(failed) => {
                    if let Some(answer) = self.starting.remove(&failed.id) {
                        let _ =
                            answer.send(Err(Failure::Refused { stage: failed.stage(), errno: failed.errno }));
                    }
                }
                News::Exited(exited) => {
                    if let Some(answer) = self.running.remove(&exited.id) {
                        let _ = answer.send(exited);
                    }
                }
            }
        }
        Ok(())
    }

    fn started(&mut self, started: wire::Started, orders: &mpsc::WeakUnboundedSender<Ask>) -> io::Result<()> {
        let wire::Started { id, unix_ms } = started;
        let (stdout, stderr) = (self.incoming.fd()?, self.incoming.fd()?);
        let Some(answer) = self.starting.remove(&id) else { return Ok(()) };
        let Some(orders) = orders.upgrade() else { return Ok(()) };
        let (exited, exit) = oneshot::channel();
        self.running.insert(id, exited);
        if answer
            .send(Ok(Process {
                control: Control { id, orders },
                started_unix_ms: unix_ms,
                exit: Ending(exit),
                stdout,
                stderr,
            }))
            .is_err()
        {
            // Nobody waits any more: the attempt was dropped between order and start.
            let kill = Kill { id, signal: Signal::KILL.as_raw() };
            self.outgoing.push(&Request { order: Some(Order::Kill(kill)) }, []);
        }
        Ok(())
    }

    /// Hangs up, and takes leave of the process in the background.
    fn leave(self) -> oneshot::Receiver<()> {
        let Connection { process, socket, .. } = self;
        drop(socket);
        in_thread(move || take_leave(process))
    }
}

async fn writable(full: Option<&AsyncFd<OwnedFd>>) {
    match full {
        // An error shows when the next thing is written.
        Some(socket) => _ = socket.writable().await,
        None => pending().await,
    }
}

fn take_leave(mut process: process::Child) {
    let pid = process.id().cast_signed();
    let _ = process.wait();
    orphans::unregister(pid);
}

/// Bytes are in a file in memory that a program can read.
fn standard_input(stdin: &Stdin) -> io::Result<Option<OwnedFd>> {
    let bytes = match stdin {
        Stdin::Bytes(bytes) if bytes.is_empty() => return Ok(None),
        Stdin::Bytes(bytes) => bytes,
        Stdin::Socket(socket) => return socket.try_clone().map(Some),
    };
    let mut file = File::from(memfd_create("stdin", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(Some(file.into()))
}

/// A thread of its own, not one of the runtime's: a runtime that ends must not wait for it.
fn in_thread(work: impl FnOnce() + Send + 'static) -> oneshot::Receiver<()> {
    let (done, waiter) = oneshot::channel();
    std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    waiter
}
