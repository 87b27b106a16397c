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
use crate::{
    coordinator::endings::{Ending, How},
    store::{Lookup, Store},
};

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
                            // Of those that have not ended the awaiter tells, of all others the store.
                            let told = jobs.into_iter().filter(|job| !self.store.is_live(*job));
                            due.extend(told.map(|job| Ending { job, how: None }));
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
                let endings = std::mem::take(&mut due);
                let (mut ended, rest) = match self.page(endings).await {
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

    /// As many of these as make one reply, and the rest. Those that have not ended are left out.
    async fn page(&self, endings: Vec<Ending>) -> Result<(Vec<pb::Ended>, Vec<Ending>), Failure> {
        if endings.iter().all(|ending| ending.how.is_some()) {
            return Ok(page(&*self.store, endings));
        }
        self.read(move |store| Ok(page(store, endings))).await
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

fn page(store: &dyn Store, endings: Vec<Ending>) -> (Vec<pb::Ended>, Vec<Ending>) {
    let (mut ended, mut bytes) = (Vec::new(), 0);
    let mut endings = endings.into_iter();
    while bytes < REPLY_BYTES
        && let Some(Ending { job, how }) = endings.next()
    {
        let told = match how {
            Some(how) => Some(told(job, *how)),
            None => stored(store, job),
        };
        if let Some(end) = told {
            bytes += end.encoded_len();
            ended.push(end);
        }
    }
    (ended, endings.collect())
}

/// What the store says of a job; `None` if it has not ended.
fn stored(store: &dyn Store, job: JobId) -> Option<pb::Ended> {
    let end = || -> Result<Option<How>, Lookup> {
        let Some(ended) = store.job_ended(job)? else { return Ok(None) };
        let task = match ended.counts.total() {
            1 => store.ends(job, Rank(0), 1)?.pop(),
            _ => None,
        };
        Ok(Some(How { job: ended, task }))
    };
    match end() {
        Ok(how) => how.map(|how| told(job, how)),
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

fn told(job: JobId, how: How) -> pb::Ended {
    pb::Ended {
        job_id: job.0,
        state: view::end(&how.job.counts).into(),
        counts: Some(view::counts(&how.job.counts)),
        task: how.task.map(|task| view::ended_task(job, &task, Inline::ALL)),
        ..pb::Ended::default()
    }
}
