//! A worker with the function that Python's documentation likes to submit; called by `client/examples/executor.rs` and
//! `pool.rs`.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use taskq_worker::{Context, Failure, Worker, println};

fn main() -> ExitCode {
    Worker::new().blocking("task", task).main()
}

fn task(n: u32, _: &Context) -> Result<u32, Failure> {
    println!("Processing {n}");
    thread::sleep(Duration::from_millis(100)); // what would be work
    Ok(n * n)
}
