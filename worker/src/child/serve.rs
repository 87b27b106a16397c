//! A child's life: it says which functions it has, and answers calls, one after another, until its worker hangs up.
//!
//! Calls run on the main thread, with the stack that the system gives to that. Another thread listens meanwhile, so that
//! a call hears that it is to end.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::Sender;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit};

use super::frame::{Down, Incoming, Limits, PROTOCOL, Up};
use super::meter::Meter;
use super::upward::{Line, Upward};
use crate::attempt::{Cause, Epoch, Fault, JobId, Key};
use crate::context::{About, Context, Signal, Voice, Why};
use crate::panics;
use crate::registry::{Function, Registry};

/// The variable that makes a program a child, with the version of the protocol that its worker speaks.
pub(crate) const WORD: &str = "TASKQ_CHILD";

/// Whether this process was started as a child: told so, and with a socket as its standard input.
pub(crate) fn is_child() -> bool {
    std::env::var_os(WORD).is_some() && rustix::net::sockopt::socket_type(rustix::stdio::stdin()).is_ok()
}

/// Serves until the worker hangs up.
pub(crate) fn serve(registry: &Registry) -> ExitCode {
    match try_serve(registry) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("taskq child: {error}");
            ExitCode::from(70)
        }
    }
}

/// A call that came in.
struct Work {
    id: u64,
    context: Context,
    argument: Bytes,
}

fn try_serve(registry: &Registry) -> io::Result<()> {
    let socket = take_socket()?;
    panics::listen();
    let line = Line::new(socket.try_clone()?);
    let (calls, inbox) = crossbeam_channel::unbounded();
    let mut ear = Ear { socket, line: Arc::clone(&line), calls, current: Arc::default() };
    let current = Arc::clone(&ear.current);
    let functions =
        registry.kinds().filter(|(name, _)| runs(registry, name)).map(|(name, _)| name.to_owned());
    let (functions, language) = (functions.collect(), "rust".to_owned());
    line.say(&Up::Hello { protocol: PROTOCOL, functions, language }, b"")?;
    let teller = Arc::clone(&line);
    thread::Builder::new().name("taskq-progress".to_owned()).spawn(move || teller.tell_progress())?;
    let listener = thread::Builder::new().name("taskq-listen".to_owned()).spawn(move || ear.listen())?;
    let mut meter = Meter::new();
    for work in inbox {
        answer(registry, &line, &work, &mut meter)?;
        // The next one may have come in since the answer.
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        current.take_if(|(id, _)| *id == work.id);
    }
    listener.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Nothing that a call starts is to hold the line to the worker, nor read from it.
fn take_socket() -> io::Result<UnixStream> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let nothing = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(nothing.as_fd())?;
    Ok(UnixStream::from(socket))
}

fn runs(registry: &Registry, name: &str) -> bool {
    matches!(registry.get(name), Some(Function::Process(_)))
}

fn answer(registry: &Registry, line: &Line, work: &Work, meter: &mut Meter) -> io::Result<()> {
    let Work { id, context, argument } = work;
    meter.begin();
    let returned = match registry.get(context.function()) {
        Some(Function::Process(function)) => panics::call(context, || function(argument, context)),
        Some(Function::Blocking(_) | Function::Asynchronous(_) | Function::Foreign) | None => {
            Err(registry.missing(context.function(), context.worker()))
        }
    };
    // What was printed belongs to this call, hence comes before its answer.
    let flushed = io::stdout()
        .flush()
        .map_err(|error| Fault::new(Cause::Result, format!("standard output could not be written: {error}")));
    let used = meter.used();
    match flushed.and(returned) {
        Ok(value) => line.say(&Up::Completed { id: *id, used }, &value),
        Err(fault) => {
            let (header, body) = Up::failed(*id, *fault, used);
            line.say(&header, &body)
        }
    }
}

/// What listens while a call runs.
struct Ear {
    socket: UnixStream,
    line: Arc<Line>,
    calls: Sender<Work>,
    current: Arc<Mutex<Option<(u64, Context)>>>,
}

impl Ear {
    fn listen(&mut self) -> io::Result<()> {
        let mut incoming = Incoming::default();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            while let Some((header, body)) = incoming.next()? {
                match header {
                    Down::Bye => return Ok(()),
                    header => self.hear(header, body)?,
                }
            }
            match self.socket.read(&mut buffer) {
                Ok(0) => {
                    self.signal(None, Why::Stopping);
                    return Ok(());
                }
                Ok(count) => incoming.buffer().extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn hear(&mut self, header: Down, argument: Bytes) -> io::Result<()> {
        match header {
            Down::Welcome { limits, .. } => limit_memory(limits)?,
            Down::Call { id, function, codec, job, task, attempt, deadline_ms, worker, slot } => {
                let after = |ms| Instant::now().checked_add(Duration::from_millis(ms));
                let about = About {
                    key: Key { job: JobId(job), index: task, attempt, epoch: Epoch(0) },
                    function: function.into(),
                    codec: codec.into(),
                    worker: worker.into(),
                    slot,
                    deadline: deadline_ms.and_then(after),
                };
                let voice = Voice::Child(Arc::new(Upward::new(id, &self.line)));
                let context = Context::new(about, Signal::default(), voice);
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some((id, context.clone()));
                // The main thread ends only after this one.
                let _ = self.calls.send(Work { id, context, argument });
            }
            Down::Cancel { id, why, .. } => self.signal(Some(id), why.into()),
            Down::Bye | Down::Unknown => {}
        }
        Ok(())
    }

    /// Tells the call that runs, if it is this one.
    fn signal(&self, id: Option<u64>, why: Why) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((running, context)) = &*current
            && id.is_none_or(|id| id == *running)
        {
            context.signal(why);
        }
    }
}

/// Of what the program itself takes and nobody else shares: what a leak is made of.
fn limit_memory(limits: Limits) -> io::Result<()> {
    let Some(bytes) = limits.memory_bytes else { return Ok(()) };
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    rustix::process::setrlimit(Resource::Data, limit).map_err(io::Error::from)
}
