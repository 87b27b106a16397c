//! What the scheduler costs by itself, without disk, network or workers: steps a second, and bytes a queued job.
//! `cargo bench -p taskq-core`; medians of five with best and worst, in less than a minute.
//!
//! Everything is measured with 1,000,000 tasks queued, and with 1,000: the two must not differ by much. Only
//! [`State::step`] is timed; what a shell makes of its outcomes is not.
//!
//! [`State::step`]: taskq_core::State::step

mod driver;
mod figures;

use std::time::Duration;

use driver::{Driver, jobs};
use figures::{Spread, resident_bytes};
use taskq_core::id::JobId;

const QUEUED: [u32; 2] = [1_000_000, 1_000];
const SAMPLES: usize = 5;
/// Steps of a sample that submit.
const SUBMITS: u32 = 1_000;
/// Jobs of a submit in bulk: as many as a client sends at once.
const BULK: u32 = 100;
/// Tasks of a sample that are run, at least.
const TASKS: u64 = 131_072;
/// Elements of the array that is only submitted.
const LONG: u32 = 1_000_000;

fn main() {
    // First, while nothing was freed that could be taken again.
    let before = resident_bytes();
    let mut million = Driver::new();
    queue_singles(&mut million, QUEUED[0]);
    let bytes = (resident_bytes() - before) / u64::from(QUEUED[0]);
    println!("a queued single job: {bytes} bytes of resident memory");
    long_array();
    println!("\n| case | queued | median /s | best | worst |\n|---|---:|---:|---:|---:|");
    let mut thousand = Driver::new();
    queue_singles(&mut thousand, QUEUED[1]);
    for (queued, mut driver) in QUEUED.into_iter().zip([million, thousand]) {
        submits(&mut driver, queued);
        let (ended, _) = driver.drain();
        assert_eq!(ended, u64::from(queued), "what was queued before is what is left");
        runs(&mut driver, queued);
    }
}

fn queue_singles(driver: &mut Driver, many: u32) {
    for first in (0..many).step_by(BULK as usize) {
        driver.submit(jobs(BULK.min(many - first), 1));
    }
}

/// What an array takes however long it is.
fn long_array() {
    let mut driver = Driver::new();
    let before = resident_bytes();
    driver.submit(jobs(1, LONG));
    let queued = resident_bytes().saturating_sub(before) >> 10;
    let (ended, _) = driver.drain();
    assert_eq!(ended, u64::from(LONG));
    let run = resident_bytes().saturating_sub(before) >> 10;
    println!("an array of {LONG}: {queued} KiB of resident memory, {run} KiB when all of it has run");
}

/// Submits, while others are queued and nobody runs them.
fn submits(driver: &mut Driver, queued: u32) {
    let cases = [
        ("submit, one job a step".to_owned(), 1, 1),
        (format!("submit, {BULK} jobs a step: jobs"), BULK, 1),
        (format!("submit, an array of {LONG} a step"), 1, LONG),
    ];
    for (case, many, elements) in cases {
        tell(&case, queued, || {
            let mut ids: Vec<JobId> = Vec::new();
            let mut time = Duration::ZERO;
            for _ in 0..SUBMITS {
                let (given, taken) = driver.submit(jobs(many, elements));
                ids.extend(given);
                time += taken;
            }
            assert_eq!(ids.len(), (SUBMITS * many) as usize, "every job has a number");
            driver.cancel(&ids);
            (ids.len() as u64, time)
        });
    }
}

/// From a worker's hello until it has ended all that is queued, as often as makes a sample.
fn runs(driver: &mut Driver, queued: u32) {
    tell("dispatch and finish, an array: tasks", queued, || {
        drains(driver, |driver| {
            driver.submit(jobs(1, queued));
        })
    });
    tell("dispatch and finish, single jobs: tasks", queued, || {
        drains(driver, |driver| queue_singles(driver, queued))
    });
}

fn drains(driver: &mut Driver, queue: impl Fn(&mut Driver)) -> (u64, Duration) {
    let (mut tasks, mut time) = (0, Duration::ZERO);
    while tasks < TASKS {
        queue(driver);
        let (ended, taken) = driver.drain();
        tasks += ended;
        time += taken;
    }
    (tasks, time)
}

/// Shows a line of samples, each of which says how much was done in which time.
fn tell(case: &str, queued: u32, mut sample: impl FnMut() -> (u64, Duration)) {
    let rates = (0..SAMPLES).map(|_| {
        let (many, time) = sample();
        many as f64 / time.as_secs_f64()
    });
    println!("| {case} | {queued} | {} |", Spread::of(rates));
}
