//! Streams to workers: what is on its way to each, and which templates it has been given.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use taskq_core::{
    effect::Refusal,
    id::{JobId, SessionId},
};
use taskq_proto::v1 as pb;
use tokio::sync::mpsc;

use crate::metrics::scrape::WorkerProcess;

/// Messages that may wait for a worker that does not read. The window bounds what is assigned; the rest is room for
/// confirmations. Beyond it the session is closed, and the worker comes back with what it holds.
const OUTBOX: usize = 16_384;
/// Templates a worker is told to keep; the oldest is forgotten first and sent anew when it is needed again.
const TEMPLATES: usize = 1_024;

/// What a session's stream is to do next.
#[derive(Debug)]
pub enum Outbound {
    /// Send this.
    Message(pb::coordinator_message::Body),
    /// End with this reason.
    Refuse(Refusal),
    /// End.
    Close,
}

/// The open sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    next: AtomicU64,
    open: Mutex<HashMap<SessionId, Session>>,
}

#[derive(Debug)]
struct Session {
    out: mpsc::Sender<Outbound>,
    sent: HashSet<JobId>,
    order: VecDeque<JobId>,
    /// The latest that the worker has said of its own process.
    process: Option<WorkerProcess>,
}

impl Sessions {
    /// A new session and its outgoing side.
    pub fn open(&self) -> (SessionId, mpsc::Receiver<Outbound>) {
        let id = SessionId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        let (out, receiver) = mpsc::channel(OUTBOX);
        let session = Session { out, sent: HashSet::new(), order: VecDeque::new(), process: None };
        self.lock().insert(id, session);
        (id, receiver)
    }

    /// Forgets a session; its stream ends once what was sent has been read.
    pub fn close(&self, id: SessionId) {
        self.lock().remove(&id);
    }

    /// Ends every stream.
    pub fn close_all(&self) {
        self.lock().clear();
    }

    /// Puts something on a session's stream. One that is gone, or does not read, is closed.
    pub fn send(&self, id: SessionId, what: Outbound) {
        let mut open = self.lock();
        let sent = open.get(&id).map(|session| session.out.try_send(what));
        if let Some(Err(_)) = sent {
            open.remove(&id);
        }
    }

    /// Notes what a worker says of its own process.
    pub fn note_process(&self, id: SessionId, process: WorkerProcess) {
        if let Some(session) = self.lock().get_mut(&id) {
            session.process = Some(process);
        }
    }

    /// What workers have said of their own processes.
    pub fn processes(&self) -> HashMap<SessionId, WorkerProcess> {
        self.lock().iter().filter_map(|(id, session)| Some((*id, session.process?))).collect()
    }

    /// Notes that a session needs a job's template. `None`: it has it. Otherwise it must be sent, together with the
    /// word to forget these.
    pub fn needs_template(&self, id: SessionId, job: JobId) -> Option<Vec<u64>> {
        let mut open = self.lock();
        let session = open.get_mut(&id)?;
        if !session.sent.insert(job) {
            return None;
        }
        session.order.push_back(job);
        let mut forget = Vec::new();
        while session.order.len() > TEMPLATES {
            let oldest = session.order.pop_front().expect("a queue above its limit");
            session.sent.remove(&oldest);
            forget.push(oldest.0);
        }
        Some(forget)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_sent_once_until_it_is_forgotten() {
        let sessions = Sessions::default();
        let (id, _receiver) = sessions.open();
        assert_eq!(sessions.needs_template(id, JobId(1)), Some(vec![]));
        assert_eq!(sessions.needs_template(id, JobId(1)), None);
        for job in 2..=TEMPLATES as u64 {
            assert_eq!(sessions.needs_template(id, JobId(job)), Some(vec![]));
        }
        assert_eq!(sessions.needs_template(id, JobId(5_000)), Some(vec![1]));
        assert_eq!(sessions.needs_template(id, JobId(1)), Some(vec![2]));
    }

    #[test]
    fn a_worker_that_does_not_read_is_closed() {
        let sessions = Sessions::default();
        let (id, receiver) = sessions.open();
        for _ in 0..=OUTBOX {
            sessions.send(id, Outbound::Close);
        }
        assert!(sessions.lock().is_empty());
        drop(receiver);
    }
}
