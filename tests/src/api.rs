//! The wire contract, blocking: for tests that need more than the command line says.

use crate::{Access, spec, wait};
use std::future::Future;
use std::time::Duration;
use taskq_proto::v1 as pb;
use taskq_proto::v1::admin_client::AdminClient;
use taskq_proto::v1::jobs_client::JobsClient;
use tokio::runtime::{Builder, Runtime};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// A channel that shows its token with every call.
pub type Authorized = InterceptedService<Channel, Bearer>;

/// Adds `authorization: Bearer ...`.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    /// From the token as `access.toml` has it.
    pub fn new(token: &str) -> Self {
        Self(format!("Bearer {token}").parse().expect("a token of plain characters"))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// One connection to a coordinator. It connects when first used, and anew when it was lost.
pub struct Api {
    runtime: Runtime,
    jobs: JobsClient<Authorized>,
    admin: AdminClient<Authorized>,
}

impl Api {
    /// A connection with the token of `access`.
    pub fn connect(access: &Access) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let entered = runtime.enter();
        let channel = channel(access);
        drop(entered);
        let bearer = Bearer::new(&access.token);
        let jobs = JobsClient::with_interceptor(channel.clone(), bearer.clone());
        let admin = AdminClient::with_interceptor(channel, bearer);
        Self { runtime, jobs: jobs.max_decoding_message_size(64 << 20), admin }
    }

    /// Any call that has no method here.
    pub fn call<T, F>(&self, call: impl FnOnce(JobsClient<Authorized>) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        self.runtime.block_on(call(self.jobs.clone())).map(tonic::Response::into_inner)
    }

    /// The calls themselves, for a future on this connection's runtime.
    pub fn jobs(&self) -> JobsClient<Authorized> {
        self.jobs.clone()
    }

    /// The same, of the other service.
    pub fn admin(&self) -> AdminClient<Authorized> {
        self.admin.clone()
    }

    /// Runs a future on this connection's runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Submits jobs once; their ids.
    pub fn submit(&self, request: &pb::SubmitRequest) -> Result<Vec<u64>, Status> {
        let request = request.clone();
        self.call(|mut jobs| async move { jobs.submit(request).await }).map(|reply| reply.job_ids)
    }

    /// Submits one job, which must be taken; its id.
    #[track_caller]
    pub fn submit_one(&self, spec: pb::JobSpec) -> u64 {
        let ids =
            self.submit(&spec::request(vec![spec])).unwrap_or_else(|status| panic!("refused: {status}"));
        ids[0]
    }

    /// One job.
    pub fn get(&self, id: u64) -> Result<pb::Job, Status> {
        self.call(|mut jobs| async move { jobs.get(pb::GetRequest { id }).await })
    }

    /// Waits until the job has ended.
    #[track_caller]
    pub fn ended(&self, id: u64) -> pb::Job {
        let what = format!("job {id} has ended");
        wait::until(&what, || self.get(id).ok().filter(|job| spec::is_terminal(job.state)))
    }

    /// Waits until a task of the job runs.
    #[track_caller]
    pub fn running(&self, id: u64) -> pb::Task {
        let running = |task: &pb::Task| task.state == pb::State::Running as i32;
        wait::until(&format!("job {id} runs"), || self.tasks(id).ok()?.into_iter().find(running))
    }

    /// Every job that the coordinator knows and that fits the filter.
    pub fn list(&self, filter: pb::Filter) -> Result<Vec<pb::Job>, Status> {
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = pb::ListRequest { filter: Some(filter.clone()), page_size: 1_000, page_token };
            let reply = self.call(|mut jobs| async move { jobs.list(request).await })?;
            all.extend(reply.jobs);
            if reply.next_page_token.is_empty() {
                return Ok(all);
            }
            page_token = reply.next_page_token;
        }
    }

    /// Every task of a job.
    pub fn tasks(&self, job_id: u64) -> Result<Vec<pb::Task>, Status> {
        self.tasks_of(pb::ListTasksRequest { job_id, ..Default::default() })
    }

    /// One task with the outcomes of its earlier attempts.
    #[track_caller]
    pub fn task(&self, job_id: u64, index: u32) -> pb::Task {
        let indices = vec![pb::Span { first: index, count: 1 }];
        let request = pb::ListTasksRequest { job_id, indices, with_history: true, ..Default::default() };
        let tasks = self.tasks_of(request).unwrap_or_else(|status| panic!("task {job_id}.{index}: {status}"));
        tasks.into_iter().next().unwrap_or_else(|| panic!("no task {job_id}.{index}"))
    }

    fn tasks_of(&self, mut request: pb::ListTasksRequest) -> Result<Vec<pb::Task>, Status> {
        let mut all = Vec::new();
        request.page_size = 1_000;
        loop {
            let page = request.clone();
            let reply = self.call(|mut jobs| async move { jobs.list_tasks(page).await })?;
            all.extend(reply.tasks);
            if reply.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = reply.next_page_token;
        }
    }

    /// The ends of a job's tasks that are committed by now, in the order of their commits.
    pub fn ends(&self, job_id: u64) -> Result<Vec<pb::Task>, Status> {
        let mut client = self.jobs.clone();
        self.runtime.block_on(async move {
            let request =
                pb::ResultsRequest { job_id, with_output: true, with_values: true, ..Default::default() };
            let mut stream = client.results(request).await?.into_inner();
            let mut ends = Vec::new();
            while let Some(batch) = stream.message().await? {
                ends.extend(batch.tasks);
                if batch.complete {
                    break;
                }
            }
            Ok(ends)
        })
    }

    /// The bytes of a blob.
    pub fn download(&self, blob: &pb::Blob) -> Result<Vec<u8>, Status> {
        let (blob, mut client) = (blob.clone(), self.jobs.clone());
        self.runtime.block_on(async move {
            let mut stream = client.download(blob).await?.into_inner();
            let mut bytes = Vec::new();
            while let Some(chunk) = stream.message().await? {
                bytes.extend_from_slice(&chunk.data);
            }
            Ok(bytes)
        })
    }

    /// Cancels whole jobs.
    pub fn cancel(&self, ids: &[u64]) -> Result<pb::ActReply, Status> {
        let jobs = ids.iter().map(|id| pb::JobTasks { job_id: *id, indices: Vec::new() }).collect();
        let selection = Some(pb::Selection { jobs, filter: None });
        let id: [u8; 16] = rand::random();
        let request = pb::ActRequest { selection, dry_run: false, request_id: id.to_vec().into() };
        self.call(|mut jobs| async move { jobs.cancel(request).await })
    }

    /// The coordinator about itself.
    pub fn stats(&self) -> Result<pb::StatsReply, Status> {
        let mut admin = self.admin.clone();
        self.runtime
            .block_on(async move { admin.stats(pb::StatsRequest {}).await })
            .map(|reply| reply.into_inner())
    }

    /// Every worker that the coordinator knows.
    pub fn workers(&self) -> Result<Vec<pb::Worker>, Status> {
        let mut admin = self.admin.clone();
        let request = pb::ListWorkersRequest::default();
        let reply = self.runtime.block_on(async move { admin.list_workers(request).await })?;
        Ok(reply.into_inner().workers)
    }
}

/// A channel to the coordinator, connected when first used.
pub fn channel(access: &Access) -> Channel {
    Endpoint::from_shared(format!("http://{}", access.address))
        .expect("an address")
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(30))
        .tcp_nodelay(true)
        .connect_lazy()
}
