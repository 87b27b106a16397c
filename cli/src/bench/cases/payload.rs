//! Calls with long arguments and values as long: bytes, as they are. Each its own job, some at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use taskq_client::{Codec, Error, Raw};

use crate::bench::meter::{Measured, Meter, nanos};
use crate::bench::stage::{Stage, check};
use crate::bench::worker;

/// Bytes under way at once, and calls: enough to keep everybody busy, little enough for a small machine.
const UNDER_WAY_BYTES: usize = 128 << 20;
const UNDER_WAY: usize = 1_000;

pub(in crate::bench) async fn run(stage: &Stage, tasks: u32, bytes: usize) -> anyhow::Result<Measured> {
    let noise = noise(bytes + tasks as usize);
    let taken: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let mut times = Vec::with_capacity(tasks as usize);

    let meter = Meter::start(stage)?;
    let arguments = {
        let (taken, noise) = (taken.clone(), noise.clone());
        (0..tasks as usize).map(move |n| {
            taken.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            Raw(part(&noise, n, bytes))
        })
    };
    let outstanding = (UNDER_WAY_BYTES / bytes).clamp(1, UNDER_WAY);
    let calls = stage.client().call_many::<Raw, _>(worker::TURN, arguments);
    let mut answers = calls.codec(Codec::Raw).outstanding(outstanding).start();
    while let Some(answer) = answers.next().await {
        let answer = answer?;
        let value = answer.value.map_err(Error::Call)?;
        let since = taken.lock().unwrap_or_else(PoisonError::into_inner)[answer.position];
        times.push(nanos(since.elapsed()));
        let n = answer.position;
        let right = worker::is_turned(&value, &part(&noise, n, bytes));
        check(right, || format!("the value of call {n} is not what {} makes of its argument", worker::TURN))?;
        stage.tick(1);
    }
    let measured = meter.stop(times)?;

    let answered = measured.nanos.len();
    check(answered == tasks as usize, || format!("of {tasks} calls, only {answered} were answered"))?;
    Ok(measured)
}

/// The bytes of an argument. No two are the same, and yet all are parts of the same bytes: to make one costs nothing.
fn part(noise: &Bytes, n: usize, bytes: usize) -> Bytes {
    noise.slice(n..n + bytes)
}

/// Bytes that no compression makes shorter, always the same.
fn noise(bytes: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        // An xorshift generator: good enough to look like nothing.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend(state.to_le_bytes());
    }
    noise.truncate(bytes);
    Bytes::from(noise)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_arguments_are_the_same() {
        let noise = noise(1_021 + 5_000);
        let all: HashSet<Bytes> = (0..5_000).map(|n| part(&noise, n, 1_021)).collect();
        assert_eq!(all.len(), 5_000);
        assert!(all.iter().all(|argument| argument.len() == 1_021));
    }

    #[test]
    fn a_value_is_told_from_another_one() {
        let argument = noise(1_021);
        let value = worker::turned(Raw(argument.clone()));
        assert!(worker::is_turned(&value, &argument));
        assert!(!worker::is_turned(&Raw(argument.clone()), &argument));
        assert!(!worker::is_turned(&Raw(value.0.slice(..1_020)), &argument));
        assert!(!worker::is_turned(&Raw(Bytes::new()), &argument));
    }
}
