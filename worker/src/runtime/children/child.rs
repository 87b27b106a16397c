//! One child process: started through the spawner, heard through a socket and two pipes.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::Signal;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::super::pipe::Pipe;
use super::super::{Shared, expand};
use super::Program;
use super::end::{LAST_WORDS, how};
use crate::attempt::ByteCount;
use crate::child::WORD;
use crate::child::frame::{self, BODY_BYTES, Down, HEADER_BYTES, Incoming, Limits, PROTOCOL, Up};
use crate::spawner::{Command, Control, Ending, Exit, Exited, Process, Stdin};

/// How long a child may take to say which functions it has: an interpreter with large libraries on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long one that hangs up may take to end.
const HANGS_UP: Duration = Duration::from_secs(1);
/// Tells children apart, so that what one of them leaves behind is known as its own.
const ID: &str = "TASKQ_CHILD_ID";
/// What a child does not get of the worker's environment.
const KEPT_BACK: [&str; 4] = ["TASKQ_TOKEN", "TASKQ_TOKEN_FILE", "TASKQ_ACCESS", WORD];

/// Why a child that has no call is of no use any more.
pub(super) enum Gone {
    Ended(Exit),
    Broke(String),
}

impl Gone {
    /// For the worker's log.
    pub(super) fn tell(&self) {
        match self {
            Gone::Ended(Exit::Exited(Exited { fenced: true, .. })) => {
                info!("a child process for functions was ended with the lease; starting another");
            }
            Gone::Ended(exit) => {
                warn!("a child process for functions {} while it had no call; starting another", how(*exit));
            }
            Gone::Broke(why) => {
                warn!("a child process for functions did not keep to the protocol: {why}; starting another");
            }
        }
    }
}

/// A child that is ready.
pub(super) struct Child {
    pub(super) control: Control,
    pub(super) exit: Ending,
    pub(super) stdout: Pipe,
    pub(super) stderr: Pipe,
    pub(super) functions: Vec<String>,
    socket: OwnedReadHalf,
    incoming: Incoming,
    outgoing: mpsc::UnboundedSender<Bytes>,
}

impl Child {
    /// The error is for people.
    pub(super) async fn start(shared: &Shared, program: &Program) -> Result<Child, String> {
        let (ours, theirs) = StdUnixStream::pair().map_err(|error| error.to_string())?;
        let socket = tokio_socket(ours).map_err(|error| error.to_string())?;
        let id = rand::random::<u64>();
        let command = Command {
            argv: program.argv.clone(),
            env: environment(id),
            cwd: Vec::new(),
            stdin: Stdin::Socket(Arc::new(OwnedFd::from(theirs))),
            nice: shared.surroundings.nice,
            limits: crate::cgroup::Limits::default(),
        };
        let spawned = shared.spawner.spawn(command.clone()).await;
        // Ours of their end: with it open, they would never be seen to hang up.
        let command = Command { stdin: Stdin::default(), ..command };
        let process =
            spawned.map_err(|failure| expand::explain(failure, &command, &shared.surroundings).1)?;
        let mut child = Child::of(process, socket);
        child.say(&Down::Welcome { protocol: PROTOCOL, limits: limits(program) }, &Bytes::new());
        child.hello().await?;
        Ok(child)
    }

    fn of(process: Process, socket: UnixStream) -> Child {
        let Process { control, exit, stdout, stderr, .. } = process;
        let (socket, writer) = socket.into_split();
        let (outgoing, frames) = mpsc::unbounded_channel();
        // Ends with the child, or with its socket.
        tokio::spawn(write(writer, frames));
        let pipe = |fd| {
            let mut pipe = Pipe::new(fd, ByteCount(0));
            pipe.watch();
            pipe
        };
        let (stdout, mut stderr) = (pipe(stdout), pipe(stderr));
        stderr.listen_for(&LAST_WORDS);
        let (functions, incoming) = (Vec::new(), Incoming::default());
        Child { control, exit, stdout, stderr, functions, socket, incoming, outgoing }
    }

    async fn hello(&mut self) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        let why = loop {
            tokio::select! {
                biased;
                frame = Child::frame(&mut self.socket, &mut self.incoming) => match frame {
                    Ok((Up::Hello { protocol: PROTOCOL, functions, .. }, _)) => {
                        self.functions = functions;
                        return Ok(());
                    }
                    Ok((Up::Hello { protocol, .. }, _)) => {
                        break format!("it speaks protocol {protocol}; this worker speaks {PROTOCOL}");
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        break match tokio::time::timeout_at(until, self.exit.wait()).await {
                            Ok(exit) => format!("it {} before it said Hello", how(exit)),
                            Err(_) => "it closed its line to the worker without a word".to_owned(),
                        };
                    }
                    Err(error) => break format!("it does not keep to the protocol: {error}"),
                },
                exit = self.exit.wait() => break format!("it {} before it said Hello", how(exit)),
                () = self.stdout.readable(), if self.stdout.wants_more() => self.stdout.read(),
                () = self.stderr.readable(), if self.stderr.wants_more() => self.stderr.read(),
                () = sleep_until(until) => break format!("it said nothing within {PATIENCE:?}"),
            }
        };
        self.control.kill(Signal::KILL);
        self.stderr.read_now();
        let said = self.stderr.recent();
        Err(if said.trim().is_empty() { why } else { format!("{why}; it wrote: {}", said.trim()) })
    }

    /// Waits until it is of no use any more, which it should not be, and says why. What it prints meanwhile is nobody's,
    /// and what it says belongs to no call. Cancel-safe.
    pub(super) async fn idle(&mut self) -> Gone {
        let error = loop {
            let Ears { exit, stdout, stderr, socket, incoming } = self.ears();
            tokio::select! {
                biased;
                exit = exit.wait() => return Gone::Ended(exit),
                frame = Child::frame(socket, incoming) => match frame {
                    Ok(_) => {}
                    Err(error) => break error,
                },
                () = stdout.readable(), if stdout.wants_more() => stdout.read(),
                () = stderr.readable(), if stderr.wants_more() => stderr.read(),
            }
        };
        if error.kind() == io::ErrorKind::InvalidData {
            self.control.kill(Signal::KILL);
            return Gone::Broke(error.to_string());
        }
        // Most of those that hang up are just ending.
        match timeout(HANGS_UP, self.exit.wait()).await {
            Ok(exit) => Gone::Ended(exit),
            Err(_) => {
                self.control.kill(Signal::KILL);
                Gone::Broke("it has hung up".to_owned())
            }
        }
    }

    /// Never waits: what is said is kept until the child takes it.
    pub(super) fn say(&self, header: &Down, body: &Bytes) {
        // A child that does not listen any more is about to be seen to end.
        let _ = self.outgoing.send(frame::head(header, body));
        let _ = self.outgoing.send(body.clone());
    }

    /// The next frame. `UnexpectedEof` when the child has hung up. Cancel-safe.
    pub(super) async fn frame(
        socket: &mut OwnedReadHalf,
        incoming: &mut Incoming,
    ) -> io::Result<(Up, Bytes)> {
        loop {
            if let Some(frame) = incoming.next()? {
                return Ok(frame);
            }
            socket.readable().await?;
            match socket.try_read_buf(incoming.buffer()) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// The parts that a call waits for, apart, so that it can wait for all at once.
    pub(super) fn ears(&mut self) -> Ears<'_> {
        let Child { exit, stdout, stderr, socket, incoming, .. } = self;
        Ears { exit, stdout, stderr, socket, incoming }
    }

    /// The functions that it has; the child goes.
    pub(super) fn into_functions(self) -> Vec<String> {
        self.say(&Down::Bye, &Bytes::new());
        self.functions
    }
}

/// What can be heard of a child.
pub(super) struct Ears<'a> {
    pub(super) exit: &'a mut Ending,
    pub(super) stdout: &'a mut Pipe,
    pub(super) stderr: &'a mut Pipe,
    pub(super) socket: &'a mut OwnedReadHalf,
    pub(super) incoming: &'a mut Incoming,
}

fn tokio_socket(socket: StdUnixStream) -> io::Result<UnixStream> {
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

async fn write(mut socket: OwnedWriteHalf, mut frames: mpsc::UnboundedReceiver<Bytes>) {
    while let Some(bytes) = frames.recv().await {
        if socket.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// The worker's own, but for what gives access to the coordinator: a function is a part of the worker's program, and
/// finds what its settings say wherever it runs.
fn environment(id: u64) -> Vec<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let entry = |name: &[u8], value: &[u8]| [name, b"=", value].concat();
    let given = std::env::vars_os().filter(|(name, _)| !KEPT_BACK.iter().any(|kept| name == *kept));
    let given = given.map(|(name, value)| entry(name.as_bytes(), value.as_bytes()));
    let own = [(WORD, PROTOCOL.to_string()), (ID, format!("{id:016x}"))];
    given.chain(own.map(|(name, value)| entry(name.as_bytes(), value.as_bytes()))).collect()
}

fn limits(program: &Program) -> Limits {
    Limits {
        header_bytes: HEADER_BYTES as u64,
        body_bytes: BODY_BYTES as u64,
        memory_bytes: program.memory_bytes,
    }
}
