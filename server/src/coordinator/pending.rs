//! Who waits for which reply.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use taskq_core::{effect::Reply, id::RequestId};
use tokio::sync::oneshot;

/// Callers by request id. A caller that has gone away is forgotten when its reply comes.
#[derive(Debug, Default)]
pub struct Pending {
    next: AtomicU64,
    callers: Mutex<HashMap<RequestId, oneshot::Sender<Reply>>>,
}

impl Pending {
    /// A new request, and where its reply will arrive.
    pub fn open(&self) -> (RequestId, oneshot::Receiver<Reply>) {
        let id = RequestId(self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        self.callers.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        (id, receiver)
    }

    /// Hands a reply to its caller, if that still waits.
    pub fn answer(&self, id: RequestId, reply: Reply) {
        let caller = self.callers.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(caller) = caller {
            // An error says that the caller hung up; nobody is left to tell.
            let _gone = caller.send(reply);
        }
    }
}
