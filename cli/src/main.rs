//! `taskq`: reads the command line, runs the command, and turns how it ended into an exit code.

mod args;
mod cmd;

mod act;
mod attach;
mod bench;
mod captured;
mod clock;
mod context;
mod embed;
mod exit;
mod filter;
mod holes;
mod interrupt;
mod job;
mod joblog;
mod output;
mod plan;
mod prefix;
mod progress;
mod quantity;
mod screen;
mod select;
mod similar;
mod sources;
mod text;
mod value;
mod verdict;
mod view;
mod words;

/// Most of what one thread takes here another one frees.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    embed::maybe_become_spawner();
    if let Some(exit) = bench::maybe_become() {
        return exit;
    }
    args::run().into()
}
