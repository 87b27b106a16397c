//! What a worker says: parsed, and refused as a whole if any of it makes no sense.

use std::collections::HashSet;

use prost::Message as _;
use taskq_core::{
    event::{LastOutput, Report, ReportKind, Stream, Verdict, WorkerHello},
    id::{Attempt, Epoch, JobId, Lease, TaskId, WorkerId},
};
use taskq_proto::v1::{self as pb, outcome::Kind, report::Event};

use super::submit::{check_labels, name, texts};
use crate::api::status::Invalid;

/// The protocol version that this coordinator speaks.
const PROTOCOL: u32 = 1;
const SLOTS: u32 = 4_096;
const WINDOW: u32 = 65_536;
/// Output of one report. Workers send at most 60 KiB; the store keeps records of up to 64 KiB whole.
const OUTPUT_BYTES: usize = 60 << 10;

/// A worker's greeting.
///
/// # Errors
/// Names the field that is wrong.
pub fn hello(hello: pb::Hello) -> Result<WorkerHello, Invalid> {
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
        named: hello.named.into_iter().map(|(name, amount)| (name.into(), amount)).collect(),
        labels: texts(&hello.labels),
        window: hello.window,
        held,
        draining: hello.draining,
    })
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
    };
    Ok(Report { lease: lease(&key)?, what })
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
        Ok(Kind::Exited | Kind::CannotExecute) => Verdict::Failed { exit_code: outcome.exit_code },
        Ok(Kind::Signaled) => Verdict::Failed { exit_code: outcome.signal.saturating_add(128) },
        Ok(Kind::TimedOut) => Verdict::Failed { exit_code: 124 },
        Ok(Kind::Cancelled) => Verdict::Cancelled,
        Ok(Kind::WorkerLost) => Verdict::Lost,
        Ok(Kind::Rejected) => Verdict::Rejected,
        Ok(Kind::Unspecified | Kind::Skipped) | Err(_) => {
            return Err(Invalid::new("outcome.kind", "is not one that a worker may report"));
        }
    };
    let wall_us = outcome.usage.as_ref().map_or(0, |usage| usage.wall_us);
    let last_output = if verdict == Verdict::Succeeded { Vec::new() } else { last_output(&outcome) };
    Ok(ReportKind::Ended { verdict, wall_us, detail: outcome.encode_to_vec().into(), last_output })
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
