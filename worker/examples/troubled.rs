//! A worker for taskq's own tests: its functions do what functions should not. For functions to learn from, see
//! `handlers.rs`.
//!
//! `NAME` runs on threads, `async.NAME` on the event loop, `child.NAME` in a child process, whose memory ends at 512 MiB.

use std::hint::black_box;
use std::io::Write as _;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use taskq_client::Raw;
use taskq_worker::{Context, Failure, OrFatal, Worker, eprintln, println};

fn main() -> ExitCode {
    Worker::new()
        .blocking("echo", echo)
        .blocking("panic", panic)
        .blocking("nap", nap)
        .blocking("deaf", deaf)
        .blocking("patient", patient)
        .blocking("late", late)
        .blocking("steps", steps)
        .blocking("says", says)
        .blocking("fails", fails)
        .blocking("large", large)
        .blocking("about", about)
        .blocking("floods", floods)
        .blocking("reversed", reversed)
        .asynchronous("async.echo", |value: Value, _| async { Ok(value) })
        .asynchronous("async.panic", |(): (), _| async {
            tokio::task::yield_now().await;
            if true {
                panic!("no way");
            }
            Ok(())
        })
        .asynchronous("async.nap", |ms: u64, _| async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(())
        })
        .asynchronous("async.deaf", |ms: u64, context: Context| async move { deaf(ms, &context) })
        .asynchronous("async.patient", |(): (), context: Context| async move {
            context.cancelled().await;
            context.check()
        })
        .asynchronous("async.says", |text: String, context: Context| async move {
            tokio::task::yield_now().await;
            says(text, &context)
        })
        .process("child.echo", echo)
        .process("child.panic", panic)
        .process("child.nap", nap)
        .process("child.deaf", deaf)
        .process("child.patient", patient)
        .process("child.late", late)
        .process("child.steps", steps)
        .process("child.says", says)
        .process("child.fails", fails)
        .process("child.large", large)
        .process("child.about", about)
        .process("child.reversed", reversed)
        .process("child.abort", |(): (), _| -> Result<(), Failure> { std::process::abort() })
        .process("child.exit", |code: i32, _| -> Result<(), Failure> { std::process::exit(code) })
        .process("child.overflow", |(): (), _| Ok(deep(0)))
        .process("child.leak", leak)
        .process("child.hungry", hungry)
        .process("child.greedy", greedy)
        .process("child.pid", |(): (), _| Ok(std::process::id()))
        .process("child.starts", starts)
        .memory_limit(512 << 20)
        .main()
}

fn echo(value: Value, _: &Context) -> Result<Value, Failure> {
    Ok(value)
}

fn panic(text: String, _: &Context) -> Result<(), Failure> {
    panic!("{text}")
}

fn nap(ms: u64, _: &Context) -> Result<(), Failure> {
    thread::sleep(Duration::from_millis(ms));
    Ok(())
}

/// Hears nothing for so long, and returns a value then.
fn deaf(ms: u64, _: &Context) -> Result<&'static str, Failure> {
    thread::sleep(Duration::from_millis(ms));
    Ok("what?")
}

/// Ends as soon as it is told to.
fn patient(_: (), context: &Context) -> Result<(), Failure> {
    println!("waiting");
    while !context.is_cancelled() {
        thread::sleep(Duration::from_millis(5));
    }
    println!("told: {:?}", context.why());
    context.check()
}

/// Has its value only when it is told to end.
fn late(_: (), context: &Context) -> Result<&'static str, Failure> {
    println!("waiting");
    while !context.is_cancelled() {
        thread::sleep(Duration::from_millis(5));
    }
    Ok("in time")
}

/// Says how far it is, and then waits to be told to end.
fn steps(count: u32, context: &Context) -> Result<(), Failure> {
    for step in 1..=count {
        context.progress(f64::from(step) / f64::from(count), &format!("step {step}"));
    }
    patient((), context)
}

fn says(text: String, context: &Context) -> Result<(), Failure> {
    println!("printed {text}");
    eprintln!("complained {text}");
    tracing::info!("logged {text}");
    writeln!(context.stdout(), "written {text}")?;
    Ok(())
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("tank {tank} is empty")]
struct Empty {
    tank: u8,
}

fn fails(how: String, _: &Context) -> Result<u64, Failure> {
    match how.as_str() {
        "typed" => Err(Failure::typed(Empty { tank: 3 })),
        "fatal" => how.parse::<u64>().or_fatal(),
        _ => Ok(how.parse()?),
    }
}

fn large(bytes: usize, _: &Context) -> Result<String, Failure> {
    Ok("x".repeat(bytes))
}

/// Prints so many MiB.
fn floods(mib: usize, context: &Context) -> Result<(), Failure> {
    let block = vec![b'x'; 1 << 16];
    for _ in 0..mib * 16 {
        context.stdout().write_all(&block)?;
    }
    Ok(())
}

fn reversed(bytes: Raw, _: &Context) -> Result<Raw, Failure> {
    Ok(Raw::from(bytes.0.iter().rev().copied().collect::<Vec<u8>>()))
}

fn about(_: (), context: &Context) -> Result<(u64, u32, u32, String, bool), Failure> {
    let deadline = context.deadline().is_some();
    Ok((context.job().0, context.index(), context.attempt(), context.worker().to_owned(), deadline))
}

#[expect(unconditional_recursion, reason = "to overflow the stack")]
fn deep(depth: u64) -> u64 {
    // What the optimiser cannot see through, it cannot make a loop of.
    let frame = black_box([depth; 64]);
    black_box(deep(black_box(depth + 1))) + frame[usize::try_from(depth % 64).unwrap_or(0)]
}

fn leak(_: (), _: &Context) -> Result<(), Failure> {
    loop {
        // Nobody may find out that nobody reads it.
        black_box(Box::leak(vec![1_u8; 1 << 20].into_boxed_slice()));
    }
}

/// Has so many MiB for a while.
fn hungry(mib: usize, _: &Context) -> Result<(), Failure> {
    drop(black_box(vec![1_u8; mib << 20]));
    Ok(())
}

/// Wants more at once than it may have, after it has said a lot.
fn greedy(lines: u32, _: &Context) -> Result<(), Failure> {
    for line in 0..lines {
        eprintln!("line {line}");
    }
    drop(black_box(vec![0_u8; 1 << 30]));
    Ok(())
}

/// Leaves a process behind, and says which.
fn starts(_: (), context: &Context) -> Result<(), Failure> {
    let child = std::process::Command::new("sleep").arg("600").spawn()?;
    println!("{}", child.id());
    patient((), context)
}
