//! What a worker says: parsed, and refused as a whole if any of it makes no sense.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use prost::Message as _;
use taskq_core::{
    event::{LastOutput, Progress, Report, ReportKind, Stream, Verdict, WorkerHello},
    id::{Attempt, Epoch, JobId, Lease, TaskId, WorkerId},
    job::Runtime,
};
use taskq_proto::{
    INLINE_VALUE_BYTES, VALUE_BYTES,
    v1::{self as pb, function, outcome::Kind, report::Event},
};

use super::{
    call, limits,
    submit::{check_labels, name, texts},
};
use crate::{api::status::Invalid, metrics::scrape::WorkerProcess};

/// What a call says of itself, or of its failure.
const NOTE_BYTES: usize = 1 << 10;
const FAILURE_BYTES: usize = 128 << 10;

/// The protocol version that this coordinator speaks.
const PROTOCOL: u32 = 1;
const SLOTS: u32 = 4_096;
const ASYNC_SLOTS: u32 = 65_536;
const WINDOW: u32 = 131_072;
const FUNCTIONS: usize = 4_096;
/// Output of one report. Workers send at most 60 KiB; the store keeps records of up to 64 KiB whole.
const OUTPUT_BYTES: usize = 60 << 10;

/// What is known of a worker beside its Hello.
#[derive(Clone, Debug, Default)]
pub struct Greeter {
    /// Where it connects from.
    pub address: String,
    /// As in the message that carries the Hello.
    pub busy_slots: u32,
    /// The same.
    pub busy_async: u32,
}

/// A worker's greeting.
///
/// # Errors
/// Names the field that is wrong.
pub fn hello(hello: pb::Hello, from: Greeter) -> Result<WorkerHello, Invalid> {
    if hello.protocol != PROTOCOL {
        let why =
            format!("this coordinator speaks {PROTOCOL}, the worker {}; update the older", hello.protocol);
        return Err(Invalid::new("protocol", why));
    }
    if hello.incarnation == 0 {
        return Err(Invalid::new("incarnation", "must not be 0"));
    }
    name(&hello.name).map_err(|why| Invalid::new("name", why))?;
    if !(1..=SLOTS).contains(&hello.slots) {
        return Err(Invalid::new("slots", format!("must be from 1 to {SLOTS}")));
    }
    if !(hello.slots..=WINDOW).contains(&hello.window) {
        return Err(Invalid::new("window", format!("must be from slots to {WINDOW}")));
    }
    check_labels("labels", &hello.labels)?;
    for resource in hello.named.keys() {
        name(resource).map_err(|why| Invalid::new(format!("named[{resource:?}]"), why))?;
    }
    if hello.async_slots > ASYNC_SLOTS {
        return Err(Invalid::new("async_slots", format!("at most {ASYNC_SLOTS}")));
    }
    if hello.host.len() > 256 || hello.version.len() > 256 {
        return Err(Invalid::new("host", "host and version are at most 256 bytes"));
    }
    let held = hello.held.iter().map(lease).collect::<Result<Vec<_>, _>>()?;
    if held.iter().map(|lease| lease.task).collect::<HashSet<_>>().len() < held.len() {
        return Err(Invalid::new("held", "names a task twice"));
    }
    Ok(WorkerHello {
        id: WorkerId(hello.incarnation),
        name: hello.name.into(),
        host: hello.host.into(),
        version: hello.version.into(),
        slots: hello.slots,
        async_slots: hello.async_slots,
        busy: from.busy_slots,
        async_busy: from.busy_async,
        functions: functions(&hello.functions)?,
        commands: !hello.no_commands,
        limits: limits::kept(&hello.limits),
        address: from.address.into(),
        named: hello.named.into_iter().map(|(name, amount)| (name.into(), amount)).collect(),
        labels: texts(&hello.labels),
        window: hello.window,
        held,
        draining: hello.draining,
    })
}

fn functions(offered: &[pb::Function]) -> Result<BTreeMap<Arc<str>, Runtime>, Invalid> {
    if offered.len() > FUNCTIONS {
        return Err(Invalid::new("functions", format!("at most {FUNCTIONS}")));
    }
    let mut functions = BTreeMap::new();
    for function in offered {
        let place = || format!("functions[{:?}]", function.name);
        call::function(&function.name).map_err(|why| Invalid::new(place(), why))?;
        let runtime = match function::Runtime::try_from(function.runtime) {
            Ok(function::Runtime::Threads) => Runtime::Threads,
            Ok(function::Runtime::Async) => Runtime::Async,
            Ok(function::Runtime::Process) => Runtime::Process,
            Err(_) => return Err(Invalid::new(place(), "has a runtime that this coordinator does not know")),
        };
        if functions.insert(function.name.as_str().into(), runtime).is_some() {
            return Err(Invalid::new(place(), "is named twice"));
        }
    }
    Ok(functions)
}

/// What a worker says of its own process.
pub fn process(process: &pb::Process) -> WorkerProcess {
    let pb::Process { cpu_us, resident_bytes, attempts_ended } = *process;
    WorkerProcess { cpu_us, resident_bytes, attempts_ended }
}

/// A worker's reports, in order.
///
/// # Errors
/// Names the report and the field that is wrong.
pub fn reports(reports: pb::Reports) -> Result<Vec<Report>, Invalid> {
    let parse = |(at, one)| report(one).map_err(|error| error.within(&format!("reports[{at}]")));
    reports.reports.into_iter().enumerate().map(parse).collect()
}

fn report(report: pb::Report) -> Result<Report, Invalid> {
    let key = report.key.ok_or_else(|| Invalid::new("key", "is missing"))?;
    let what = match report.event.ok_or_else(|| Invalid::new("event", "is missing"))? {
        Event::Started(_) => ReportKind::Started,
        Event::Returned(_) => ReportKind::Returned,
        Event::Output(output) => self::output(output)?,
        Event::Outcome(outcome) => ended(outcome)?,
        Event::Progress(progress) => self::progress(&progress)?,
    };
    Ok(Report { lease: lease(&key)?, what })
}

fn progress(progress: &pb::Progress) -> Result<ReportKind, Invalid> {
    if !(0.0..=1.0).contains(&progress.fraction) {
        return Err(Invalid::new("progress.fraction", "must be from 0 to 1"));
    }
    if progress.note.len() > NOTE_BYTES {
        return Err(Invalid::new("progress.note", format!("at most {NOTE_BYTES} bytes")));
    }
    let note = progress.note.as_str().into();
    Ok(ReportKind::Progress(Progress { fraction: progress.fraction, note }))
}

fn output(output: pb::Output) -> Result<ReportKind, Invalid> {
    if output.data.len() > OUTPUT_BYTES {
        return Err(Invalid::new("output.data", format!("at most {OUTPUT_BYTES} bytes")));
    }
    let end = output.offset.checked_add(output.data.len() as u64);
    end.ok_or_else(|| Invalid::new("output.offset", "goes beyond 2^64"))?;
    let stream = match pb::Stream::try_from(output.stream) {
        Ok(pb::Stream::Stdout) => Stream::Stdout,
        Ok(pb::Stream::Stderr) => Stream::Stderr,
        Err(_) => return Err(Invalid::new("output.stream", "is neither STDOUT nor STDERR")),
    };
    Ok(ReportKind::Output { stream, offset: output.offset, data: output.data })
}

fn ended(outcome: pb::Outcome) -> Result<ReportKind, Invalid> {
    if outcome.stdout.len() > OUTPUT_BYTES || outcome.stderr.len() > OUTPUT_BYTES {
        return Err(Invalid::new(
            "outcome.stdout",
            format!("at most {OUTPUT_BYTES} bytes each; send Output before"),
        ));
    }
    let verdict = match Kind::try_from(outcome.kind) {
        Ok(Kind::Exited) if outcome.exit_code == 0 => Verdict::Succeeded,
        Ok(Kind::Exited | Kind::CannotExecute) => failed(outcome.exit_code),
        Ok(Kind::Signaled) => failed(outcome.signal.saturating_add(128)),
        Ok(Kind::TimedOut) => failed(124),
        Ok(Kind::Completed) => Verdict::Succeeded,
        Ok(Kind::Failed) => {
            Verdict::Failed { exit_code: 1, fatal: outcome.failure.as_ref().is_some_and(|why| why.fatal) }
        }
        Ok(Kind::Cancelled) => Verdict::Cancelled,
        Ok(Kind::WorkerLost) => Verdict::Lost,
        Ok(Kind::Rejected) => Verdict::Rejected,
        Ok(Kind::Unspecified | Kind::Skipped) | Err(_) => {
            return Err(Invalid::new("outcome.kind", "is not one that a worker may report"));
        }
    };
    let blob = value(&outcome)?;
    let wall_us = outcome.usage.as_ref().map_or(0, |usage| usage.wall_us);
    let last_output = if verdict == Verdict::Succeeded { Vec::new() } else { last_output(&outcome) };
    Ok(ReportKind::Ended { verdict, wall_us, detail: outcome.encode_to_vec().into(), blob, last_output })
}

fn failed(exit_code: i32) -> Verdict {
    Verdict::Failed { exit_code, fatal: false }
}

/// The blob that a value lies in, if it does.
fn value(outcome: &pb::Outcome) -> Result<Option<Box<[u8; 32]>>, Invalid> {
    if outcome.value.len() > INLINE_VALUE_BYTES {
        let why = format!("at most {INLINE_VALUE_BYTES} bytes: upload it and give value_blob");
        return Err(Invalid::new("outcome.value", why));
    }
    if outcome.failure.as_ref().is_some_and(|failure| failure.encoded_len() > FAILURE_BYTES) {
        return Err(Invalid::new("outcome.failure", format!("at most {FAILURE_BYTES} bytes")));
    }
    let Some(blob) = &outcome.value_blob else { return Ok(None) };
    if blob.size_bytes > VALUE_BYTES as u64 {
        return Err(Invalid::new("outcome.value_blob", format!("at most {VALUE_BYTES} bytes")));
    }
    let digest = <[u8; 32]>::try_from(blob.sha256.as_ref());
    let digest = digest.map_err(|_| Invalid::new("outcome.value_blob.sha256", "must be 32 bytes"))?;
    Ok(Some(Box::new(digest)))
}

fn last_output(outcome: &pb::Outcome) -> Vec<LastOutput> {
    let last = [
        (Stream::Stdout, outcome.stdout_offset, &outcome.stdout),
        (Stream::Stderr, outcome.stderr_offset, &outcome.stderr),
    ];
    let said = last.into_iter().filter(|(_, _, data)| !data.is_empty());
    said.map(|(stream, offset, data)| LastOutput { stream, offset, data: data.clone() }).collect()
}

fn lease(key: &pb::AttemptKey) -> Result<Lease, Invalid> {
    if key.job_id == 0 || key.attempt == 0 || key.epoch == 0 {
        return Err(Invalid::new("key", "job_id, attempt and epoch begin at 1"));
    }
    Ok(Lease {
        task: TaskId { job: JobId(key.job_id), index: key.index },
        attempt: Attempt(key.attempt),
        epoch: Epoch(key.epoch),
    })
}
