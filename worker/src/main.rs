//! `taskq-worker`: a worker that runs commands.

use std::process::ExitCode;

use taskq_worker::Worker;

fn main() -> ExitCode {
    Worker::new().main()
}
