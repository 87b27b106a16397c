//! The log: lines written within a call become output of its task, all others go to the process's standard error.

use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;
use crate::context::Output;
use crate::current::current;

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
        LogFormat::Json => log.json().try_init(),
    };
}
