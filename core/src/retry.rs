//! How long a failed task waits: exponential, capped, with jitter that is a pure function of the attempt; or always the
//! same, exactly.

use crate::{
    id::{Attempt, Millis, TaskId},
    job::Retry,
};

/// A multiplier that asks for the same wait each time.
const FIXED_MILLI: u32 = 1_000;

/// The wait after the `failures`-th failure: between half of the exponential step and all of it, or the whole step if
/// it does not grow.
pub(crate) fn delay(retry: &Retry, failures: u32, task: TaskId, attempt: Attempt) -> Millis {
    let mut step = retry.initial.0.min(retry.max.0);
    for _ in 1..failures {
        let next = step.saturating_mul(u64::from(retry.multiplier_milli)) / 1_000;
        if next >= retry.max.0 {
            step = retry.max.0;
            break;
        }
        if next == step {
            break;
        }
        step = next;
    }
    if retry.multiplier_milli == FIXED_MILLI {
        return Millis(step);
    }
    let half = step / 2;
    Millis(step - half + hash(task, attempt) % (half + 1))
}

/// A well-mixed number (the finaliser of `splitmix64`).
fn hash(task: TaskId, attempt: Attempt) -> u64 {
    let mut x = task.job.0.rotate_left(32) ^ (u64::from(task.index) << 16) ^ u64::from(attempt.0);
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
