//! The `Jobs` service: one line a method. See `submit`, `read`, `stream` and `act` for what they do.

use std::pin::Pin;

use taskq_proto::v1::{self as pb, jobs_server::Jobs};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{Context, act::Deed, stream::Sender};
use taskq_core::id::JobId;

/// A stream of replies.
pub(super) type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Runs `body` in its own task and returns the stream that it writes to; one message is buffered.
pub(super) fn spawn<T: Send + 'static, F: Future<Output = ()> + Send + 'static>(
    body: impl FnOnce(Sender<T>) -> F,
) -> Result<Response<Replies<T>>, Status> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(body(sender));
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

#[tonic::async_trait]
impl Jobs for Context {
    type SubmitStreamStream = Replies<pb::SubmitStreamReply>;
    type ResultsStream = Replies<pb::ResultBatch>;
    type LogsStream = Replies<pb::LogChunk>;
    type WatchStream = Replies<pb::Job>;
    type EndsStream = Replies<pb::EndsReply>;
    type DownloadStream = Replies<pb::DownloadChunk>;

    async fn submit(&self, request: Request<pb::SubmitRequest>) -> Result<Response<pb::SubmitReply>, Status> {
        Ok(Response::new(Context::submit(self, request.into_inner()).await?))
    }

    async fn submit_stream(
        &self,
        request: Request<Streaming<pb::SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        Ok(Response::new(Box::pin(Context::submit_stream(self.clone(), request.into_inner()))))
    }

    async fn upload(
        &self,
        request: Request<Streaming<pb::UploadChunk>>,
    ) -> Result<Response<pb::Blob>, Status> {
        Ok(Response::new(Context::upload(self, request.into_inner()).await?))
    }

    async fn download(&self, request: Request<pb::Blob>) -> Result<Response<Self::DownloadStream>, Status> {
        spawn(|out| Context::download(self.clone(), request.into_inner(), out))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::Job>, Status> {
        Ok(Response::new(Context::get(self, JobId(request.into_inner().id)).await?))
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<pb::ListReply>, Status> {
        Ok(Response::new(Context::list(self, request.into_inner()).await?))
    }

    async fn list_tasks(
        &self,
        request: Request<pb::ListTasksRequest>,
    ) -> Result<Response<pb::ListTasksReply>, Status> {
        Ok(Response::new(Context::list_tasks(self, request.into_inner()).await?))
    }

    async fn wait(&self, request: Request<pb::WaitRequest>) -> Result<Response<pb::Job>, Status> {
        Ok(Response::new(Context::wait(self, request.into_inner()).await?))
    }

    async fn results(
        &self,
        request: Request<pb::ResultsRequest>,
    ) -> Result<Response<Self::ResultsStream>, Status> {
        spawn(|out| Context::results(self.clone(), request.into_inner(), out))
    }

    async fn ends(
        &self,
        request: Request<Streaming<pb::EndsRequest>>,
    ) -> Result<Response<Self::EndsStream>, Status> {
        spawn(|out| Context::ends(self.clone(), request.into_inner(), out))
    }

    async fn logs(&self, request: Request<pb::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        spawn(|out| Context::logs(self.clone(), request.into_inner(), out))
    }

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        spawn(|out| Context::watch(self.clone(), request.into_inner(), out))
    }

    async fn explain(
        &self,
        request: Request<pb::ExplainRequest>,
    ) -> Result<Response<pb::ExplainReply>, Status> {
        Ok(Response::new(Context::explain(self, request.into_inner()).await?))
    }

    async fn cancel(&self, request: Request<pb::ActRequest>) -> Result<Response<pb::ActReply>, Status> {
        Ok(Response::new(self.act(request.into_inner(), Deed::Cancel).await?))
    }

    async fn retry(&self, request: Request<pb::ActRequest>) -> Result<Response<pb::ActReply>, Status> {
        Ok(Response::new(self.act(request.into_inner(), Deed::Retry).await?))
    }

    async fn pause(&self, request: Request<pb::ActRequest>) -> Result<Response<pb::ActReply>, Status> {
        Ok(Response::new(self.act(request.into_inner(), Deed::Pause).await?))
    }

    async fn resume(&self, request: Request<pb::ActRequest>) -> Result<Response<pb::ActReply>, Status> {
        Ok(Response::new(self.act(request.into_inner(), Deed::Resume).await?))
    }

    async fn remove(&self, request: Request<pb::ActRequest>) -> Result<Response<pb::ActReply>, Status> {
        Ok(Response::new(self.act(request.into_inner(), Deed::Remove).await?))
    }
}
