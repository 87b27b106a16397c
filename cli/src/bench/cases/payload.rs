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
    let body = noise(bytes);
    let taken: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let mut times = Vec::with_capacity(tasks as usize);

    let meter = Meter::start(stage)?;
    let arguments = {
        let (taken, body) = (taken.clone(), body.clone());
        (0..tasks).map(move |n| {
            let argument = marked(&body, n);
            taken.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            argument
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
        let n = u32::try_from(answer.position).expect("as many as there are tasks");
        let right = value == worker::turned(marked(&body, n));
        check(right, || format!("the value of call {n} is not what {} makes of its argument", worker::TURN))?;
        stage.tick(1);
    }
    let measured = meter.stop(times)?;

    let answered = measured.nanos.len();
    check(answered == tasks as usize, || format!("of {tasks} calls, only {answered} were answered"))?;
    Ok(measured)
}

/// Bytes that no compression makes shorter, always the same.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut body = Vec::with_capacity(bytes + 8);
    while body.len() < bytes {
        // An xorshift generator: good enough to look like nothing.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        body.extend(state.to_le_bytes());
    }
    body.truncate(bytes);
    body
}

/// No two arguments are the same.
fn marked(body: &[u8], n: u32) -> Raw {
    let mut bytes = body.to_vec();
    let mark = n.to_le_bytes();
    let length = mark.len().min(bytes.len());
    bytes[..length].copy_from_slice(&mark[..length]);
    Raw(Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_differ_in_their_mark_only() {
        let body = noise(1_021);
        let (one, two) = (marked(&body, 1), marked(&body, 2));
        assert_eq!(one.0.len(), 1_021);
        assert!(one != two && one.0[4..] == two.0[4..]);
        assert_eq!(marked(&body, 7), marked(&body, 7));
        let turned = worker::turned(one.clone());
        assert!(turned != one && turned.0[1..] == one.0[1..]);
    }
}
