//! The link to the coordinator: one outgoing stream, opened anew whenever it is lost.
//!
//! It translates and numbers messages, moves what is too long for one (`blobs.rs`), and says when a link comes and
//! goes. What is said over it is the worker's business (`worker.rs`), and what was said and not confirmed is the outbox's.

mod blobs;
pub(crate) mod connect;
mod convert;
mod probe;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use taskq_proto::v1 as pb;
use taskq_proto::v1::workers_client::WorkersClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::attempt::{Epoch, Job, JobId, Key, Task};
use crate::cgroup::Places;
use crate::outbox::{Report, Seq};
use crate::process::Process;
use crate::registry::Kind;
use crate::slots::Busy;
pub(crate) use blobs::Blobs;
use connect::{AuthChannel, Dial};

/// Between two tries to connect: a random time up to a limit that doubles.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// What every coordinator grants at least; with less, no time would be left to ask whether it is still there.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);
/// Messages under way to the network. One more can be prepared meanwhile; more would only be older when they arrive.
const IN_FLIGHT: usize = 2;
/// Messages from the coordinator that wait for the worker.
const INBOX: usize = 64;
/// An assignment of a full window with long values.
const LARGEST_MESSAGE: usize = 64 * 1024 * 1024;

/// One worker process; random, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incarnation(pub u64);

/// How the worker introduces itself.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub incarnation: Incarnation,
    pub name: String,
    pub host: String,
    pub slots: u32,
    pub named: BTreeMap<String, u64>,
    pub labels: BTreeMap<String, String>,
    pub window: u32,
    pub held: Vec<Key>,
    pub draining: bool,
    /// In order of their names.
    pub functions: Vec<(String, Kind)>,
    pub async_slots: u32,
    pub no_commands: bool,
    /// What it can limit.
    pub places: Places,
}

/// What the link has to say.
pub(crate) enum News {
    /// A link is being opened: say Hello through this.
    Opening(Outgoing),
    /// The coordinator said something.
    Said(Saying),
    /// The link is lost; another one will be opened.
    Lost(Lost),
}

/// What the coordinator says.
pub(crate) enum Saying {
    Welcome { epoch: Epoch, lease: Duration, heartbeat: Duration, abandon: HashSet<Key> },
    Assign { tasks: Vec<Task>, unknown: Vec<Key> },
    Committed(Seq),
    Stop { keys: Vec<Key>, stale: bool },
    Drain,
}

/// Why there is no link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lost {
    /// Wrong token.
    #[error("the token is refused: {0}")]
    Unauthorised(String),
    /// The coordinator does not want this worker as it is.
    #[error("this worker is refused: {0}")]
    Refused(String),
    /// Another worker has its name; that one may leave.
    #[error("{0}")]
    NameTaken(String),
    /// Nobody there, or gone, or not ready: it may pass.
    #[error("{0}")]
    Unavailable(String),
}

/// Why there was no link since the last one, so that each reason is told once and not at each try.
pub(crate) type Losses = taskq_client::Told<Lost>;

/// The worker's end of one link.
pub(crate) struct Outgoing {
    messages: mpsc::Sender<pb::WorkerMessage>,
    next: u64,
    /// Said with each message.
    pub busy: Busy,
}

impl Outgoing {
    /// Waits until another message can go. False once the link is lost. Cancel-safe.
    pub(crate) async fn ready(&self) -> bool {
        self.messages.reserve().await.is_ok()
    }

    pub(crate) fn hello(&mut self, hello: &Hello) {
        self.send(convert::hello(hello));
    }

    /// The number that the next message gets.
    pub(crate) fn next_seq(&self) -> Seq {
        Seq(self.next)
    }

    pub(crate) fn reports(&mut self, reports: &[Report]) {
        self.send(convert::reports(reports));
    }

    /// False if there was no room: what is on its way says as well that the worker lives, but not that it drains.
    pub(crate) fn heartbeat(&mut self, draining: bool, process: Process) -> bool {
        let Process { cpu_us, resident_bytes, attempts_ended } = process;
        let process = Some(pb::Process { cpu_us, resident_bytes, attempts_ended });
        self.send(pb::worker_message::Body::Heartbeat(pb::Heartbeat { draining, process }))
    }

    pub(crate) fn goodbye(&mut self) {
        self.send(pb::worker_message::Body::Goodbye(pb::Goodbye {}));
    }

    /// False if the message found no room, or its link is lost.
    fn send(&mut self, body: pb::worker_message::Body) -> bool {
        let Busy { slots: busy_slots, asynchronous: busy_async } = self.busy;
        let message = pb::WorkerMessage { seq: self.next, body: Some(body), busy_slots, busy_async };
        let sent = self.messages.try_send(message).is_ok();
        self.next += u64::from(sent);
        sent
    }
}

/// Opens links for ever, each over a connection of its own; ends when nobody listens any more.
pub(crate) fn open(dial: Dial) -> mpsc::Receiver<News> {
    let (news, inbox) = mpsc::channel(INBOX);
    tokio::spawn(async move {
        let mut limit = PAUSE_MIN;
        // What the last Welcome said; the next link needs it before it is welcome.
        let mut lease = None;
        loop {
            let Some((welcomed, lost)) = one_link(&dial, &news, lease).await else { return };
            if welcomed.is_some() {
                lease = welcomed;
                limit = PAUSE_MIN;
            }
            if news.send(News::Lost(lost)).await.is_err() {
                return;
            }
            limit = (limit * 2).min(PAUSE_MAX);
            let pause = rand::rng().random_range(PAUSE_MIN..=limit);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = news.closed() => return,
            }
        }
    });
    inbox
}

/// One link from Hello to its end: the lease if it was ever welcome, and why it ended. None if nobody listens.
async fn one_link(
    dial: &Dial,
    news: &mpsc::Sender<News>,
    lease: Option<Duration>,
) -> Option<(Option<Duration>, Lost)> {
    let channel = dial.channel(lease.map_or(Duration::MAX, probe::patience));
    let mut client = WorkersClient::new(channel.clone()).max_decoding_message_size(LARGEST_MESSAGE);
    let (messages, outgoing) = mpsc::channel(IN_FLIGHT);
    news.send(News::Opening(Outgoing { messages, next: 1, busy: Busy::default() })).await.ok()?;
    let silence = || Lost::Unavailable("the coordinator is silent, and so is the network".to_owned());
    let mut silent = pin!(lease_probe(&channel, lease));
    let opening = client.session(ReceiverStream::new(outgoing));
    let mut incoming = tokio::select! {
        opened = opening => match opened {
            Ok(opened) => opened.into_inner(),
            Err(status) => return Some((None, reason(&status))),
        },
        () = &mut silent => return Some((None, silence())),
        () = news.closed() => return None,
    };
    let mut translator = Translator::default();
    loop {
        let message = tokio::select! {
            message = incoming.message() => message,
            () = &mut silent => return Some((translator.lease, silence())),
            () = news.closed() => return None,
        };
        let lost = match message {
            Ok(Some(message)) => {
                let before = translator.lease;
                let saying = translator.translate(message);
                if translator.lease != before {
                    silent.set(lease_probe(&channel, translator.lease));
                }
                if let Some(saying) = saying {
                    news.send(News::Said(saying)).await.ok()?;
                }
                continue;
            }
            Ok(None) => Lost::Unavailable("the coordinator closed the connection".to_owned()),
            Err(status) => reason(&status),
        };
        return Some((translator.lease, lost));
    }
}

/// Returns when the connection no longer answers; never if there is no lease to lose.
async fn lease_probe(channel: &AuthChannel, lease: Option<Duration>) {
    match lease {
        Some(lease) => probe::silence(channel.clone(), lease).await,
        None => pending().await,
    }
}

fn reason(status: &Status) -> Lost {
    let message = status.message().to_owned();
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => Lost::Unauthorised(message),
        Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented => Lost::Refused(message),
        Code::AlreadyExists => Lost::NameTaken(message),
        _ => Lost::Unavailable(message),
    }
}

/// Knows the templates that were sent over this link.
#[derive(Default)]
struct Translator {
    jobs: HashMap<JobId, Arc<Job>>,
    /// Once there was a Welcome.
    lease: Option<Duration>,
}

impl Translator {
    /// None for what this worker does not know: a newer coordinator may say more.
    fn translate(&mut self, message: pb::CoordinatorMessage) -> Option<Saying> {
        use pb::coordinator_message::Body;
        Some(match message.body? {
            Body::Welcome(welcome) => {
                let lease = Duration::from_millis(welcome.lease_ms).max(SHORTEST_LEASE);
                self.lease = Some(lease);
                Saying::Welcome {
                    epoch: Epoch(welcome.epoch),
                    lease,
                    heartbeat: Duration::from_millis(welcome.heartbeat_ms),
                    abandon: welcome.abandon.iter().map(convert::key).collect(),
                }
            }
            Body::Assign(assign) => self.assign(assign),
            Body::Committed(committed) => Saying::Committed(Seq(committed.seq)),
            Body::Stop(stop) => Saying::Stop {
                keys: stop.attempts.iter().map(convert::key).collect(),
                stale: stop.why() == pb::stop::Why::Stale,
            },
            Body::Drain(pb::Drain {}) => Saying::Drain,
        })
    }

    fn assign(&mut self, assign: pb::Assign) -> Saying {
        for template in assign.templates {
            let job = convert::job(template);
            self.jobs.insert(job.id, Arc::new(job));
        }
        let mut tasks = Vec::new();
        let mut unknown = Vec::new();
        for unit in &assign.units {
            match self.jobs.get(&JobId(unit.job_id)) {
                Some(job) => tasks.extend(convert::tasks(unit, job)),
                None => unknown.extend(convert::keys(unit)),
            }
        }
        for job in assign.forget {
            self.jobs.remove(&JobId(job));
        }
        Saying::Assign { tasks, unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_is_no_missing_coordinator() {
        let lost = |code| reason(&Status::new(code, "why"));
        assert_eq!(lost(Code::AlreadyExists), Lost::NameTaken("why".into()));
        assert_eq!(lost(Code::Unavailable), Lost::Unavailable("why".into()));
    }
}
