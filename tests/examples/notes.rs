//! A worker for tests that kill: its functions note in a ledger what they do, on a thread, on the event loop and in a
//! child process, and it runs commands as every worker does.
//!
//! The argument of each is a [`Note`], the value a [`Kept`], so that a test can see of a value whether it is the one.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use taskq_worker::{Context, Failure, Worker};

/// What a call is to do.
#[derive(Deserialize)]
struct Note {
    /// The ledger; none: nothing is noted.
    ledger: Option<PathBuf>,
    /// How long it takes.
    #[serde(default)]
    ms: u64,
    /// How long the value is to be.
    #[serde(default)]
    bytes: usize,
}

/// What a call returns.
#[derive(Serialize)]
struct Kept {
    job: u64,
    task: u32,
    attempt: u32,
    filling: String,
}

fn main() -> ExitCode {
    Worker::new()
        .blocking("thread", blocking)
        .asynchronous("future", asynchronous)
        .process("child", blocking)
        .blocking("square", |n: u64, _: &Context| Ok(n * n))
        .blocking("primes", |below: u64, _: &Context| Ok(primes(below)))
        .main()
}

/// Something that keeps a core busy.
fn primes(below: u64) -> usize {
    let is_prime = |n: &u64| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (2..below).filter(is_prime).count()
}

fn blocking(note: Note, context: &Context) -> Result<Kept, Failure> {
    note.write("start", context)?;
    std::thread::sleep(Duration::from_millis(note.ms));
    note.write("end", context)?;
    Ok(note.kept(context))
}

async fn asynchronous(note: Note, context: Context) -> Result<Kept, Failure> {
    note.write("start", &context)?;
    tokio::time::sleep(Duration::from_millis(note.ms)).await;
    note.write("end", &context)?;
    Ok(note.kept(&context))
}

impl Note {
    /// One line is one write, and O_APPEND keeps lines whole.
    fn write(&self, what: &str, context: &Context) -> Result<(), Failure> {
        let Some(ledger) = &self.ledger else { return Ok(()) };
        let line = format!("{what} {} {} {}\n", context.job(), context.index(), context.attempt());
        OpenOptions::new().append(true).open(ledger)?.write_all(line.as_bytes())?;
        Ok(())
    }

    fn kept(&self, context: &Context) -> Kept {
        let filling = "x".repeat(self.bytes);
        Kept { job: context.job().0, task: context.index(), attempt: context.attempt(), filling }
    }
}
