//! The part of the Jobs service that workers use: bytes by their digest. The test may lose them, or be away.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use taskq_proto::v1 as pb;
use taskq_proto::v1::jobs_server::{Jobs, JobsServer};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

/// What is stored.
#[derive(Clone, Default)]
pub(crate) struct Blobs {
    stored: Arc<Mutex<HashMap<Bytes, Bytes>>>,
    /// How often somebody has stored something.
    uploads: Arc<AtomicU32>,
    /// So many requests are refused first.
    refusals: Arc<AtomicU32>,
}

impl Blobs {
    pub(crate) fn service(&self) -> JobsServer<Blobs> {
        JobsServer::new(self.clone())
    }

    pub(crate) fn get(&self, blob: &pb::Blob) -> Option<Bytes> {
        self.stored.lock().expect("no panic").get(&blob.sha256).cloned()
    }

    pub(crate) fn put(&self, bytes: &[u8]) -> pb::Blob {
        let sha256 = Bytes::copy_from_slice(&Sha256::digest(bytes));
        self.stored.lock().expect("no panic").insert(sha256.clone(), Bytes::copy_from_slice(bytes));
        pb::Blob { sha256, size_bytes: bytes.len() as u64 }
    }

    pub(crate) fn uploads(&self) -> u32 {
        self.uploads.load(Ordering::SeqCst)
    }

    /// Is not ready for so many requests.
    pub(crate) fn refuse(&self, count: u32) {
        self.refusals.store(count, Ordering::SeqCst);
    }

    fn ready(&self) -> Result<(), Status> {
        let refused =
            self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        refused.map_or(Ok(()), |_| Err(Status::unavailable("not yet")))
    }
}

type Chunks<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn no<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("no worker asks for this"))
}

#[tonic::async_trait]
impl Jobs for Blobs {
    type SubmitStreamStream = Chunks<pb::SubmitStreamReply>;
    type DownloadStream = Chunks<pb::DownloadChunk>;
    type ResultsStream = Chunks<pb::ResultBatch>;
    type EndsStream = Chunks<pb::EndsReply>;
    type LogsStream = Chunks<pb::LogChunk>;
    type WatchStream = Chunks<pb::Job>;

    async fn upload(
        &self,
        chunks: Request<Streaming<pb::UploadChunk>>,
    ) -> Result<Response<pb::Blob>, Status> {
        self.ready()?;
        let mut chunks = chunks.into_inner();
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            assert!(chunk.data.len() <= 256 * 1024, "a chunk has a size");
            bytes.extend_from_slice(&chunk.data);
        }
        let blob = self.put(&bytes);
        self.uploads.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(blob))
    }

    async fn download(&self, blob: Request<pb::Blob>) -> Result<Response<Self::DownloadStream>, Status> {
        self.ready()?;
        let bytes = self.get(blob.get_ref()).ok_or_else(|| Status::not_found("no such blob"))?;
        let chunks: Vec<_> = bytes
            .chunks(256 * 1024)
            .map(|chunk| Ok(pb::DownloadChunk { data: Bytes::copy_from_slice(chunk) }))
            .collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    async fn submit(&self, _: Request<pb::SubmitRequest>) -> Result<Response<pb::SubmitReply>, Status> {
        no()
    }
    async fn submit_stream(
        &self,
        _: Request<Streaming<pb::SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        no()
    }
    async fn get(&self, _: Request<pb::GetRequest>) -> Result<Response<pb::Job>, Status> {
        no()
    }
    async fn list(&self, _: Request<pb::ListRequest>) -> Result<Response<pb::ListReply>, Status> {
        no()
    }
    async fn list_tasks(
        &self,
        _: Request<pb::ListTasksRequest>,
    ) -> Result<Response<pb::ListTasksReply>, Status> {
        no()
    }
    async fn wait(&self, _: Request<pb::WaitRequest>) -> Result<Response<pb::Job>, Status> {
        no()
    }
    async fn results(&self, _: Request<pb::ResultsRequest>) -> Result<Response<Self::ResultsStream>, Status> {
        no()
    }
    async fn ends(
        &self,
        _: Request<Streaming<pb::EndsRequest>>,
    ) -> Result<Response<Self::EndsStream>, Status> {
        no()
    }
    async fn logs(&self, _: Request<pb::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        no()
    }
    async fn watch(&self, _: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        no()
    }
    async fn explain(&self, _: Request<pb::ExplainRequest>) -> Result<Response<pb::ExplainReply>, Status> {
        no()
    }
    async fn cancel(&self, _: Request<pb::ActRequest>) -> Result<Response<pb::ActReply>, Status> {
        no()
    }
    async fn retry(&self, _: Request<pb::ActRequest>) -> Result<Response<pb::ActReply>, Status> {
        no()
    }
    async fn pause(&self, _: Request<pb::ActRequest>) -> Result<Response<pb::ActReply>, Status> {
        no()
    }
    async fn resume(&self, _: Request<pb::ActRequest>) -> Result<Response<pb::ActReply>, Status> {
        no()
    }
    async fn remove(&self, _: Request<pb::ActRequest>) -> Result<Response<pb::ActReply>, Status> {
        no()
    }
}
