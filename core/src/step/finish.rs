//! An attempt ends: the task with it, or it gets another attempt.

use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;

use crate::{
    effect::{Outcome, Write},
    event::{LastOutput, Verdict},
    gate::{Ebb, Ending},
    id::{Lease, Millis, Now, TaskId, WorkerId},
    job::{self, Policy},
    retry,
    state::State,
};

/// How long a task that a worker could not run stays away from workers.
const ELSEWHERE: Millis = Millis(1_000);

/// What a worker says of an attempt's end.
pub(crate) struct End {
    pub(crate) verdict: Verdict,
    pub(crate) wall_us: u64,
    pub(crate) detail: Bytes,
    pub(crate) blob: Option<Box<[u8; 32]>>,
    pub(crate) last_output: Vec<LastOutput>,
    pub(crate) worker: WorkerId,
    pub(crate) name: Arc<str>,
}

/// What follows from the end of an attempt.
enum Next {
    Ends(job::End),
    Waits { failures: u32, losses: u32, delay: Millis, avoid: Option<WorkerId> },
}

/// The current attempt of a task ended. Cancel beats retry, and success beats cancel.
pub(crate) fn finished(state: &mut State, now: Now, lease: Lease, end: End, out: &mut Outcome) {
    let id = lease.task;
    let Some(live) = state.jobs.get_mut(id.job) else { return };
    let policy_id = live.policy;
    let policy = state.policies.get(policy_id).policy.clone();
    let array = live.unfold();
    array.started.get_or_insert(now.wall);
    let cancelling = array.cancelling.contains(id.index);
    let tripped = policy.max_fails.is_some_and(|most| array.counts.failed > most);
    let Some(task) = array.task(id.index) else { return };
    let (failures, losses) = (task.failures, task.losses);
    if matches!(end.verdict, Verdict::Succeeded | Verdict::Failed { .. }) {
        state.policies.observe(policy_id, end.wall_us);
        state.tally.run.add(end.wall_us, 1);
    }
    let ended = &mut state.tally.attempts_ended;
    *match end.verdict {
        Verdict::Succeeded => &mut ended.succeeded,
        Verdict::Failed { .. } => &mut ended.failed,
        Verdict::Cancelled => &mut ended.cancelled,
        Verdict::Rejected => &mut ended.rejected,
        Verdict::Lost => &mut ended.lost,
    } += 1;
    let uncharged = |avoid| Next::Waits { failures, losses, delay: ELSEWHERE, avoid };
    let next = match end.verdict {
        Verdict::Succeeded => Next::Ends(job::End::Succeeded),
        _ if cancelling => Next::Ends(job::End::Cancelled),
        Verdict::Failed { exit_code, fatal } => {
            let failures = failures + 1;
            if !tripped && !fatal && may_retry(&policy, failures, exit_code) {
                let delay = retry::delay(&policy.retry, failures, id, lease.attempt);
                Next::Waits { failures, losses, delay, avoid: None }
            } else {
                Next::Ends(job::End::Failed)
            }
        }
        Verdict::Lost if tripped || losses + 1 >= policy.crash_limit => Next::Ends(job::End::Failed),
        Verdict::Lost => Next::Waits { failures, losses: losses + 1, delay: Millis(0), avoid: None },
        // Nobody asked for it here: the worker stopped it for reasons of its own.
        Verdict::Cancelled => uncharged(None),
        Verdict::Rejected => uncharged(Some(end.worker)),
    };
    let (attempt, worker, detail, blob) = (lease.attempt, Some(end.name), end.detail, end.blob);
    match next {
        Next::Ends(end) => {
            state.end(
                now,
                id.job,
                RoaringBitmap::from([id.index]),
                Ending { end, attempt, detail, blob, worker },
                out,
            );
        }
        Next::Waits { failures, losses, delay, avoid } => {
            let charged = matches!(end.verdict, Verdict::Failed { .. } | Verdict::Lost);
            state.tally.retried += u64::from(charged);
            for LastOutput { stream, offset, data } in end.last_output {
                let worker = worker.clone().unwrap_or_default();
                out.writes.push(Write::Output { task: id, attempt, stream, offset, data, worker });
            }
            state.ebb(now, id, Ebb { attempt, failures, losses, delay, detail, worker, avoid }, out);
        }
    }
    state.conclude(now, id.job, out);
}

/// An attempt that never started goes back: uncharged, and ready at once.
pub(crate) fn give_back(state: &mut State, now: Now, id: TaskId, out: &mut Outcome) {
    let Some(job) = state.jobs.get_mut(id.job) else { return };
    let array = job.unfold();
    let cancelling = array.cancelling.contains(id.index);
    let Some(task) = array.task(id.index) else { return };
    let (failures, losses, avoid) = (task.failures, task.losses, task.avoid);
    let Some(run) = array.run(id.index) else { return };
    let attempt = run.attempt;
    let worker = state.workers.get(&run.worker).map(|worker| worker.hello.name.clone());
    let detail = Bytes::new();
    state.tally.attempts_ended.returned += 1;
    if cancelling {
        let ending = Ending { end: job::End::Cancelled, attempt, detail, blob: None, worker };
        state.end(now, id.job, RoaringBitmap::from([id.index]), ending, out);
    } else {
        state.ebb(now, id, Ebb { attempt, failures, losses, delay: Millis(0), detail, worker, avoid }, out);
    }
    state.conclude(now, id.job, out);
}

fn may_retry(policy: &Policy, failures: u32, exit_code: i32) -> bool {
    let retry = &policy.retry;
    failures < retry.max_attempts && (retry.exit_codes.is_empty() || retry.exit_codes.contains(&exit_code))
}
