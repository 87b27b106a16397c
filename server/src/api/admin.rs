//! The `Admin` service.

use taskq_core::event::QueueAct;
use taskq_proto::v1::{self as pb, admin_server::Admin};
use tonic::{Code, Request, Response, Status};

use super::{
    Context,
    ask::{ChangeQueue, Drain, Figures, Queues, Workers},
    convert::{submit::name, view},
    jobs::{Replies, spawn},
    status::{Failure, Invalid},
};

/// Queues that an error names at most.
const NAMED: usize = 20;

#[tonic::async_trait]
impl Admin for Context {
    type BackupStream = Replies<pb::BackupChunk>;

    async fn stats(&self, _: Request<pb::StatsRequest>) -> Result<Response<pb::StatsReply>, Status> {
        let stats = self.ask(Figures).await?;
        let usage = self.read(|store| Ok(store.usage())).await?;
        Ok(Response::new(pb::StatsReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.start.instance.clone(),
            epoch: self.start.epoch.0,
            uptime_ms: u64::try_from(self.start.at.elapsed().as_millis()).unwrap_or(u64::MAX),
            jobs_live: stats.jobs,
            jobs_kept: usage.kept_jobs,
            tasks_queued: stats.queued,
            tasks_running: stats.running,
            tasks_backoff: stats.backoff,
            workers: stats.workers,
            slots: stats.slots,
            tasks_ended: stats.ended,
            stale_reports: stats.stale,
            commits: self.metrics.all_commits(),
            commit_p50_us: self.metrics.commit_us(0.5),
            commit_p99_us: self.metrics.commit_us(0.99),
            disk_bytes: usage.disk_bytes,
            store: usage.engine.to_owned(),
            durability: if usage.synced { "synced" } else { "none" }.to_owned(),
            read_only: self.room.reserve(&*self.store, 0).is_err(),
            recovering: stats.recovering,
            next_job_id: stats.next_job.0,
        }))
    }

    async fn list_workers(
        &self,
        request: Request<pb::ListWorkersRequest>,
    ) -> Result<Response<pb::ListWorkersReply>, Status> {
        let name = Some(request.into_inner().name).filter(|name| !name.is_empty()).map(Into::into);
        let workers = self.ask(Workers(name)).await?;
        Ok(Response::new(pb::ListWorkersReply { workers: workers.iter().map(view::worker).collect() }))
    }

    async fn drain_worker(
        &self,
        request: Request<pb::DrainWorkerRequest>,
    ) -> Result<Response<pb::Worker>, Status> {
        let name = request.into_inner().name.into();
        Ok(Response::new(view::worker(&self.ask(Drain(name)).await?)))
    }

    async fn list_queues(
        &self,
        _: Request<pb::ListQueuesRequest>,
    ) -> Result<Response<pb::ListQueuesReply>, Status> {
        let queues = self.ask(Queues).await?;
        Ok(Response::new(pb::ListQueuesReply { queues: queues.iter().map(view::queue).collect() }))
    }

    async fn pause_queue(&self, request: Request<pb::QueueRequest>) -> Result<Response<pb::Queue>, Status> {
        Ok(Response::new(self.queue(&request.into_inner().name, QueueAct::Pause).await?.0))
    }

    async fn resume_queue(&self, request: Request<pb::QueueRequest>) -> Result<Response<pb::Queue>, Status> {
        let name = request.into_inner().name;
        self.known_queue(&name).await?;
        Ok(Response::new(self.queue(&name, QueueAct::Resume).await?.0))
    }

    async fn purge_queue(
        &self,
        request: Request<pb::PurgeQueueRequest>,
    ) -> Result<Response<pb::PurgeQueueReply>, Status> {
        let request = request.into_inner();
        self.known_queue(&request.name).await?;
        let purge = QueueAct::Purge { dry_run: request.dry_run };
        Ok(Response::new(self.queue(&request.name, purge).await?.1))
    }

    async fn backup(&self, _: Request<pb::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        spawn(|out| Context::backup(self.clone(), out))
    }
}

impl Context {
    /// A queue may be paused before its first job comes; what is resumed or emptied must be there.
    async fn known_queue(&self, queue: &str) -> Result<(), Failure> {
        name(queue).map_err(|why| Invalid::new("name", why))?;
        let queues = self.ask(Queues).await?;
        if queues.iter().any(|known| *known.name == *queue) {
            return Ok(());
        }
        let known: Vec<&str> = queues.iter().map(|known| &*known.name).take(NAMED).collect();
        let known = match (known.len(), queues.len()) {
            (_, 0) => "there is none yet".to_owned(),
            (named, all) if named < all => format!("known are {} and {} more", known.join(", "), all - named),
            _ => format!("known are {}", known.join(", ")),
        };
        let message = format!("there is no queue {queue}; {known}");
        Err(Failure { code: Code::NotFound, message })
    }

    async fn queue(&self, queue: &str, act: QueueAct) -> Result<(pb::Queue, pb::PurgeQueueReply), Failure> {
        name(queue).map_err(|why| Invalid::new("name", why))?;
        let name = queue.into();
        let (queue, jobs, tasks) = self.ask(ChangeQueue { name, act }).await?;
        Ok((view::queue(&queue), pb::PurgeQueueReply { jobs, tasks }))
    }
}
