//! Waiting for facts: the only place in the tests where time passes on purpose.

use std::thread;
use std::time::{Duration, Instant};

/// How long one fact may take to come true. `TASKQ_TEST_WAIT_S` sets another limit for slow machines.
pub fn limit() -> Duration {
    let asked = std::env::var("TASKQ_TEST_WAIT_S").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(60))
}

/// Looks until there is something to see, and fails the test when the limit has passed.
#[track_caller]
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(limit(), what, look)
}

/// [`until`] with a limit of its own, for facts that are promised sooner or take longer than others.
#[track_caller]
pub fn until_within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < limit, "waited {:.1} s in vain: {what}", start.elapsed().as_secs_f64());
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Waits until a statement holds.
#[track_caller]
pub fn holds(what: &str, mut look: impl FnMut() -> bool) {
    until(what, || look().then_some(()));
}

/// Lets a random stretch of time pass, so that the next fault strikes at a random moment. Not for synchronisation.
pub fn random_moment(length: Duration) {
    thread::sleep(length);
}
