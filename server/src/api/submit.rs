//! Submitting: one request, or many on a stream; and uploads.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use taskq_core::{id::JobId, job::NewJob};
use taskq_proto::v1::{self as pb, submit_stream_reply::Result as Answer};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Status, Streaming};

use super::{
    Context,
    ask::Submit,
    broken,
    convert::submit::{self, JOBS},
    room::Reserved,
    status::{Failure, Invalid},
};
use crate::store::{GROWTH, Store};

/// Requests of one submit stream that may wait for their sync. More would only wait in the loop instead.
const IN_FLIGHT: usize = 64;
/// One upload: element values and standard input.
const UPLOAD_BYTES: usize = 1 << 30;

impl Context {
    /// Stores jobs, all or none.
    pub(super) async fn submit(&self, request: pb::SubmitRequest) -> Result<pb::SubmitReply, Failure> {
        let room = self.room.reserve(&*self.store, GROWTH * request.encoded_len() as u64)?;
        let repeat = repeat(&request.request_id)?;
        let jobs = checked(request.jobs, &*self.store)?;
        if request.dry_run {
            return Ok(pb::SubmitReply { job_ids: vec![0; jobs.len()], repeated_request: false });
        }
        let (ids, repeated_request) = self.keep(room, Submit { repeat, jobs }).await?;
        Ok(pb::SubmitReply { job_ids: ids.into_iter().map(|id| id.0).collect(), repeated_request })
    }

    /// Has jobs stored that there is room for. The room is theirs until they are on disk or the coordinator
    /// stops, whether or not the caller still waits.
    pub(super) async fn keep(&self, room: Reserved, jobs: Submit) -> Result<(Vec<JobId>, bool), Failure> {
        let begun = Instant::now();
        let kept = self.ask_holding(Some(Box::new(room)), jobs).await;
        if kept.is_ok() {
            self.metrics.submits.add(begun.elapsed());
        }
        kept
    }

    /// Answers each request of a stream in order, with up to `IN_FLIGHT` of them under way.
    pub(super) fn submit_stream(
        self,
        mut requests: Streaming<pb::SubmitRequest>,
    ) -> impl Stream<Item = Result<pb::SubmitStreamReply, Status>> {
        let (tasks, queued) = mpsc::channel(IN_FLIGHT);
        tokio::spawn(async move {
            // Ends when the client has said all, when its stream breaks, or when nobody reads the answers any more.
            while let Ok(Some(request)) = requests.message().await {
                let context = self.clone();
                let task = tokio::spawn(async move { context.submit(request).await });
                if tasks.send(task).await.is_err() {
                    return;
                }
            }
        });
        ReceiverStream::new(queued).then(|task| async move {
            let answer = match task.await {
                Ok(Ok(reply)) => Answer::Ok(reply),
                Ok(Err(failure)) => {
                    Answer::Error(pb::SubmitError { code: failure.code.into(), message: failure.message })
                }
                Err(_) => return Err(broken("a submit panicked").into()),
            };
            Ok(pb::SubmitStreamReply { result: Some(answer) })
        })
    }

    /// Stores bytes under their digest.
    pub(super) async fn upload(&self, mut chunks: Streaming<pb::UploadChunk>) -> Result<pb::Blob, Status> {
        let mut bytes = Vec::new();
        let mut room = self.room.reserve(&*self.store, 0)?;
        while let Some(chunk) = chunks.message().await? {
            room.grow(&*self.store, chunk.data.len() as u64)?;
            bytes.extend_from_slice(&chunk.data);
            if bytes.len() > UPLOAD_BYTES {
                return Err(Invalid::new("data", format!("at most {UPLOAD_BYTES} bytes in all")).status());
            }
        }
        let size_bytes = bytes.len() as u64;
        let store = Arc::clone(&self.store);
        let stored = tokio::task::spawn_blocking(move || {
            let sha256: [u8; 32] = Sha256::digest(&bytes).into();
            store.put_blob(sha256, &bytes).map(|()| sha256)
        });
        let sha256 = stored.await.map_err(|_| broken("an upload panicked"))?.map_err(Failure::from)?;
        Ok(pb::Blob { sha256: Bytes::copy_from_slice(&sha256), size_bytes })
    }
}

fn repeat(id: &Bytes) -> Result<Option<[u8; 16]>, Invalid> {
    match id.len() {
        0 => Ok(None),
        16 => Ok(id.as_ref().try_into().ok()),
        _ => Err(Invalid::new("request_id", "must be 16 bytes, or absent")),
    }
}

fn checked(specs: Vec<pb::JobSpec>, store: &dyn Store) -> Result<Vec<NewJob>, Invalid> {
    if specs.is_empty() || specs.len() > JOBS {
        return Err(Invalid::new("jobs", format!("must be 1 to {JOBS}")));
    }
    let one =
        |(at, spec)| submit::job(spec, &|named| blob(store, named)).map_err(|error| error.within(&place(at)));
    specs.into_iter().enumerate().map(one).collect()
}

fn place(at: usize) -> String {
    format!("jobs[{at}]")
}

/// An uploaded blob.
pub(super) fn blob(store: &dyn Store, named: &pb::Blob) -> Option<Bytes> {
    let digest = <[u8; 32]>::try_from(named.sha256.as_ref()).ok()?;
    store.blob(&digest).ok().flatten()
}

impl Invalid {
    fn status(self) -> Status {
        Status::new(Code::InvalidArgument, self.to_string())
    }
}
