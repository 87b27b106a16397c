//! `taskq-worker`: a worker that runs commands.

use std::process::ExitCode;

use taskq_worker::Worker;

/// Most of what one thread takes here another one frees.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    Worker::new().main()
}
