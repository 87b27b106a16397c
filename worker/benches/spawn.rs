//! How much of what the machine can start do tasks get? `cargo bench -p taskq-worker --bench spawn`
//!
//! The bare limit is two threads that start `true` and wait for it, with nothing kept of it. Against it stands `true`
//! as tasks in two slots: by the spawner, with pipes for output, accounting, and a look for what was left behind. Both
//! are measured in turns, so that what else the machine does hits both; medians count.

use std::process::Command;
use std::time::{Duration, Instant};

const TASKS: u32 = 2_000;
const AT_ONCE: u32 = 2;
const ROUNDS: usize = 5;

fn main() {
    taskq_worker::spawner::maybe_become();
    let (mut bare, mut tasks) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(rate(time_bare()));
        tasks.push(rate(taskq_worker::bench::time_tasks(TASKS, AT_ONCE)));
    }
    println!("bare  {bare:.0?} per second");
    println!("tasks {tasks:.0?} per second");
    let (bare, tasks) = (median(bare), median(tasks));
    println!("medians: bare {bare:.0}/s, tasks {tasks:.0}/s, ratio {:.2}", tasks / bare);
}

fn time_bare() -> Duration {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                for _ in 0..TASKS / AT_ONCE {
                    let status = Command::new("true").spawn().and_then(|mut child| child.wait());
                    assert!(status.expect("true runs").success());
                }
            });
        }
    });
    began.elapsed()
}

fn rate(took: Duration) -> f64 {
    f64::from(TASKS) / took.as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
