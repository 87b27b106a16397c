//! The `Workers` service: one session a stream.

use std::pin::Pin;

use prost::Message as _;
use taskq_core::{
    event::{Event, Report, ReportKind},
    id::{SessionId, WorkerId},
};
use taskq_proto::v1::{
    self as pb, coordinator_message::Body as Said, worker_message::Body, workers_server::Workers,
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{
    Context,
    accept::Peer,
    ask::Bury,
    convert::report::{self, Greeter},
    status::{Failure, Invalid},
};
use crate::coordinator::{Unanswered, sessions::Outbound};

/// Messages that are merged into one where they lie next to each other.
const MERGE: usize = 256;
/// As long as they are no larger than this together.
const MERGED_BYTES: usize = 4 << 20;

/// A stream of messages to a worker.
type Messages = Pin<Box<dyn Stream<Item = Result<pb::CoordinatorMessage, Status>> + Send>>;

#[tonic::async_trait]
impl Workers for Context {
    type SessionStream = Messages;

    async fn session(
        &self,
        request: Request<Streaming<pb::WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = request.extensions().get::<Peer>().copied();
        let mut incoming = request.into_inner();
        let (hello, busy) = first(&mut incoming).await?;
        let greeter = Greeter {
            address: peer.map(|peer| peer.0.ip().to_string()).unwrap_or_default(),
            busy_slots: busy.slots,
            busy_async: busy.r#async,
        };
        let worker = report::hello(hello, greeter).map_err(Failure::from)?;
        let (session, outgoing) = self.handle.sessions.open();
        self.handle.tell(Event::Hello { session, worker }).await.map_err(Failure::from)?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(converse(self.clone(), session, busy, incoming, outgoing, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn bury(&self, request: Request<pb::BuryRequest>) -> Result<Response<pb::BuryReply>, Status> {
        let request = request.into_inner();
        let worker = WorkerId(request.incarnation);
        let tasks = self.ask(Bury(worker)).await?;
        tracing::info!(incarnation = %worker, tasks, evidence = request.evidence, "a worker was buried");
        Ok(Response::new(pb::BuryReply { tasks }))
    }
}

/// Slots that are busy without a task, as a message says.
#[derive(Clone, Copy, PartialEq)]
struct Busy {
    slots: u32,
    r#async: u32,
}

impl Busy {
    fn of(message: &pb::WorkerMessage) -> Busy {
        Busy { slots: message.busy_slots, r#async: message.busy_async }
    }
}

async fn first(incoming: &mut Streaming<pb::WorkerMessage>) -> Result<(pb::Hello, Busy), Status> {
    let message = incoming.message().await?.unwrap_or_default();
    let busy = Busy::of(&message);
    match message.body {
        Some(Body::Hello(hello)) => Ok((hello, busy)),
        Some(Body::Reports(_) | Body::Heartbeat(_) | Body::Goodbye(_)) | None => {
            Err(Failure::from(Invalid::new("body", "a session begins with Hello")).into())
        }
    }
}

/// Speaks and listens until either side ends the session, and says so to the loop.
async fn converse(
    context: Context,
    session: SessionId,
    busy: Busy,
    incoming: Streaming<pb::WorkerMessage>,
    outgoing: mpsc::Receiver<Outbound>,
    out: mpsc::Sender<Result<pb::CoordinatorMessage, Status>>,
) {
    // Cancel-safe: the losing arms end with the session.
    let nonsense = tokio::select! {
        () = speak(outgoing, &out) => None,
        nonsense = listen(&context, session, busy, incoming) => nonsense,
        () = out.closed() => None,
        () = context.stopped() => None,
    };
    context.handle.sessions.close(session);
    if let Some(failure) = nonsense {
        tracing::info!(%session, reason = failure.message, "a worker's session is closed");
        // The worker may be gone already.
        let _sent = out.send(Err(failure.into())).await;
    }
    // If the loop has ended there is nobody to be told.
    let _told: Result<(), Unanswered> = context.handle.tell(Event::Disconnected { session }).await;
}

/// From the worker into the loop, until its stream ends, or says something that makes no sense.
async fn listen(
    context: &Context,
    session: SessionId,
    busy: Busy,
    mut incoming: Streaming<pb::WorkerMessage>,
) -> Option<Failure> {
    let mut last = Last { seq: 1, busy };
    while let Ok(Some(message)) = incoming.message().await {
        if let Err(failure) = heard(context, session, &mut last, message).await {
            return Some(failure);
        }
    }
    None
}

/// What was heard last in a session.
struct Last {
    seq: u64,
    busy: Busy,
}

async fn heard(
    context: &Context,
    session: SessionId,
    last: &mut Last,
    message: pb::WorkerMessage,
) -> Result<(), Failure> {
    let seq = message.seq;
    if seq <= last.seq {
        return Err(Invalid::new("seq", "must rise").into());
    }
    last.seq = seq;
    let busy = Busy::of(&message);
    if std::mem::replace(&mut last.busy, busy) != busy {
        // Before what else the message says: a slot that an end leaves busy is not to be used.
        context.handle.tell(Event::Busy { session, plain: busy.slots, r#async: busy.r#async }).await?;
    }
    let event = match message.body {
        Some(Body::Reports(reports)) => {
            let reports = report::reports(reports)?;
            has_values(context, &reports).await?;
            Event::Reports { session, seq, reports }
        }
        Some(Body::Heartbeat(beat)) => {
            if let Some(process) = beat.process {
                context.handle.sessions.note_process(session, report::process(&process));
            }
            Event::Heartbeat { session, seq, draining: beat.draining }
        }
        Some(Body::Goodbye(_)) => Event::Goodbye { session, seq },
        Some(Body::Hello(_)) => return Err(Invalid::new("body", "Hello is said once").into()),
        None => return Err(Invalid::new("body", "is missing").into()),
    };
    Ok(context.handle.tell(event).await?)
}

/// A value that lies in a blob is accepted only if the blob is here. One that was uploaded long ago may have been swept:
/// the session ends, and the worker uploads it again in the next one.
async fn has_values(context: &Context, reports: &[Report]) -> Result<(), Failure> {
    let blob = |report: &Report| match &report.what {
        ReportKind::Ended { blob: Some(blob), .. } => Some(**blob),
        ReportKind::Ended { blob: None, .. }
        | ReportKind::Started
        | ReportKind::Output { .. }
        | ReportKind::Returned
        | ReportKind::Progress(_) => None,
    };
    let blobs: Vec<[u8; 32]> = reports.iter().filter_map(blob).collect();
    if blobs.is_empty() {
        return Ok(());
    }
    match context.read(move |store| Ok(blobs.iter().all(|blob| store.has_blob(blob)))).await? {
        true => Ok(()),
        false => Err(Invalid::new("outcome.value_blob", "is not here; upload it in this session").into()),
    }
}

/// From the loop to the worker, with neighbours merged: what gathered while the last message was on its way goes
/// out as one.
async fn speak(
    mut outgoing: mpsc::Receiver<Outbound>,
    out: &mpsc::Sender<Result<pb::CoordinatorMessage, Status>>,
) {
    let mut gathered = Vec::new();
    while outgoing.recv_many(&mut gathered, MERGE).await > 0 {
        for message in merge(gathered.drain(..)) {
            let last = !matches!(message, Ok(Some(_)));
            let sent = match message {
                Ok(Some(body)) => out.send(Ok(pb::CoordinatorMessage { body: Some(body) })).await,
                Ok(None) => return,
                Err(failure) => out.send(Err(failure.into())).await,
            };
            if last || sent.is_err() {
                return;
            }
        }
    }
}

/// `Ok(None)` ends the stream.
fn merge(gathered: impl Iterator<Item = Outbound>) -> Vec<Result<Option<Said>, Failure>> {
    let mut merged: Vec<Result<Option<Said>, Failure>> = Vec::new();
    // Of the last assignment: each is measured once, not again with all that follow it.
    let mut bytes = 0;
    for message in gathered {
        let body = match message {
            Outbound::Message(body) => body,
            Outbound::Refuse(why) => {
                merged.push(Err(why.into()));
                continue;
            }
            Outbound::Close => {
                merged.push(Ok(None));
                continue;
            }
        };
        match (merged.last_mut(), body) {
            (last, Said::Assign(next)) => {
                let more = next.encoded_len();
                match last {
                    Some(Ok(Some(Said::Assign(before)))) if bytes + more <= MERGED_BYTES => {
                        bytes += more;
                        before.templates.extend(next.templates);
                        before.units.extend(next.units);
                        before.forget.extend(next.forget);
                    }
                    Some(_) | None => {
                        bytes = more;
                        merged.push(Ok(Some(Said::Assign(next))));
                    }
                }
            }
            (Some(Ok(Some(Said::Committed(before)))), Said::Committed(next)) => before.seq = next.seq,
            (_, body) => merged.push(Ok(Some(body))),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_merged_and_order_is_kept() {
        let committed = |seq| Outbound::Message(Said::Committed(pb::Committed { seq }));
        let unit = |job_id| pb::Unit { job_id, ..pb::Unit::default() };
        let assign = |job| {
            Outbound::Message(Said::Assign(pb::Assign { units: vec![unit(job)], ..pb::Assign::default() }))
        };
        let merged =
            merge([assign(1), assign(2), committed(3), committed(4), assign(5), Outbound::Close].into_iter());
        let [
            Ok(Some(Said::Assign(first))),
            Ok(Some(Said::Committed(ack))),
            Ok(Some(Said::Assign(last))),
            Ok(None),
        ] = merged.as_slice()
        else {
            panic!("{merged:?}")
        };
        assert_eq!(first.units, [unit(1), unit(2)]);
        assert_eq!(ack.seq, 4);
        assert_eq!(last.units, [unit(5)]);
    }

    #[test]
    fn what_is_merged_stays_small() {
        let row = pb::Row { fields: vec![vec![b'x'; MERGED_BYTES / 4].into()] };
        let unit = |job_id| pb::Unit { job_id, rows: vec![row.clone()], ..pb::Unit::default() };
        let assign = |job| {
            Outbound::Message(Said::Assign(pb::Assign { units: vec![unit(job)], ..pb::Assign::default() }))
        };
        let merged = merge((1..=7).map(assign));
        let sizes = merged.iter().map(|message| match message {
            Ok(Some(Said::Assign(assign))) => assign.units.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(sizes.collect::<Vec<_>>(), [3, 3, 1], "four and their frames are a little too large");
    }
}
