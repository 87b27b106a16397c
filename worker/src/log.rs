//! The log: lines written within a call become output of its task, all others go to the process's standard error.

use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;
use crate::context::Output;
use crate::current::current;
use crate::panics::words;

/// For a subscriber of your own: `tracing_subscriber::fmt().with_writer(taskq_worker::log::Writer)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Writer;

/// Where one line goes.
#[derive(Debug)]
pub enum Line {
    /// To the standard error of the task whose call wrote it.
    Task(Output),
    /// To the standard error of this process.
    Process(io::Stderr),
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        match current() {
            Some(context) => Line::Task(context.stderr()),
            None => Line::Process(io::stderr()),
        }
    }
}

impl Write for Line {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Line::Task(output) => output.write(data),
            Line::Process(stderr) => stderr.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Line::Task(output) => output.flush(),
            Line::Process(stderr) => stderr.flush(),
        }
    }
}

/// Starts the log of a worker program, as [`Worker::main`](crate::Worker::main) does: what `TASKQ_LOG` lets through, such as `info` (the default) or
/// `debug,h2=warn`. A log that is there already stays.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_env("TASKQ_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Writer).with_ansi(terminal);
    // The one error is that there is a log already.
    let _ = match format {
        LogFormat::Text => log.with_target(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    if format == LogFormat::Json {
        listen_to_panics();
    }
}

/// Panics become lines of the log too; who reads text gets Rust's own words.
fn listen_to_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let words = words(panic.payload());
        tracing::error!(place, thread, "panicked: {words}");
    }));
}

/// Why the program ends.
pub(crate) fn failed(format: LogFormat, why: &anyhow::Error, exit_code: u8) {
    match format {
        LogFormat::Text => eprintln!("taskq-worker: {why:#}"),
        LogFormat::Json => tracing::error!(exit_code, "{why:#}"),
    }
}
