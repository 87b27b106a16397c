//! A worker program: functions by their names, and what `main` does with them.

use std::ffi::OsString;
use std::future::{Future, pending};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _};
use rustix::process::DumpableBehavior;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::child;
use crate::config::{Args, Config, LogFormat};
use crate::context::Context;
use crate::failure::Failure;
use crate::log;
use crate::percore::{self, Seat};
use crate::registry::{self, Function, Kind};
use crate::worker::{Error, Functions, run_functions};

const NOT_AUTHORISED: u8 = 77;
const CONFIGURATION: u8 = 78;
/// What a program with functions is for.
const OFFERS: &str =
    "Offers functions to a taskq coordinator, and runs their calls on this machine; commands, too";

/// A worker and its functions. Build it as the first thing that `main` does.
///
/// A function takes one argument, anything that serde can read, and returns anything that serde can write. How both are
/// written is said by each call: JSON, MessagePack, or bytes as they are. Several arguments are a tuple, which is a list in
/// JSON (`[3, 4]`); none is `()`, which is `null`. Argument and value are at most 256 MiB long, as they are written: a
/// longer value fails the call, and is not tried again.
///
/// Which of the three kinds a function is, its call does not see; the [front page](crate) compares them. Whichever it is,
/// a function that panics fails that attempt, with the panic's words and place; the task is tried again if its job has
/// attempts left, and thread, event loop and child live on.
///
/// What a function prints is output of its task: from threads and the event loop by [`println!`](crate::println) of this
/// crate or [`Context::stdout`], from children by whatever writes to standard output.
///
/// ```no_run
/// use taskq_worker::{Context, Failure, Worker};
///
/// fn main() -> std::process::ExitCode {
///     Worker::new().blocking("primes", primes).asynchronous("wait", wait).blocking("area", area).main()
/// }
///
/// fn primes(below: u64, context: &Context) -> Result<u64, Failure> {
///     let mut count = 0;
///     for n in 2..below {
///         context.check()?;
///         count += u64::from((2..).take_while(|d| d * d <= n).all(|d| n % d != 0));
///     }
///     Ok(count)
/// }
///
/// async fn wait(ms: u64, _: Context) -> Result<(), Failure> {
///     tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
///     Ok(())
/// }
///
/// fn area((width, height): (u32, u32), _: &Context) -> Result<u32, Failure> {
///     width.checked_mul(height).ok_or_else(|| Failure::new("larger than can be said").fatal())
/// }
/// ```
#[must_use]
#[derive(Clone, Default)]
pub struct Worker {
    functions: Functions,
    /// See [`Config::coordinator_is_here`].
    coordinator_is_here: bool,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.functions.registry.kinds().map(|(name, _)| name)).finish()
    }
}

impl Worker {
    /// A worker without functions; it runs commands.
    ///
    /// Never returns in the process that watches over tasks, which is this program again: call it before any thread
    /// exists.
    pub fn new() -> Worker {
        crate::spawner::maybe_become();
        Worker::default()
    }

    /// Registers a function that keeps its thread busy: it runs on one of as many threads as there are slots.
    ///
    /// A panic is caught: it fails the attempt, which is tried again if the job has attempts left, and the thread lives on.
    /// (With `panic = "abort"` it ends the worker, and all that it runs.) Std's `println!` goes to the worker's own output;
    /// [`taskq_worker::println!`](crate::println) to the task's.
    ///
    /// A thread cannot be killed: a call that is cancelled or too slow is told so by its context, and if it has not
    /// returned when the grace is over, its task has ended, and its slot is busy until it returns.
    ///
    /// # Panics
    /// The name is taken, or is not `[A-Za-z_][A-Za-z0-9_.:-]{0,127}`.
    pub fn blocking<A, R>(
        self,
        name: &str,
        function: impl Fn(A, &Context) -> Result<R, Failure> + Send + Sync + 'static,
    ) -> Worker
    where
        A: DeserializeOwned,
        R: Serialize,
    {
        self.with(name, Function::Blocking(registry::blocking(function)))
    }

    /// Registers a function that mostly waits: many calls share an event loop, as many as there are asynchronous slots
    /// (1,000, or as `--async-slots` says). The loop is a tokio runtime of its own, with a thread per core.
    ///
    /// What blocks or computes between two `await`s holds up such a thread, and every call that it could have served: hand
    /// that to `tokio::task::spawn_blocking`, or make the function a [`blocking`](Worker::blocking) one.
    ///
    /// A panic is caught: it fails the attempt, which is tried again if the job has attempts left, and the loop lives on.
    /// Std's `println!` goes to the worker's own output; [`taskq_worker::println!`](crate::println) to the task's, but not
    /// from tasks that the function itself spawns: those write to a clone of its [`Context`].
    ///
    /// A call that is cancelled or too slow is told so by its context; if it has not returned when the grace is over, its
    /// future is dropped.
    ///
    /// # Panics
    /// As for [`blocking`](Worker::blocking).
    pub fn asynchronous<A, R, F>(
        self,
        name: &str,
        function: impl Fn(A, Context) -> F + Send + Sync + 'static,
    ) -> Worker
    where
        A: DeserializeOwned + Send,
        R: Serialize,
        F: Future<Output = Result<R, Failure>> + Send + 'static,
    {
        self.with(name, Function::Asynchronous(registry::asynchronous(function)))
    }

    /// Registers a function that may crash, leak, or never return: it runs in a child process, this program started again,
    /// one call at a time. What it breaks is that child, which is replaced, and the attempt: it fails, with the signal or
    /// exit code that ended the child, and is tried again if the job has attempts left. There are as many children as
    /// slots, started before there are calls.
    ///
    /// A panic is caught and costs only the attempt; the child lives on, and so does all that earlier calls have left in
    /// its memory. Whatever the function writes to standard output or error, by std's `println!` too, is the task's.
    ///
    /// A call that is cancelled or too slow is told so by its context; if it has not returned when the grace is over, its
    /// child is killed, with all that it has started.
    ///
    /// # Panics
    /// As for [`blocking`](Worker::blocking).
    pub fn process<A, R>(
        self,
        name: &str,
        function: impl Fn(A, &Context) -> Result<R, Failure> + Send + Sync + 'static,
    ) -> Worker
    where
        A: DeserializeOwned,
        R: Serialize,
    {
        self.with(name, Function::Process(registry::blocking(function)))
    }

    fn with(mut self, name: &str, function: Function) -> Worker {
        self.functions.registry.add(name, function);
        self
    }

    /// The most memory, in bytes, that a child may take for itself (`RLIMIT_DATA`). A call that needs more dies of it, and
    /// its outcome says so. Default: no limit.
    pub fn memory_limit(mut self, bytes: u64) -> Worker {
        self.functions.memory_bytes = Some(bytes);
        self
    }

    /// Whoever kills the program ends its coordinator as well, so that nobody is left to be told: see
    /// [`Config::coordinator_is_here`]. For programs that start both, such as tests.
    pub fn with_its_coordinator(mut self) -> Worker {
        self.coordinator_is_here = true;
        self
    }

    /// Is the program: reads the flags of `taskq-worker`, logs to standard error, works until it is told to stop by
    /// SIGTERM or SIGINT, and says by its exit code how it went (see `--help`).
    #[must_use]
    pub fn main(self) -> ExitCode {
        self.main_from(std::env::args_os())
    }

    /// The same with this command line, of which the first word is the program's name: for programs that are a worker
    /// among other things.
    #[must_use]
    pub fn main_from(self, words: impl IntoIterator<Item = OsString>) -> ExitCode {
        if child::is_child() {
            log::start(LogFormat::Text);
            return child::serve(&self.functions.registry);
        }
        let matches = self.command().get_matches_from(words);
        let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let format = args.log_format;
        log::start(format);
        match self.be_one_or_many(args) {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                log::failed(format, &error, exit_code(&error));
                ExitCode::from(exit_code(&error))
            }
        }
    }

    fn be_one_or_many(self, mut args: Args) -> anyhow::Result<u8> {
        if args.per_core && !Seat::take(&mut args)? {
            return percore::supervise(&args);
        }
        self.work(args).map(|()| 0)
    }

    /// The command line, which says what functions there are.
    fn command(&self) -> clap::Command {
        let functions = &self.functions.registry;
        let width = functions.kinds().map(|(name, _)| name.len()).max().unwrap_or(0);
        let line = |(name, kind)| match kind {
            Kind::Blocking => format!("  {name:width$}  on a thread\n"),
            Kind::Asynchronous => format!("  {name:width$}  on the event loop\n"),
            Kind::Process => format!("  {name:width$}  in a child process\n"),
        };
        let lines: String = functions.kinds().map(line).collect();
        let command = Args::command();
        if lines.is_empty() {
            return command;
        }
        let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
        let signals = long.split_once("\n\n").map_or("", |(_, signals)| signals);
        command.about(OFFERS).long_about(format!("{OFFERS}.\n\n{signals}")).after_help(format!(
            "Functions, and where their calls run:\n{lines}\nCall one: taskq call FUNCTION --json ARGUMENT"
        ))
    }

    fn work(self, args: Args) -> anyhow::Result<()> {
        // Tasks run under the same user: they must not read the token out of this process.
        let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
        let config = Config::try_from(args).context("find the coordinator")?;
        let config = Config { coordinator_is_here: self.coordinator_is_here, tell_manager: true, ..config };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the runtime")?;
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
            let result = self.run_until(config, drained, async { _ = second.await }).await;
            signals.abort();
            result.map_err(anyhow::Error::from)
        })
    }

    /// Works within another program until `shutdown` completes, then drains; see [`run`](crate::run).
    ///
    /// Process functions need a `main` that begins with [`Worker::new`], and goes on to [`main`](Worker::main) or
    /// [`become_child`](Worker::become_child) before it does anything else.
    ///
    /// # Errors
    /// As for [`run`](crate::run).
    pub async fn run(self, config: Config, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        self.run_until(config, shutdown, pending()).await
    }

    /// As [`run`](Worker::run); when `stop` completes, what runs is stopped too, and goes to other workers.
    ///
    /// # Errors
    /// As for [`run`](crate::run).
    pub async fn run_until(
        self,
        config: Config,
        drain: impl Future<Output = ()>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        run_functions(config, self.functions, drain, stop).await
    }

    /// Serves calls, and then ends, if this process was started as a child for process functions. Otherwise does nothing.
    /// For programs that do not use [`main`](Worker::main).
    pub fn become_child(self) -> Worker {
        if child::is_child() {
            let code = child::serve(&self.functions.registry);
            std::process::exit(i32::from(code != ExitCode::SUCCESS));
        }
        self
    }
}

fn listen(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("listen for signals")
}

fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Error>() {
        Some(Error::Unauthorised(_)) => NOT_AUTHORISED,
        Some(
            Error::Refused(_)
            | Error::Access(_)
            | Error::Spawner(_)
            | Error::Threads(_)
            | Error::Child { .. },
        )
        | None => CONFIGURATION,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_the_functions() {
        let worker = Worker::default()
            .blocking("primes", |_: u64, _: &Context| Ok(0))
            .asynchronous("f", |(): (), _| async { Ok(()) })
            .process("fragile", |(): (), _: &Context| Ok(()));
        let mut command = worker.command();
        for help in [command.render_help().to_string(), command.render_long_help().to_string()] {
            assert!(help.contains("Offers functions"), "{help}");
            let lines =
                "  f        on the event loop\n  fragile  in a child process\n  primes   on a thread\n";
            assert!(help.contains(lines), "{help}");
        }
        let long = command.render_long_help().to_string();
        assert!(long.contains("SIGTERM or SIGINT drains") && long.contains("Exit codes: "), "{long}");
        let plain = Worker::default().command().render_long_help().to_string();
        assert!(!plain.contains("Offers functions") && plain.contains("Takes tasks"), "{plain}");
    }
}
