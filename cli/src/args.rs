//! The command line as a whole: global flags, the list of commands, and what happens around a command.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};
use tokio::runtime::Builder;

use crate::cmd;
use crate::context::{Context, eprint_line};
use crate::exit::{self, Exit};
use crate::output::{self, Format};
use crate::screen::{When, Wishes};
use crate::text;

/// Submits commands and calls of functions to a taskq coordinator, and shows what became of them.
///
/// `taskq up` starts a coordinator and a worker here; `taskq run -- echo hi` runs a first job.
/// Standard output carries data only; progress and messages go to standard error.
///
/// Tasks count from 0: 42.0 is the first task of job 42, whatever its element is. With --array 5-9 it gets 5 for {},
/// and 1 for {#}.
#[derive(Debug, Parser)]
#[command(name = "taskq", version, after_help = exit::help(), max_term_width = 100, infer_subcommands = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command takes.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The coordinator, or `local[:DIR]` for one inside this process [env: TASKQ_ADDR] [default: 127.0.0.1:7733]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub(crate) addr: Option<String>,
    /// File with the token for --addr [env: TASKQ_TOKEN or TASKQ_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// File with address and token, as the coordinator wrote it [env: TASKQ_ACCESS]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) access: Option<PathBuf>,
    /// Run the coordinator inside this process, and a worker if this command waits for tasks; the same as --addr local
    #[arg(long, global = true, conflicts_with = "addr")]
    pub(crate) local: bool,
    /// Print JSON with a versioned schema; the same as -o json
    #[arg(long, global = true, conflicts_with = "output")]
    json: bool,
    /// How data is printed [default: table on a terminal, tsv in a pipe]
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", env = "TASKQ_OUTPUT")]
    output: Option<Format>,
    /// Print ids only, and no messages
    #[arg(short = 'Q', long, global = true)]
    quiet: bool,
    /// Leave out the header of tables
    #[arg(long, global = true)]
    no_headers: bool,
    /// When to use colours
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = When::Auto)]
    color: When,
}

impl Global {
    /// What is to be seen, and how.
    pub(crate) fn wishes(&self) -> Wishes {
        Wishes {
            format: if self.json { Some(Format::Json) } else { self.output },
            headers: !self.no_headers,
            quiet: self.quiet,
            color: self.color,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(cmd::run::Args),
    Submit(cmd::submit::Args),
    Call(cmd::call::Args),
    Map(cmd::map::Args),
    Wait(cmd::wait::Args),
    Ls(cmd::ls::Args),
    Tasks(cmd::tasks::Args),
    Show(cmd::show::Args),
    Explain(cmd::explain::Args),
    Result(cmd::result::Args),
    Logs(cmd::logs::Args),
    Cancel(cmd::cancel::Args),
    Retry(cmd::retry::Args),
    Pause(cmd::pause::Args),
    Resume(cmd::resume::Args),
    Rm(cmd::rm::Args),
    Queue(cmd::queue::Args),
    Worker(cmd::worker::Args),
    Stats(cmd::stats::Args),
    Up(cmd::up::Args),
    Bench(cmd::bench::Args),
    Completions(cmd::completions::Args),
    Man(cmd::man::Args),
    Version(cmd::version::Args),
}

impl Command {
    /// The exit code for an unknown job, if this command stays with tasks, so that its status stands for theirs.
    fn stands_for_a_task(&self) -> Option<Exit> {
        match self {
            Command::Run(_) => Some(Exit::TaskqFailed),
            Command::Submit(args) if args.waits() => Some(Exit::TaskqFailed),
            Command::Call(args) if args.waits() => Some(Exit::TaskqFailed),
            Command::Wait(_) => Some(Exit::NotFound),
            _ => None,
        }
    }

    /// With --local: whether tasks run meanwhile. A command that only looks would start them and kill them.
    fn needs_a_worker(&self) -> bool {
        match self {
            Command::Run(_) | Command::Map(_) | Command::Wait(_) => true,
            Command::Submit(args) => args.waits(),
            Command::Call(args) => args.waits(),
            Command::Result(args) => args.waits(),
            Command::Logs(args) => args.follows(),
            _ => false,
        }
    }

    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Command::Run(args) => cmd::run::run(args, context).await,
            Command::Submit(args) => cmd::submit::run(args, context).await,
            Command::Call(args) => cmd::call::run(args, context).await,
            Command::Map(args) => cmd::map::run(args, context).await,
            Command::Wait(args) => cmd::wait::run(args, context).await,
            Command::Ls(args) => cmd::ls::run(args, context).await,
            Command::Tasks(args) => cmd::tasks::run(args, context).await,
            Command::Show(args) => cmd::show::run(args, context).await,
            Command::Explain(args) => cmd::explain::run(args, context).await,
            Command::Result(args) => cmd::result::run(args, context).await,
            Command::Logs(args) => cmd::logs::run(args, context).await,
            Command::Cancel(args) => cmd::cancel::run(args, context).await,
            Command::Retry(args) => cmd::retry::run(args, context).await,
            Command::Pause(args) => cmd::pause::run(args, context).await,
            Command::Resume(args) => cmd::resume::run(args, context).await,
            Command::Rm(args) => cmd::rm::run(args, context).await,
            Command::Queue(args) => cmd::queue::run(args, context).await,
            Command::Worker(args) => cmd::worker::run(args, context).await,
            Command::Stats(args) => cmd::stats::run(args, context).await,
            Command::Up(args) => cmd::up::run(args, context).await,
            Command::Bench(args) => cmd::bench::run(args, context).await,
            Command::Completions(args) => cmd::completions::run(args, context).await,
            Command::Man(args) => cmd::man::run(args, context).await,
            Command::Version(args) => cmd::version::run(args, context).await,
        }
    }
}

/// The command line as clap sees it, for completions and manual pages.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

/// Reads the command line and does what it says.
pub(crate) fn run() -> Exit {
    output::refuse_closed_stdout();
    let typed: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&typed) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &typed),
    };
    let stands_for_a_task = cli.command.stands_for_a_task();
    let (up, bench) = (matches!(cli.command, Command::Up(_)), matches!(cli.command, Command::Bench(_)));
    let context = Context::new(cli.global, typed, cli.command.needs_a_worker());
    // One thread serves the connection while this one reads, writes and waits; a second one would only take turns with it,
    // at a tenth of a short command's time. A coordinator and a worker in this process are worth one for each core, and a
    // bench, which loads a coordinator beside it, half of them.
    let threads = match std::thread::available_parallelism().map_or(1, usize::from) {
        cores if up || context.is_local() => cores,
        cores if bench => cores.div_ceil(2),
        _ => 1,
    };
    let runtime = match Builder::new_multi_thread().worker_threads(threads).enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => return report(&crate::exit::Failure::io("cannot start", &cause), Exit::Internal),
    };
    let exit = runtime.block_on(obey(cli.command, context, stands_for_a_task));
    // A thread may still sit in a read of standard input; it must not keep the process.
    runtime.shutdown_background();
    exit
}

async fn obey(command: Command, context: Context, stands_for_a_task: Option<Exit>) -> Exit {
    let result = command.run(&context).await;
    let closed = context.close().await;
    match result.and_then(|exit| closed.map(|()| exit)) {
        Ok(exit) => exit,
        Err(error) => {
            let exit = exit::of_error(&error);
            let exit = stands_for_a_task.map_or(exit, |unknown_job| exit::attached(exit, unknown_job));
            report(&error, exit)
        }
    }
}

/// `error: what: why`, once, on standard error. A reader that went away hears nothing.
fn report(error: &anyhow::Error, exit: Exit) -> Exit {
    use std::io::Write;
    if exit != Exit::ClosedPipe {
        // If standard error is closed too, the exit code still tells.
        let _ = writeln!(std::io::stderr(), "error: {}", text::without_long_words(&format!("{error:#}")));
    }
    exit
}

/// Help and version go to standard output and may meet a closed pipe; everything else is a wrong command line.
fn usage(error: &clap::Error, typed: &[OsString]) -> Exit {
    let wanted = !error.use_stderr();
    if !wanted && typed.iter().any(|word| word.len() > text::LONG) {
        eprint_line(text::without_long_words(&error.to_string()).trim_end());
        return Exit::Usage;
    }
    match error.print() {
        Ok(()) if wanted => Exit::Ok,
        Err(cause) if wanted && cause.kind() == std::io::ErrorKind::BrokenPipe => Exit::ClosedPipe,
        Err(_) if wanted => Exit::InputOutput,
        Ok(()) | Err(_) => Exit::Usage,
    }
}
