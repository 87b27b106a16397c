//! Effects into the world: answers to callers, messages to workers. Runs on the commit thread, after the sync.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use taskq_core::{
    effect::{Effect, Outcome, Unit, Write},
    id::{Epoch, Lease, Millis, SessionId},
};
use taskq_proto::v1::{self as pb, coordinator_message::Body};

use crate::{
    api::convert,
    coordinator::{
        Handle, endings::Endings, follow::Followers, pending::Pending, sessions::Outbound, sessions::Sessions,
    },
    templates::Templates,
};

/// Element values in one message to a worker. A single element may be larger than that, but has a limit of its own.
const ROWS_BYTES: usize = 4 << 20;

/// Whom to tell.
#[derive(Debug)]
pub struct Deliver {
    pending: Arc<Pending>,
    sessions: Arc<Sessions>,
    followers: Arc<Followers>,
    endings: Arc<Endings>,
    templates: Arc<Templates>,
    greeting: Greeting,
}

/// What every accepted worker is told.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// This start.
    pub epoch: Epoch,
    /// Silence after which a worker's tasks go elsewhere.
    pub lease: Millis,
    /// The store's own name, hex.
    pub instance: String,
}

impl Deliver {
    /// Delivers to those who wait behind `handle`.
    #[must_use]
    pub fn new(handle: &Handle, templates: Arc<Templates>, greeting: Greeting) -> Deliver {
        Deliver {
            pending: Arc::clone(&handle.pending),
            sessions: Arc::clone(&handle.sessions),
            followers: Arc::clone(&handle.followers),
            endings: Arc::clone(&handle.endings),
            templates,
            greeting,
        }
    }

    /// Says everything that a durable batch has to say, in order.
    pub fn batch(&self, batch: Outcome) {
        for write in &batch.writes {
            if let Write::Submitted(job) = write {
                self.templates.remember(job.id, &job.spec);
            }
        }
        self.followers.wake(&batch.writes);
        self.endings.wake(&batch.writes);
        for effect in batch.effects {
            self.effect(effect);
        }
    }

    /// See [`Pending::gather`].
    pub fn gather(&self, answered: usize, at_most: Duration) {
        self.pending.gather(answered, at_most);
    }

    fn effect(&self, effect: Effect) {
        match effect {
            Effect::Reply(request, reply) => self.pending.answer(request, reply),
            Effect::Welcome { session, abandon } => self.send(session, self.welcome(&abandon)),
            Effect::Refuse(session, why) => self.sessions.send(session, Outbound::Refuse(why)),
            Effect::Assign { session, unit } => self.assign(session, unit),
            Effect::Cancel(session, lease) => self.send(session, stop(lease, pb::stop::Why::Cancelled)),
            Effect::Abandon(session, lease) => self.send(session, stop(lease, pb::stop::Why::Stale)),
            Effect::Committed { session, seq } => self.send(session, Body::Committed(pb::Committed { seq })),
            Effect::Drain(session) => self.send(session, Body::Drain(pb::Drain {})),
            Effect::Close(session) => self.sessions.send(session, Outbound::Close),
        }
    }

    fn send(&self, session: SessionId, body: Body) {
        self.sessions.send(session, Outbound::Message(body));
    }

    fn welcome(&self, abandon: &[Lease]) -> Body {
        Body::Welcome(pb::Welcome {
            epoch: self.greeting.epoch.0,
            lease_ms: self.greeting.lease.0,
            heartbeat_ms: self.greeting.lease.0 / 5,
            abandon: abandon.iter().copied().map(convert::view::lease).collect(),
            coordinator: self.greeting.instance.clone(),
        })
    }

    fn assign(&self, session: SessionId, unit: Unit) {
        let job = self.templates.get(unit.job);
        if let Some(forget) = self.sessions.needs_template(session, unit.job) {
            let templates = vec![job.template.clone()];
            self.send(session, Body::Assign(pb::Assign { templates, forget, ..pb::Assign::default() }));
        }
        for (spans, rows) in by_size(&unit.spans, job.rows(&unit.spans)) {
            let unit = pb::Unit {
                job_id: unit.job.0,
                attempt: unit.attempt.0,
                epoch: unit.epoch.0,
                indices: spans.iter().map(|&(first, count)| pb::Span { first, count }).collect(),
                rows,
            };
            self.send(session, Body::Assign(pb::Assign { units: vec![unit], ..pb::Assign::default() }));
        }
    }
}

/// Spans of indices, as first and count, and a row for each index or none.
type Piece = (Vec<(u32, u32)>, Vec<pb::Row>);

/// Spans with their rows, in pieces that fit into messages. Without rows there is nothing to cut.
fn by_size(spans: &[(u32, u32)], rows: Vec<pb::Row>) -> Vec<Piece> {
    let size = |row: &pb::Row| row.fields.iter().map(Bytes::len).sum::<usize>();
    if rows.iter().map(size).sum::<usize>() <= ROWS_BYTES {
        return vec![(spans.to_vec(), rows)];
    }
    let indices = spans.iter().flat_map(|&(first, count)| first..first + count);
    let mut pieces: Vec<Piece> = Vec::new();
    let mut bytes = 0;
    for (index, row) in indices.zip(rows) {
        bytes += size(&row);
        match pieces.last_mut() {
            Some((spans, rows)) if bytes <= ROWS_BYTES => {
                spans.push((index, 1));
                rows.push(row);
            }
            Some(_) | None => {
                bytes = size(&row);
                pieces.push((vec![(index, 1)], vec![row]));
            }
        }
    }
    pieces
}

fn stop(lease: Lease, why: pb::stop::Why) -> Body {
    Body::Stop(pb::Stop { attempts: vec![convert::view::lease(lease)], why: why.into() })
}
