//! Acting on jobs, and looking after queues and workers. All of it may be repeated without harm, so it is tried
//! again while the coordinator is away.

use crate::client::{AdminCalls, Client, JobsCalls};
use crate::error::{Error, Result, without_mark};
use crate::job::is_name;
use crate::model::{Acted, Purged, Queue, Selection, Stats, Worker};
use crate::submit::request_id;
use taskq_proto::v1::{
    ActReply, ActRequest, DrainWorkerRequest, ListQueuesRequest, ListWorkersRequest, PurgeQueueRequest,
    QueueRequest, StatsRequest,
};

/// One method per act: they differ by name only.
macro_rules! acts {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        ///
        /// With `dry_run` nothing changes. Each job's own success is in its [`Acted`].
        ///
        /// # Errors
        /// The whole request was refused, or the coordinator did not answer.
        pub async fn $name(&self, selection: Selection, dry_run: bool) -> Result<Vec<Acted>> {
            let request = ActRequest { selection: Some(selection), dry_run, request_id: request_id() };
            let call = |mut jobs: JobsCalls| {
                let request = request.clone();
                async move { jobs.$name(request).await }
            };
            let reply: ActReply = self.ask(self.options().submit_patience, call).await?;
            let plain = |acted: Acted| Acted { note: without_mark(&acted.note), ..acted };
            Ok(reply.acted.into_iter().map(plain).collect())
        }
    )*};
}

impl Client {
    acts! {
        /// Cancels: what has not started never starts, what runs is told to end, then killed.
        cancel
        /// Submits the failed and cancelled tasks of the selected jobs as new jobs, with the same indices.
        retry
        /// No further task of the jobs starts; what runs goes on.
        pause
        /// Undoes a pause.
        resume
        /// Forgets ended jobs with their results and output.
        remove
    }

    /// What the coordinator says about itself.
    ///
    /// # Errors
    /// The coordinator did not answer.
    pub async fn stats(&self) -> Result<Stats> {
        let call = |mut admin: AdminCalls| async move { admin.stats(StatsRequest {}).await };
        self.ask_admin(self.options().patience, call).await
    }

    /// All workers that it knows.
    ///
    /// # Errors
    /// The coordinator did not answer.
    pub async fn workers(&self) -> Result<Vec<Worker>> {
        self.workers_named(String::new()).await
    }

    /// One worker.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn worker(&self, name: &str) -> Result<Worker> {
        let found = self.workers_named(name.to_owned()).await?;
        let missing = || Error::NotFound(format!("there is no worker {name:?}; see: taskq worker ls"));
        found.into_iter().next().ok_or_else(missing)
    }

    async fn workers_named(&self, name: String) -> Result<Vec<Worker>> {
        let call = |mut admin: AdminCalls| {
            let request = ListWorkersRequest { name: name.clone() };
            async move { admin.list_workers(request).await }
        };
        Ok(self.ask_admin(self.options().patience, call).await?.workers)
    }

    /// The worker finishes what it runs, takes nothing new and leaves.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn drain_worker(&self, name: &str) -> Result<Worker> {
        let call = |mut admin: AdminCalls| {
            let request = DrainWorkerRequest { name: name.into() };
            async move { admin.drain_worker(request).await }
        };
        self.ask_admin(self.options().submit_patience, call).await
    }

    /// All queues.
    ///
    /// # Errors
    /// The coordinator did not answer.
    pub async fn queues(&self) -> Result<Vec<Queue>> {
        let call = |mut admin: AdminCalls| async move { admin.list_queues(ListQueuesRequest {}).await };
        Ok(self.ask_admin(self.options().patience, call).await?.queues)
    }

    /// No further task of the queue starts; what runs goes on. A queue that does not exist yet is made.
    ///
    /// # Errors
    /// The name is not one for a queue, or the coordinator did not answer.
    pub async fn pause_queue(&self, name: &str) -> Result<Queue> {
        queue_name(name)?;
        let call = |mut admin: AdminCalls| {
            let request = QueueRequest { name: name.into() };
            async move { admin.pause_queue(request).await }
        };
        self.ask_admin(self.options().submit_patience, call).await
    }

    /// Undoes a pause.
    ///
    /// # Errors
    /// As for [`Client::pause_queue`], and [`Error::NotFound`] with the names of those that there are.
    pub async fn resume_queue(&self, name: &str) -> Result<Queue> {
        queue_name(name)?;
        let call = |mut admin: AdminCalls| {
            let request = QueueRequest { name: name.into() };
            async move { admin.resume_queue(request).await }
        };
        self.ask_admin(self.options().submit_patience, call).await
    }

    /// Cancels every task of the queue that has not started.
    ///
    /// # Errors
    /// As for [`Client::pause_queue`].
    pub async fn purge_queue(&self, name: &str, dry_run: bool) -> Result<Purged> {
        queue_name(name)?;
        let call = |mut admin: AdminCalls| {
            let request = PurgeQueueRequest { name: name.into(), dry_run };
            async move { admin.purge_queue(request).await }
        };
        self.ask_admin(self.options().submit_patience, call).await
    }
}

fn queue_name(name: &str) -> Result<()> {
    if is_name(name) {
        return Ok(());
    }
    let shape = "1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit";
    Err(Error::Usage(format!("{name:?} is not a queue's name: {shape}")))
}
