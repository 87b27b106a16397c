//! Short ways to say what a job is, in the wire's own types.

use taskq_proto::v1 as pb;
use taskq_proto::v1::source::Values;

/// A job of one task that runs `argv`.
pub fn command<S: AsRef<str>>(argv: &[S]) -> pb::JobSpec {
    let argv = argv.iter().map(|word| word.as_ref().to_owned()).collect();
    pb::JobSpec { command: Some(pb::Command { argv, ..Default::default() }), ..Default::default() }
}

/// A job of one task that runs a script with `sh -c`.
pub fn shell(script: &str) -> pb::JobSpec {
    command(&["sh", "-c", script])
}

/// A job of one task that calls `function` with this JSON text.
pub fn call(function: &str, argument: &str) -> pb::JobSpec {
    let argument = argument.to_owned().into();
    let call = pb::Call { function: function.to_owned(), argument, ..Default::default() };
    pb::JobSpec { call: Some(call), ..Default::default() }
}

/// A job that calls `function` once for each of these JSON texts.
pub fn calls(function: &str, arguments: &[&str]) -> pb::JobSpec {
    let fields = arguments.iter().map(|text| (*text).to_owned().into()).collect();
    let source = pb::Source { values: Some(Values::Table(pb::Table { fields })), ..Default::default() };
    let elements = Some(pb::Elements { sources: vec![source], ..Default::default() });
    pb::JobSpec { elements, ..call(function, "") }
}

/// The same job as an array of `count` tasks, numbered from 1 in their only column.
pub fn array(mut spec: pb::JobSpec, count: u32) -> pb::JobSpec {
    let range = pb::Range { start: 1, step: 1, count };
    let source = pb::Source { values: Some(Values::Range(range)), ..Default::default() };
    spec.elements = Some(pb::Elements { sources: vec![source], ..Default::default() });
    spec
}

/// A request with a fresh id.
pub fn request(jobs: Vec<pb::JobSpec>) -> pb::SubmitRequest {
    let id: [u8; 16] = rand::random();
    pb::SubmitRequest { jobs, request_id: id.to_vec().into(), dry_run: false }
}

/// True for states that a job or task never leaves.
pub fn is_terminal(state: i32) -> bool {
    state >= pb::State::Succeeded as i32
}
