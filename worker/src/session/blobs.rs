//! What is too long for a message: arguments are fetched before their call begins, values are stored before their end is
//! told. Both are tried again for as long as the coordinator is away.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use taskq_proto::v1 as pb;
use taskq_proto::v1::jobs_client::JobsClient;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tonic::{Code, Status};
use tracing::warn;

use super::connect::AuthChannel;
use crate::attempt::{Blob, ByteCount, Cause, Fault, Key, Task};

/// As the protocol says.
const CHUNK: usize = 256 * 1024;
/// Values under way at once: enough to fill a network, few enough to leave room for the rest.
const AT_ONCE: usize = 4;
/// Between two tries.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The way to the coordinator's blobs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Blobs {
    jobs: JobsClient<AuthChannel>,
    turns: Arc<Semaphore>,
}

impl Blobs {
    pub(crate) fn new(channel: AuthChannel) -> Blobs {
        Blobs { jobs: JobsClient::new(channel), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The argument of a call. An error means that it cannot be had. Cancel-safe.
    pub(crate) async fn fetch(&self, blob: &Blob, task: &Task) -> Result<Bytes, Box<Fault>> {
        let mut pause = PAUSE_MIN;
        loop {
            match self.try_fetch(blob).await {
                Ok(bytes) => return Ok(bytes),
                Err(status) if status.code() == Code::NotFound => {
                    let function = task.call().map_or("", |call| &call.function);
                    let message = format!(
                        "the argument of function {function}, {} bytes, is not at the coordinator any more: {}",
                        blob.size.0,
                        status.message()
                    );
                    return Err(Fault::new(Cause::Argument, message).fatal());
                }
                Err(status) => {
                    warn!(%status, task = %task.key, "its argument cannot be fetched yet; trying again")
                }
            }
            pause = wait(pause).await;
        }
    }

    async fn try_fetch(&self, blob: &Blob) -> Result<Bytes, Status> {
        let named = pb::Blob { sha256: blob.sha256.clone(), size_bytes: blob.size.0 };
        let mut chunks = self.jobs.clone().download(named).await?.into_inner();
        let size = usize::try_from(blob.size.0).ok().filter(|size| *size <= taskq_proto::VALUE_BYTES);
        let size = size.ok_or_else(|| Status::data_loss("it is longer than an argument may be"))?;
        let mut bytes = BytesMut::with_capacity(size);
        while let Some(chunk) = chunks.message().await? {
            if bytes.len() + chunk.data.len() > size {
                return Err(Status::data_loss("more bytes came than there are"));
            }
            bytes.extend_from_slice(&chunk.data);
        }
        if *Sha256::digest(&bytes) != *blob.sha256 {
            return Err(Status::data_loss("other bytes came than were asked for"));
        }
        Ok(bytes.freeze())
    }

    /// Stores the value of a task. An error means that the coordinator will never take it. `waits` is told once why it
    /// does not take it yet. Cancel-safe.
    pub(crate) async fn store(
        &self,
        task: Key,
        value: Bytes,
        waits: impl Fn(String),
    ) -> Result<Blob, Box<Fault>> {
        let mut pause = PAUSE_MIN;
        let mut told = false;
        loop {
            // Not held during pauses: one for which there is no room is not in the way of one for which there is.
            let turn = self.turns.acquire().await.expect("never closed");
            let stored = self.try_store(value.clone()).await;
            drop(turn);
            match stored {
                Ok(blob) => return Ok(blob),
                Err(status) if passes(status.code()) => {
                    if !std::mem::replace(&mut told, true) {
                        let reason = status.message();
                        warn!(%task, bytes = value.len(), reason, "its value cannot be stored yet; trying until it can");
                        waits(reason.to_owned());
                    }
                }
                Err(status) => {
                    let message =
                        format!("the coordinator does not take a value of {} bytes: {status}", value.len());
                    return Err(Fault::new(Cause::Result, message).fatal());
                }
            }
            pause = wait(pause).await;
        }
    }

    async fn try_store(&self, value: Bytes) -> Result<Blob, Status> {
        let size = ByteCount(value.len() as u64);
        let sha256 = Bytes::copy_from_slice(&Sha256::digest(&value));
        let chunks = (0..value.len()).step_by(CHUNK).map(move |at| {
            let data = value.slice(at..value.len().min(at + CHUNK));
            pb::UploadChunk { data }
        });
        let stored = self.jobs.clone().upload(tokio_stream::iter(chunks)).await?.into_inner();
        if stored.sha256 != sha256 {
            return Err(Status::data_loss("the coordinator has stored other bytes than were sent"));
        }
        Ok(Blob { sha256, size })
    }
}

/// Whether the same may succeed later.
fn passes(code: Code) -> bool {
    !matches!(code, Code::InvalidArgument | Code::Unimplemented | Code::FailedPrecondition | Code::OutOfRange)
}

async fn wait(pause: Duration) -> Duration {
    sleep(pause).await;
    (pause * 2).min(PAUSE_MAX)
}
