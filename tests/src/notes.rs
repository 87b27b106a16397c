//! Calls of the worker in `examples/notes.rs`: they do what a test can count, on each runtime, and return what a test knows.

use crate::{Api, Ledger, Seed, binaries, spec};
use std::path::PathBuf;
use taskq_proto::v1 as pb;

/// Its functions that take a note: on a thread, on the event loop, in a child process.
pub const FUNCTIONS: [&str; 3] = ["thread", "future", "child"];

/// The worker's program.
pub fn program() -> PathBuf {
    binaries::example("notes")
}

/// The argument of a call that takes `ms` and returns some `bytes`, noting in the ledger if there is one.
pub fn argument(ledger: Option<&Ledger>, ms: u64, bytes: u64) -> String {
    let ledger = ledger.map(|ledger| ledger.path().display().to_string());
    serde_json::json!({ "ledger": ledger, "ms": ms, "bytes": bytes }).to_string()
}

/// A job of one or a few calls of a random function.
pub fn job(ledger: Option<&Ledger>, ms: u64, bytes: u64, seed: &mut Seed) -> pb::JobSpec {
    let argument = argument(ledger, ms, bytes);
    let function = *seed.pick(&FUNCTIONS);
    match seed.number(1, 4) {
        1 => spec::calls(function, &[&argument, &argument, &argument]),
        _ => spec::call(function, &argument),
    }
}

/// The value of an ended call, wherever it lies.
pub fn value(api: &Api, task: &pb::Task) -> serde_json::Value {
    let outcome = task.outcome.as_ref().unwrap_or_else(|| panic!("{task:?} has not ended"));
    let bytes = match &outcome.value_blob {
        Some(blob) => api.download(blob).unwrap_or_else(|status| panic!("the value of {task:?}: {status}")),
        None => outcome.value.to_vec(),
    };
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("the value of {task:?}: {error}"))
}

/// Asserts that the value of an ended call is what its function made of these `bytes`.
pub fn check(api: &Api, task: &pb::Task, bytes: u64) {
    let value = value(api, task);
    let filling = value["filling"].as_str().map(str::len);
    assert_eq!(filling, usize::try_from(bytes).ok(), "{task:?}");
    let said = ["job", "task", "attempt"].map(|name| value[name].as_u64());
    assert_eq!(said, [task.job_id, task.index.into(), task.attempt.into()].map(Some), "{task:?}");
}
