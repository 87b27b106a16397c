//! The coordinator's inside. [`Handle`] is the only door in.
//!
//! Reading order: `run` (the loop that owns the core's state), `commit` (the disk thread), `deliver` (effects into
//! the world), `restore` (from disk at start), `retain` (forgets old jobs), `pending`, `follow`, `endings` and `sessions`
//! (who is waiting for what).

pub mod commit;
pub mod deliver;
pub mod endings;
pub mod follow;
pub mod pending;
pub mod restore;
pub mod retain;
pub mod run;
pub mod sessions;

use std::sync::Arc;

use taskq_core::{
    effect::Reply,
    event::Event,
    id::{JobId, RequestId},
};
use tokio::sync::{mpsc, watch};

use self::{
    endings::{Awaiter, Endings},
    follow::Followers,
    pending::{Held, Pending},
    sessions::Sessions,
};

/// Requests that may wait for the loop; beyond it clients are told to try again.
const CLIENT_INBOX: usize = 16_384;
/// Worker messages that may wait for the loop; beyond it their streams are not read, which slows the workers down.
const WORKER_INBOX: usize = 16_384;

/// Asks the loop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    clients: mpsc::Sender<Event>,
    workers: mpsc::Sender<Event>,
    pending: Arc<Pending>,
    /// Streams to workers.
    pub sessions: Arc<Sessions>,
    followers: Arc<Followers>,
    endings: Arc<Endings>,
}

/// Where the loop takes its events from.
#[derive(Debug)]
pub struct Inbox {
    clients: mpsc::Receiver<Event>,
    workers: mpsc::Receiver<Event>,
}

/// Why the loop did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Too many requests wait already.
    #[error("the coordinator is busy: {CLIENT_INBOX} requests are waiting; try again")]
    Busy,
    /// It is stopping.
    #[error("the coordinator is stopping; try again when it is back")]
    Stopping,
}

impl Handle {
    /// A handle and the inbox that its events arrive in.
    #[must_use]
    pub fn new(sessions: Arc<Sessions>) -> (Handle, Inbox) {
        let (clients, client_inbox) = mpsc::channel(CLIENT_INBOX);
        let (workers, worker_inbox) = mpsc::channel(WORKER_INBOX);
        let handle = Handle {
            clients,
            workers,
            pending: Arc::new(Pending::default()),
            sessions,
            followers: Arc::new(Followers::default()),
            endings: Arc::new(Endings::default()),
        };
        (handle, Inbox { clients: client_inbox, workers: worker_inbox })
    }

    /// Sends a client's request and waits for the reply, which comes once all that it rests on is durable.
    ///
    /// # Errors
    /// `Busy` if too many wait, `Stopping` if the loop has ended.
    pub async fn ask(&self, event: impl FnOnce(RequestId) -> Event) -> Result<Reply, Unanswered> {
        self.ask_holding(None, event).await
    }

    /// The same; `held` is dropped once there is the reply, or once there will be none, also if this is dropped before.
    ///
    /// # Errors
    /// As for [`Handle::ask`].
    pub async fn ask_holding(
        &self,
        held: Option<Held>,
        event: impl FnOnce(RequestId) -> Event,
    ) -> Result<Reply, Unanswered> {
        let (id, reply) = self.pending.open(held);
        if let Err(error) = self.clients.try_send(event(id)) {
            self.pending.forget(id);
            return Err(match error {
                mpsc::error::TrySendError::Full(_) => Unanswered::Busy,
                mpsc::error::TrySendError::Closed(_) => Unanswered::Stopping,
            });
        }
        reply.await.map_err(|_| Unanswered::Stopping)
    }

    /// The same, ahead of clients that wait, for who watches: also when [`Handle::ask`] is `Busy`. The answer has come through the
    /// loop and through the thread that syncs the disk, so that both are alive.
    ///
    /// # Errors
    /// `Stopping` if the loop has ended.
    pub async fn ask_ahead(&self, event: impl FnOnce(RequestId) -> Event) -> Result<Reply, Unanswered> {
        let (id, reply) = self.pending.open(None);
        if let Err(ended) = self.tell(event(id)).await {
            self.pending.forget(id);
            return Err(ended);
        }
        reply.await.map_err(|_| Unanswered::Stopping)
    }

    /// Hangs up on workers, and tells all who wait for a reply that there will be none.
    pub fn close(&self) {
        self.sessions.close_all();
        self.pending.close();
    }

    /// Sends what a worker said, waiting for room. Worker events overtake client requests.
    ///
    /// # Errors
    /// `Stopping` if the loop has ended.
    pub async fn tell(&self, event: Event) -> Result<(), Unanswered> {
        self.workers.send(event).await.map_err(|_| Unanswered::Stopping)
    }

    /// From now on the receiver is marked changed whenever something of the job becomes durable.
    #[must_use]
    pub fn follow(&self, job: JobId) -> watch::Receiver<()> {
        self.followers.follow(job)
    }

    /// Somebody who will name jobs, and hears of each when its end is durable.
    #[must_use]
    pub fn await_ends(&self) -> Awaiter {
        self.endings.awaiter()
    }
}
