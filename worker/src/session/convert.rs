//! Between the wire and the worker's own words. The only file that names both.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use taskq_client::Codec;
use taskq_proto::v1 as pb;
use taskq_template::Template;

use super::Hello;
use crate::attempt::{
    Argument, Blob, ByteCount, Call, Cause, Epoch, Fault, How, Job, JobId, Key, Needs, Outcome, Program,
    Range, Stream, Task,
};
use crate::cgroup::{Limits, Places};
use crate::outbox::{Event, Report};
use crate::registry::Kind;

/// Defaults of the fields that a client may leave at zero.
const KILL_GRACE: Duration = Duration::from_secs(10);
const CALL_GRACE: Duration = Duration::from_secs(1);
const OUTPUT_LIMIT: ByteCount = ByteCount(1024 * 1024);

/// The protocol that this worker speaks.
const PROTOCOL: u32 = 1;

pub(super) fn key(key: &pb::AttemptKey) -> Key {
    Key { job: JobId(key.job_id), index: key.index, attempt: key.attempt, epoch: Epoch(key.epoch) }
}

fn pb_key(key: Key) -> pb::AttemptKey {
    pb::AttemptKey { job_id: key.job.0, index: key.index, attempt: key.attempt, epoch: key.epoch.0 }
}

pub(super) fn hello(hello: &Hello) -> pb::worker_message::Body {
    pb::worker_message::Body::Hello(pb::Hello {
        incarnation: hello.incarnation.0,
        name: hello.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL,
        slots: hello.slots,
        named: hello.named.clone().into_iter().collect(),
        labels: hello.labels.clone().into_iter().collect(),
        window: hello.window,
        held: hello.held.iter().copied().map(pb_key).collect(),
        host: hello.host.clone(),
        draining: hello.draining,
        functions: hello.functions.iter().map(function).collect(),
        async_slots: hello.async_slots,
        no_commands: hello.no_commands,
        limits: kept(&hello.places),
    })
}

fn function((name, kind): &(String, Kind)) -> pb::Function {
    let runtime = match kind {
        Kind::Blocking => pb::function::Runtime::Threads,
        Kind::Asynchronous => pb::function::Runtime::Async,
        Kind::Process => pb::function::Runtime::Process,
    };
    pb::Function { name: name.clone(), runtime: runtime.into() }
}

pub(super) fn job(template: pb::Template) -> Job {
    let command = template.command.unwrap_or_default();
    let is_call = template.call.is_some();
    let program = match template.call {
        _ if !template.unusable.is_empty() => Program::Unusable(template.unusable),
        Some(called) => Program::Call(call(called)),
        None => match Template::parse(&command.argv, command.shell, &template.columns) {
            Ok(parsed) if command.shell => Program::Shell(parsed),
            Ok(parsed) => Program::Argv(parsed),
            Err(error) => Program::Unusable(error.to_string()),
        },
    };
    let resources = template.resources.unwrap_or_default();
    let millis = |ms: u64| (ms > 0).then(|| Duration::from_millis(ms));
    Job {
        id: JobId(template.job_id),
        program,
        env: command.env.into_iter().collect(),
        cwd: command.cwd,
        stdin: command.stdin,
        timeout: millis(template.timeout_ms),
        grace: millis(template.kill_grace_ms).unwrap_or(if is_call { CALL_GRACE } else { KILL_GRACE }),
        needs: Needs { slots: resources.slots.max(1), named: resources.named.into_iter().collect() },
        limits: template.limits.map(limits).unwrap_or_default(),
        priority: template.priority,
        output_limit: template.output_limit_bytes.map_or(OUTPUT_LIMIT, ByteCount),
        range: template.range.map(|range| Range { start: range.start, step: range.step.max(1) }),
    }
}

fn limits(limits: pb::Limits) -> Limits {
    let some = |number: u32| (number > 0).then_some(number);
    Limits {
        memory_bytes: (limits.memory_bytes > 0).then_some(limits.memory_bytes),
        cpu_milli: some(limits.cpu_milli),
        processes: some(limits.processes),
    }
}

/// What can be limited there.
fn kept(places: &Places) -> Vec<i32> {
    let all = [
        (&places.memory, pb::Limit::Memory),
        (&places.cpu, pb::Limit::Cpu),
        (&places.processes, pb::Limit::Processes),
    ];
    all.into_iter().filter(|(place, _)| place.is_some()).map(|(_, limit)| limit.into()).collect()
}

fn call(call: pb::Call) -> Call {
    let codec = if call.codec.is_empty() { "json".into() } else { call.codec.into() };
    let argument = match call.argument_blob {
        Some(blob) => Argument::Blob(Blob { sha256: blob.sha256, size: ByteCount(blob.size_bytes) }),
        None => Argument::Bytes(call.argument),
    };
    Call { function: call.function.into(), codec, argument }
}

/// The attempts of a unit, in order of their indices.
pub(super) fn keys(unit: &pb::Unit) -> impl Iterator<Item = Key> + '_ {
    let key = |index| Key { job: JobId(unit.job_id), index, attempt: unit.attempt, epoch: Epoch(unit.epoch) };
    let indices =
        unit.indices.iter().flat_map(|span| (0..span.count).map_while(|i| span.first.checked_add(i)));
    indices.map(key)
}

pub(super) fn tasks<'a>(unit: &'a pb::Unit, job: &'a Arc<Job>) -> impl Iterator<Item = Task> + 'a {
    let mut rows = unit.rows.iter();
    keys(unit).map(move |key| {
        let fields = match job.range {
            Some(range) => {
                let value = u128::from(range.start) + u128::from(key.index) * u128::from(range.step);
                vec![number(value, &job.program)]
            }
            None => rows.next().map(|row| row.fields.clone()).unwrap_or_default(),
        };
        Task { key, job: Arc::clone(job), fields }
    })
}

/// Decimal, as commands and most codecs have it; a call in MessagePack has its own way.
fn number(value: u128, program: &Program) -> Bytes {
    match (program, u64::try_from(value)) {
        (Program::Call(call), Ok(value)) if *call.codec == *Codec::Msgpack.name() => {
            Codec::Msgpack.encode(&value).expect("MessagePack has a form for every number")
        }
        _ => value.to_string().into(),
    }
}

pub(super) fn reports(reports: &[Report]) -> pb::worker_message::Body {
    let reports = reports.iter().map(report).collect();
    pb::worker_message::Body::Reports(pb::Reports { reports })
}

fn report(report: &Report) -> pb::Report {
    let event = match &report.event {
        Event::Started { unix_ms } => pb::report::Event::Started(pb::Started { unix_ms: *unix_ms }),
        Event::Output { stream, chunk, _room: _ } => pb::report::Event::Output(pb::Output {
            stream: match stream {
                Stream::Stdout => pb::Stream::Stdout.into(),
                Stream::Stderr => pb::Stream::Stderr.into(),
            },
            offset: chunk.offset,
            data: chunk.data.clone(),
        }),
        Event::Ended(outcome) => pb::report::Event::Outcome(pb_outcome(report.key, outcome)),
        Event::Progress(progress) => pb::report::Event::Progress(pb::Progress {
            index: report.key.index,
            fraction: progress.fraction,
            note: progress.note.clone(),
        }),
        Event::Returned { reason } => {
            pb::report::Event::Returned(pb::Returned { reason: (*reason).to_owned() })
        }
    };
    pb::Report { key: Some(pb_key(report.key)), event: Some(event) }
}

fn pb_outcome(key: Key, outcome: &Outcome) -> pb::Outcome {
    use pb::outcome::Kind;
    let (kind, exit_code, signal) = match outcome.how {
        How::Exited(code) => (Kind::Exited, code, 0),
        How::Signaled(signal) => (Kind::Signaled, 0, signal),
        How::TimedOut => (Kind::TimedOut, 0, 0),
        How::Cancelled => (Kind::Cancelled, 0, 0),
        How::CannotExecute(code) => (Kind::CannotExecute, code, 0),
        How::Lost => (Kind::WorkerLost, 0, 0),
        How::Rejected => (Kind::Rejected, 0, 0),
        How::Completed => (Kind::Completed, 0, 0),
        How::Failed => (Kind::Failed, 0, 0),
    };
    let value_blob = outcome.value_blob.as_ref().map(pb_blob);
    pb::Outcome {
        kind: kind.into(),
        exit_code,
        signal,
        message: outcome.message.clone(),
        usage: Some(pb::Usage {
            wall_us: outcome.usage.wall_us,
            user_us: outcome.usage.user_us,
            system_us: outcome.usage.system_us,
            peak_rss_bytes: outcome.usage.peak_rss_bytes,
        }),
        stdout: outcome.stdout.data.clone(),
        stderr: outcome.stderr.data.clone(),
        stdout_offset: outcome.stdout.offset,
        stderr_offset: outcome.stderr.offset,
        stdout_bytes: outcome.stdout.total,
        stderr_bytes: outcome.stderr.total,
        started_unix_ms: outcome.started_unix_ms,
        ended_unix_ms: outcome.ended_unix_ms,
        attempt: key.attempt,
        worker: String::new(),
        out_of_memory: outcome.out_of_memory,
        value: if value_blob.is_some() { Bytes::new() } else { outcome.value.clone() },
        value_blob,
        failure: outcome.fault.as_deref().map(pb_failure),
    }
}

pub(super) fn pb_blob(blob: &Blob) -> pb::Blob {
    pb::Blob { sha256: blob.sha256.clone(), size_bytes: blob.size.0 }
}

fn pb_failure(fault: &Fault) -> pb::Failure {
    let cause = match fault.cause {
        Cause::Error => pb::failure::Cause::Error,
        Cause::Panic => pb::failure::Cause::Panic,
        Cause::Argument => pb::failure::Cause::Argument,
        Cause::Result => pb::failure::Cause::Result,
        Cause::Function => pb::failure::Cause::Function,
    };
    pb::Failure {
        cause: cause.into(),
        r#type: fault.kind.clone(),
        message: fault.message.clone(),
        chain: fault.chain.clone(),
        place: fault.place.clone(),
        fatal: fault.fatal,
        value: fault.value.clone(),
    }
}
