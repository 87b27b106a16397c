//! A worker reports. Only the holder of the current lease is believed.
//!
//! A report whose token (session's incarnation, job, index, attempt, epoch) is not that of the current lease changes
//! nothing. It is counted as stale, and the worker is told to kill the attempt if it may still run. Two cases are
//! quiet: the end of an attempt that was accepted before (its confirmation was lost), and reports that come with
//! their attempt's end in one message, as there is nothing left to kill.

use std::collections::BTreeSet;

use crate::{
    effect::{Effect, Outcome, Write},
    event::{Report, ReportKind},
    id::{Lease, Now, SessionId, WorkerId},
    state::State,
    step::{finish, hello::is_current, session},
};

pub(crate) fn reports(
    state: &mut State,
    now: Now,
    session: SessionId,
    seq: u64,
    reports: Vec<Report>,
    out: &mut Outcome,
) {
    let Some(worker) = session::hear(state, now, session) else { return };
    let is_end = |report: &Report| matches!(report.what, ReportKind::Ended { .. } | ReportKind::Returned);
    let mut ended = BTreeSet::new();
    // Mostly there is nothing but ends, and nobody asks.
    if !reports.iter().all(is_end) {
        ended.extend(reports.iter().filter(|report| is_end(report)).map(|report| report.lease));
    }
    let mut abandoned = BTreeSet::new();
    for report in reports {
        if is_current(state, worker, &report.lease) {
            accept(state, now, worker, report, out);
            continue;
        }
        let known = state.workers.get(&worker).is_some_and(|worker| worker.has_accepted(&report.lease));
        let is_end = is_end(&report);
        if known || (!is_end && ended.contains(&report.lease)) {
            continue;
        }
        state.tally.stale += 1;
        if !is_end && abandoned.insert(report.lease) {
            out.effects.push(Effect::Abandon(session, report.lease));
        }
    }
    out.effects.push(Effect::Committed { session, seq });
}

fn accept(state: &mut State, now: Now, id: WorkerId, report: Report, out: &mut Outcome) {
    let Some(worker) = state.workers.get_mut(&id) else { return };
    let name = worker.hello.name.clone();
    let lease = report.lease;
    match report.what {
        ReportKind::Started => started(state, now, lease),
        ReportKind::Progress(progress) => {
            state.array(lease.task.job).set_progress(lease.task.index, progress)
        }
        ReportKind::Output { stream, offset, data } => out.writes.push(Write::Output {
            task: lease.task,
            attempt: lease.attempt,
            stream,
            offset,
            data,
            worker: name,
        }),
        ReportKind::Ended { verdict, wall_us, detail, blob, last_output } => {
            worker.accept(lease);
            finish::finished(
                state,
                now,
                lease,
                finish::End { verdict, wall_us, detail, blob, last_output, worker: id, name },
                out,
            );
        }
        ReportKind::Returned => {
            worker.accept(lease);
            worker.stall(lease.task);
            finish::give_back(state, now, lease.task, out);
        }
    }
}

fn started(state: &mut State, now: Now, lease: Lease) {
    let id = lease.task;
    let Some(job) = state.jobs.get_mut(id.job) else { return };
    let overdue = state.config.backstop(now.mono, &state.policies.get(job.policy).policy);
    let array = job.unfold();
    array.started.get_or_insert(now.wall);
    array.changes += 1;
    state.start(id, overdue);
}
