//! Random histories of crashes, losses and partitions: no promise is broken.
//!
//! `TASKQ_HISTORIES` sets how many (100,000 unless told), `TASKQ_SEED` plays one again, `TASKQ_TRACE` prints it.

mod audit;
mod rng;
mod worker;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::World;

#[test]
fn no_history_breaks_a_promise() {
    if let Some(seed) = number("TASKQ_SEED") {
        World::new(seed).run();
        return;
    }
    let histories = number("TASKQ_HISTORIES").unwrap_or(100_000);
    let (mut tasks, mut jobs) = (0, 0);
    for seed in 0..histories {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(seed);
            world.run();
            (world.audit.runs.len(), world.audit.jobs.len())
        }));
        let Ok((ran, submitted)) = outcome else {
            panic!("history {seed} fails; play it again with TASKQ_SEED={seed}")
        };
        tasks += ran;
        jobs += submitted;
    }
    assert!(tasks as u64 > histories, "the histories are worth something: {tasks} tasks of {jobs} jobs ran");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
