//! The worker of a bench: a worker program as users write it, whose functions do next to nothing.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use bytes::BytesMut;
use taskq_client::Raw;
use taskq_worker::{Context, Failure, Worker};

/// The first argument that turns the executable into this worker; the flags of `taskq-worker` follow.
pub(super) const WORD: &str = "__taskq-bench-worker";

/// On a thread.
pub(super) const ECHO: &str = "echo";
/// On the event loop.
pub(super) const ECHO_ASYNC: &str = "echo_async";
/// On a thread; bytes of any length, of which [`turned`] ones are returned.
pub(super) const TURN: &str = "turn";
/// Served by nobody: its calls wait.
pub(super) const UNSERVED: &str = "unserved";

/// The program.
pub(super) fn program() -> Worker {
    Worker::new().blocking(ECHO, echo).asynchronous(ECHO_ASYNC, echo_async).blocking(TURN, turn)
}

fn echo(number: u64, _: &Context) -> Result<u64, Failure> {
    Ok(number)
}

async fn echo_async(number: u64, _: Context) -> Result<u64, Failure> {
    Ok(number)
}

fn turn(bytes: Raw, _: &Context) -> Result<Raw, Failure> {
    Ok(turned(bytes))
}

/// Other bytes, of the same length: the store keeps bytes that it has already only once.
pub(super) fn turned(Raw(bytes): Raw) -> Raw {
    // Nobody else has them, so that this copies nothing.
    let mut bytes = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
    if let Some(first) = bytes.first_mut() {
        *first = !*first;
    }
    Raw(bytes.freeze())
}

/// Whether a value is what [`turned`] makes of these bytes; copies nothing.
pub(super) fn is_turned(Raw(value): &Raw, bytes: &[u8]) -> bool {
    match (value.split_first(), bytes.split_first()) {
        (Some((turned, rest)), Some((first, others))) => *turned == !*first && rest == others,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Is that program, on a coordinator that the bench ends with it, if this process was started as it, and says how it ended.
pub(super) fn maybe_become() -> Option<ExitCode> {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    if words.get(1).map(OsString::as_os_str) != Some(OsStr::new(WORD)) {
        return None;
    }
    words.remove(1);
    Some(program().with_its_coordinator().main_from(words))
}
