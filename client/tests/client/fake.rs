//! A coordinator that answers as a test tells it, over real connections. Each handler is given the number of the
//! call (of its method, from 0) and the request.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use taskq_client::{Access, Client, Options, Token};
use taskq_proto::v1::admin_server::{Admin, AdminServer};
use taskq_proto::v1::jobs_server::{Jobs, JobsServer};
use taskq_proto::v1::*;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

pub(crate) const TOKEN: &str = "tq_right";
pub(crate) type Out<T> = mpsc::Sender<Result<T, Status>>;
type Unary<Q, R> = Option<Box<dyn Fn(usize, Q) -> Result<R, Status> + Send + Sync>>;
/// Sends what it likes into the stream; that ends when the handler has dropped its end.
type Flow<Q, R> = Option<Box<dyn Fn(usize, Q, Out<R>) + Send + Sync>>;
type Boxed<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

/// What each method answers; UNIMPLEMENTED if nothing is set.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) submit: Unary<SubmitRequest, SubmitReply>,
    pub(crate) submit_stream: Flow<Streaming<SubmitRequest>, SubmitStreamReply>,
    pub(crate) upload: Unary<Vec<u8>, Blob>,
    pub(crate) get: Unary<GetRequest, Job>,
    pub(crate) list: Unary<ListRequest, ListReply>,
    pub(crate) list_tasks: Unary<ListTasksRequest, ListTasksReply>,
    pub(crate) wait: Unary<WaitRequest, Job>,
    pub(crate) results: Flow<ResultsRequest, ResultBatch>,
    pub(crate) logs: Flow<LogsRequest, LogChunk>,
    pub(crate) watch: Flow<WatchRequest, Job>,
    pub(crate) cancel: Unary<ActRequest, ActReply>,
    pub(crate) download: Flow<Blob, DownloadChunk>,
    pub(crate) ends: Flow<Streaming<EndsRequest>, EndsReply>,
}

struct Fake {
    script: Script,
    calls: Mutex<std::collections::HashMap<&'static str, usize>>,
}

impl Fake {
    fn number(&self, method: &'static str) -> usize {
        let mut calls = self.calls.lock().unwrap();
        let count = calls.entry(method).or_default();
        *count += 1;
        *count - 1
    }

    fn unary<Q, R>(
        &self,
        name: &'static str,
        handler: &Unary<Q, R>,
        request: Q,
    ) -> Result<Response<R>, Status> {
        let number = self.number(name);
        let handler = handler.as_ref().ok_or_else(|| Status::unimplemented(name))?;
        handler(number, request).map(Response::new)
    }

    fn flow<Q, R: Send + 'static>(
        &self,
        name: &'static str,
        handler: &Flow<Q, R>,
        request: Q,
    ) -> Result<Response<Boxed<R>>, Status> {
        let number = self.number(name);
        let (out, stream) = mpsc::channel(1_024);
        handler.as_ref().ok_or_else(|| Status::unimplemented(name))?(number, request, out);
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

#[tonic::async_trait]
impl Jobs for Fake {
    type SubmitStreamStream = Boxed<SubmitStreamReply>;
    type ResultsStream = Boxed<ResultBatch>;
    type LogsStream = Boxed<LogChunk>;
    type WatchStream = Boxed<Job>;
    type DownloadStream = Boxed<DownloadChunk>;
    type EndsStream = Boxed<EndsReply>;

    async fn submit(&self, r: Request<SubmitRequest>) -> Result<Response<SubmitReply>, Status> {
        self.unary("submit", &self.script.submit, r.into_inner())
    }
    async fn submit_stream(
        &self,
        r: Request<Streaming<SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        self.flow("submit_stream", &self.script.submit_stream, r.into_inner())
    }
    async fn upload(&self, r: Request<Streaming<UploadChunk>>) -> Result<Response<Blob>, Status> {
        let mut chunks = r.into_inner();
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            assert!(chunk.data.len() <= 256 << 10, "a chunk of {} bytes", chunk.data.len());
            bytes.extend_from_slice(&chunk.data);
        }
        self.unary("upload", &self.script.upload, bytes)
    }
    async fn get(&self, r: Request<GetRequest>) -> Result<Response<Job>, Status> {
        self.unary("get", &self.script.get, r.into_inner())
    }
    async fn list(&self, r: Request<ListRequest>) -> Result<Response<ListReply>, Status> {
        self.unary("list", &self.script.list, r.into_inner())
    }
    async fn list_tasks(&self, r: Request<ListTasksRequest>) -> Result<Response<ListTasksReply>, Status> {
        self.unary("list_tasks", &self.script.list_tasks, r.into_inner())
    }
    async fn wait(&self, r: Request<WaitRequest>) -> Result<Response<Job>, Status> {
        self.unary("wait", &self.script.wait, r.into_inner())
    }
    async fn results(&self, r: Request<ResultsRequest>) -> Result<Response<Self::ResultsStream>, Status> {
        self.flow("results", &self.script.results, r.into_inner())
    }
    async fn logs(&self, r: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        self.flow("logs", &self.script.logs, r.into_inner())
    }
    async fn watch(&self, r: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.flow("watch", &self.script.watch, r.into_inner())
    }
    async fn download(&self, r: Request<Blob>) -> Result<Response<Self::DownloadStream>, Status> {
        self.flow("download", &self.script.download, r.into_inner())
    }
    async fn ends(&self, r: Request<Streaming<EndsRequest>>) -> Result<Response<Self::EndsStream>, Status> {
        self.flow("ends", &self.script.ends, r.into_inner())
    }
    async fn explain(&self, _: Request<ExplainRequest>) -> Result<Response<ExplainReply>, Status> {
        Err(Status::unimplemented("explain"))
    }
    async fn cancel(&self, r: Request<ActRequest>) -> Result<Response<ActReply>, Status> {
        self.unary("cancel", &self.script.cancel, r.into_inner())
    }
    async fn retry(&self, _: Request<ActRequest>) -> Result<Response<ActReply>, Status> {
        Err(Status::unimplemented("retry"))
    }
    async fn pause(&self, _: Request<ActRequest>) -> Result<Response<ActReply>, Status> {
        Err(Status::unimplemented("pause"))
    }
    async fn resume(&self, _: Request<ActRequest>) -> Result<Response<ActReply>, Status> {
        Err(Status::unimplemented("resume"))
    }
    async fn remove(&self, _: Request<ActRequest>) -> Result<Response<ActReply>, Status> {
        Err(Status::unimplemented("remove"))
    }
}

struct Plain;

#[tonic::async_trait]
impl Admin for Plain {
    type BackupStream = Boxed<BackupChunk>;

    async fn stats(&self, _: Request<StatsRequest>) -> Result<Response<StatsReply>, Status> {
        Ok(Response::new(StatsReply { version: "fake".into(), ..Default::default() }))
    }
    async fn list_workers(
        &self,
        _: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersReply>, Status> {
        Ok(Response::new(ListWorkersReply::default()))
    }
    async fn drain_worker(&self, _: Request<DrainWorkerRequest>) -> Result<Response<Worker>, Status> {
        Err(Status::not_found("there is no worker"))
    }
    async fn list_queues(&self, _: Request<ListQueuesRequest>) -> Result<Response<ListQueuesReply>, Status> {
        Ok(Response::new(ListQueuesReply::default()))
    }
    async fn pause_queue(&self, r: Request<QueueRequest>) -> Result<Response<Queue>, Status> {
        Ok(Response::new(Queue { name: r.into_inner().name, paused: true, ..Default::default() }))
    }
    async fn resume_queue(&self, r: Request<QueueRequest>) -> Result<Response<Queue>, Status> {
        Ok(Response::new(Queue { name: r.into_inner().name, ..Default::default() }))
    }
    async fn purge_queue(&self, _: Request<PurgeQueueRequest>) -> Result<Response<PurgeQueueReply>, Status> {
        Err(Status::unimplemented("purge_queue"))
    }
    async fn backup(&self, _: Request<BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        Err(Status::unimplemented("backup"))
    }
}

/// A running fake. It has a runtime of its own, so that stopping it cuts every connection at once.
pub(crate) struct Server {
    runtime: Option<Runtime>,
    pub(crate) addr: SocketAddr,
    pub(crate) refused: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn start(script: Script) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script)
    }

    pub(crate) fn start_at(addr: SocketAddr, script: Script) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let refused = Arc::new(AtomicUsize::new(0));
        let guard = runtime.enter();
        let listener = std::net::TcpListener::bind(addr).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        drop(guard);
        let addr = listener.local_addr().unwrap();
        let count = refused.clone();
        let check = move |request: Request<()>| {
            let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
            if header == Some(&format!("Bearer {TOKEN}")) {
                return Ok(request);
            }
            count.fetch_add(1, Ordering::SeqCst);
            Err(Status::unauthenticated("wrong token"))
        };
        let jobs =
            JobsServer::new(Fake { script, calls: Mutex::default() }).max_decoding_message_size(64 << 20);
        let jobs = tonic::service::interceptor::InterceptedService::new(jobs, check.clone());
        let admin = AdminServer::with_interceptor(Plain, check);
        runtime.spawn(async move {
            let router = tonic::transport::Server::builder().add_service(jobs).add_service(admin);
            router.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { runtime: Some(runtime), addr, refused }
    }

    pub(crate) fn access(&self) -> Access {
        Access::new(self.addr.to_string(), Token::new(TOKEN).unwrap())
    }

    pub(crate) fn client(&self) -> Client {
        Client::lazy(&self.access(), Options::default()).unwrap()
    }

    /// Cuts all connections and frees the port.
    pub(crate) fn kill(mut self) -> SocketAddr {
        self.stop();
        self.addr
    }

    fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waits for the threads, so that the listener is closed when this returns.
            std::thread::spawn(move || drop(runtime)).join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An ended task with some output.
pub(crate) fn ended(index: u32, stdout: impl Into<bytes::Bytes>) -> Task {
    let outcome = Outcome {
        kind: outcome::Kind::Exited.into(),
        stdout: stdout.into(),
        attempt: 1,
        ..Default::default()
    };
    Task {
        job_id: 7,
        index,
        state: State::Succeeded.into(),
        attempt: 1,
        outcome: Some(outcome),
        ..Default::default()
    }
}

/// A job of so many tasks.
pub(crate) fn job(state: State, total: u32) -> Job {
    let counts = Some(Counts { total, ..Default::default() });
    Job { id: 7, state: state.into(), counts, ..Default::default() }
}
