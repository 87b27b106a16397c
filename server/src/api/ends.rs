//! Ends of many jobs over one stream, each told once.

use prost::Message as _;
use taskq_core::id::{JobId, Rank};
use taskq_proto::v1 as pb;
use tonic::{Code, Status, Streaming};

use super::{
    Context,
    convert::view::{self, Inline},
    status::{Failure, Invalid},
    stream::{Sender, fail},
};
use crate::store::{EndedJob, EndedTask, Lookup, Store};

/// Jobs that one stream may await.
const AWAITED: usize = 1_000_000;
/// Jobs in one request.
const NAMED: usize = 10_000;
/// Bytes after which a reply is closed.
const REPLY_BYTES: usize = 1 << 20;

impl Context {
    /// Runs until the client has closed its side and every job was told, or it is gone.
    pub(super) async fn ends(self, mut requests: Streaming<pb::EndsRequest>, out: Sender<pb::EndsReply>) {
        let mut awaiter = self.handle.await_ends();
        let mut open = true;
        let mut due = Vec::new();
        while open || !awaiter.is_empty() {
            // Cancel-safe: what a losing arm has begun to read stays in its stream.
            tokio::select! {
                request = requests.message(), if open => match request {
                    Ok(Some(request)) => match named(request, awaiter.len()) {
                        Ok(jobs) => {
                            awaiter.add(jobs.iter().copied());
                            due = jobs;
                        }
                        Err(failure) => return fail(&out, failure).await,
                    },
                    Ok(None) => open = false,
                    // The client is gone.
                    Err(_) => return,
                },
                () = awaiter.ended(&mut due) => {}
                () = out.closed() => return,
                () = self.stopped() => {
                    let stopping = Status::unavailable("the coordinator is stopping; name again what was not told");
                    // Whether or not it still arrives, the stream is over.
                    let _sent = out.send(Err(stopping)).await;
                    return;
                }
            }
            while !due.is_empty() {
                let jobs = std::mem::take(&mut due);
                let (mut ended, rest) = match self.read(move |store| Ok(page(store, jobs))).await {
                    Ok(page) => page,
                    Err(failure) => return fail(&out, failure).await,
                };
                due = rest;
                ended.retain(|end| awaiter.settle(JobId(end.job_id)));
                if !ended.is_empty() && out.send(Ok(pb::EndsReply { ended })).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn named(request: pb::EndsRequest, awaited: usize) -> Result<Vec<JobId>, Failure> {
    let many = request.job_ids.len();
    if many > NAMED {
        return Err(Invalid::new("job_ids", format!("at most {NAMED} in one request")).into());
    }
    if awaited + many > AWAITED {
        let message =
            format!("more than {AWAITED} jobs are named and not told yet; read some before naming more");
        return Err(Failure { code: Code::ResourceExhausted, message });
    }
    Ok(request.job_ids.into_iter().map(JobId).collect())
}

/// Those of these jobs that have ended, as many as make one reply, and those that were not looked at.
fn page(store: &dyn Store, jobs: Vec<JobId>) -> (Vec<pb::Ended>, Vec<JobId>) {
    let (mut ended, mut bytes) = (Vec::new(), 0);
    let mut jobs = jobs.into_iter();
    while bytes < REPLY_BYTES
        && let Some(job) = jobs.next()
    {
        if let Some(end) = told(store, job) {
            bytes += end.encoded_len();
            ended.push(end);
        }
    }
    (ended, jobs.collect())
}

/// What is said of a job; `None` if it has not ended.
fn told(store: &dyn Store, job: JobId) -> Option<pb::Ended> {
    let end = || -> Result<Option<(EndedJob, Option<EndedTask>)>, Lookup> {
        let Some(end) = store.job_ended(job)? else { return Ok(None) };
        let task = match end.counts.total() {
            1 => store.ends(job, Rank(0), 1)?.pop(),
            _ => None,
        };
        Ok(Some((end, task)))
    };
    match end() {
        Ok(None) => None,
        Ok(Some((end, task))) => Some(pb::Ended {
            job_id: job.0,
            state: view::end(&end.counts).into(),
            counts: Some(view::counts(&end.counts)),
            task: task.map(|task| view::ended_task(job, &task, Inline::ALL)),
            ..pb::Ended::default()
        }),
        Err(why) => {
            let failure = Failure::from(why);
            Some(pb::Ended {
                job_id: job.0,
                error_code: failure.code.into(),
                error_message: failure.message,
                ..pb::Ended::default()
            })
        }
    }
}
