//! A worker that speaks the session protocol and runs nothing: for speed, and for saying what no honest worker says.

use crate::{Access, api};
use std::time::Duration;
use taskq_proto::v1 as pb;
use taskq_proto::v1::coordinator_message::Body;
use taskq_proto::v1::worker_message::Body as Said;
use taskq_proto::v1::workers_client::WorkersClient;
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// One open session.
pub struct FakeWorker {
    outbound: Sender<pb::WorkerMessage>,
    inbound: Streaming<pb::CoordinatorMessage>,
    seq: u64,
}

impl FakeWorker {
    /// Opens a session with a plain Hello and waits for the Welcome.
    pub async fn join(
        access: &Access,
        name: &str,
        slots: u32,
        window: u32,
    ) -> Result<(Self, pb::Welcome), Status> {
        let incarnation = rand::random_range(1..u64::MAX);
        let (name, version) = (name.to_owned(), "fake".to_owned());
        let hello =
            pb::Hello { incarnation, name, version, protocol: 1, slots, window, ..Default::default() };
        Self::greet(access, hello).await
    }

    /// Opens a session with this Hello and waits for the Welcome.
    pub async fn greet(access: &Access, hello: pb::Hello) -> Result<(Self, pb::Welcome), Status> {
        let mut worker = Self::open(access, Some(Said::Hello(hello))).await?;
        match worker.hear().await? {
            Some(Body::Welcome(welcome)) => Ok((worker, welcome)),
            other => Err(Status::internal(format!("not a Welcome: {other:?}"))),
        }
    }

    /// Opens a session with this as the first message.
    pub async fn open(access: &Access, first: Option<Said>) -> Result<Self, Status> {
        let channel = api::channel(access);
        let mut client = WorkersClient::with_interceptor(channel, api::Bearer::new(&access.token));
        let (outbound, messages) = mpsc::channel(1_024);
        let first = pb::WorkerMessage { seq: 1, body: first, ..Default::default() };
        outbound.send(first).await.expect("room for the first message");
        // A session lives as long as its stream: no deadline may end it.
        let mut request = tonic::Request::new(ReceiverStream::new(messages));
        request.set_timeout(Duration::from_secs(86_400));
        let inbound = client.session(request).await?.into_inner();
        Ok(Self { outbound, inbound, seq: 1 })
    }

    /// The next thing that the coordinator says; None when it has closed the stream.
    pub async fn hear(&mut self) -> Result<Option<Body>, Status> {
        loop {
            match self.inbound.message().await? {
                None => return Ok(None),
                Some(message) => match message.body {
                    Some(body) => return Ok(Some(body)),
                    None => continue,
                },
            }
        }
    }

    /// The next tasks given to it, one key each; what else is said meanwhile is passed over.
    pub async fn assigned(&mut self) -> Result<Vec<pb::AttemptKey>, Status> {
        loop {
            match self.hear().await? {
                Some(Body::Assign(assign)) if !assign.units.is_empty() => return Ok(keys(&assign)),
                Some(_) => continue,
                None => return Err(Status::unavailable("the coordinator closed the session")),
            }
        }
    }

    /// The number of the next message that is confirmed; what else is said meanwhile must not be an assignment.
    pub async fn committed(&mut self) -> Result<u64, Status> {
        loop {
            match self.hear().await? {
                Some(Body::Committed(committed)) => return Ok(committed.seq),
                Some(Body::Assign(assign)) if !assign.units.is_empty() => {
                    return Err(Status::internal(format!("assigned before that: {assign:?}")));
                }
                Some(_) => continue,
                None => return Err(Status::unavailable("the coordinator closed the session")),
            }
        }
    }

    /// Waits until everything that it has said is confirmed; nothing may be assigned meanwhile.
    pub async fn settled(&mut self) -> Result<(), Status> {
        while self.committed().await? < self.seq {}
        Ok(())
    }

    /// The next Stop; what else is said meanwhile is passed over. An error if there is none within 20 s.
    pub async fn told_to_stop(&mut self) -> Result<pb::Stop, Status> {
        let stop = async {
            loop {
                match self.hear().await? {
                    Some(Body::Stop(stop)) => return Ok(stop),
                    Some(_) => continue,
                    None => return Err(Status::unavailable("the coordinator closed the session")),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), stop)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no Stop")))
    }

    /// Says something; false if the stream is closed.
    pub async fn say(&mut self, body: Said) -> bool {
        self.seq += 1;
        self.outbound
            .send(pb::WorkerMessage { seq: self.seq, body: Some(body), ..Default::default() })
            .await
            .is_ok()
    }

    /// Says something, and how many slots are busy without a task from then on.
    pub async fn say_busy(&mut self, body: Said, busy_slots: u32) -> bool {
        self.seq += 1;
        let message = pb::WorkerMessage { seq: self.seq, body: Some(body), busy_slots, ..Default::default() };
        self.outbound.send(message).await.is_ok()
    }

    /// Reports the ends of these attempts.
    pub async fn report(&mut self, keys: &[pb::AttemptKey], outcome: &pb::Outcome) -> bool {
        let report = |key: &pb::AttemptKey| pb::Report {
            key: Some(*key),
            event: Some(pb::report::Event::Outcome(outcome.clone())),
        };
        self.say(Said::Reports(pb::Reports { reports: keys.iter().map(report).collect() })).await
    }

    /// Ends everything that it is given with exit code 0, until the coordinator closes the stream or the future is
    /// dropped.
    pub async fn work(&mut self) -> Result<(), Status> {
        let mut beat = tokio::time::interval(Duration::from_secs(2));
        loop {
            // Cancel-safe: a message that is not whole yet stays in the stream, a tick that loses comes again.
            let heard = tokio::select! {
                heard = self.hear() => heard?,
                _ = beat.tick() => {
                    if !self.say(Said::Heartbeat(pb::Heartbeat::default())).await {
                        return Ok(());
                    }
                    continue;
                }
            };
            let keys = match heard {
                None => return Ok(()),
                Some(Body::Assign(assign)) => keys(&assign),
                Some(_) => continue,
            };
            if !keys.is_empty() && !self.report(&keys, &success()).await {
                return Ok(());
            }
        }
    }
}

/// One key for each task of an assignment.
pub fn keys(assign: &pb::Assign) -> Vec<pb::AttemptKey> {
    let mut keys = Vec::new();
    for unit in &assign.units {
        for span in &unit.indices {
            for index in span.first..span.first + span.count {
                let (job_id, attempt, epoch) = (unit.job_id, unit.attempt, unit.epoch);
                keys.push(pb::AttemptKey { job_id, index, attempt, epoch });
            }
        }
    }
    keys
}

/// The outcome of a run that exited with 0.
pub fn success() -> pb::Outcome {
    pb::Outcome { kind: pb::outcome::Kind::Exited as i32, ..Default::default() }
}
