//! Values that are too long for their report: stored first, told then. A slot is not free before that, so that who
//! returns much waits for the network.
//!
//! What is stored is only safe while the session lasts in which that happened: a coordinator that was started anew may
//! have removed what nothing refers to. So the values of ends that were not confirmed are stored again after each loss
//! of the connection.

use std::collections::{HashMap, HashSet};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::Loop;
use crate::attempt::{Blob, Fault, How, Key, Outcome};
use crate::outbox::{Event, Progress, Report};

/// Values on their way, by attempt.
pub(super) struct Values {
    waiting: HashMap<Key, Value>,
    /// Rises with each session.
    session: u64,
    /// Whether there is one.
    open: bool,
    stored: mpsc::UnboundedSender<Stored>,
}

struct Value {
    outcome: Box<Outcome>,
    /// Whether the attempt still has its slot.
    has_slot: bool,
    upload: Option<AbortHandle>,
}

/// Something happened to a value on its way.
pub(super) struct Stored {
    key: Key,
    session: u64,
    what: What,
}

enum What {
    /// The coordinator does not take it yet, for this reason.
    Waits(String),
    /// It has been stored, or never will be.
    Over(Result<Blob, Box<Fault>>),
}

impl Values {
    /// What becomes of uploads comes out of the receiver. Bounded by the slots and what is not confirmed.
    pub(super) fn new() -> (Values, mpsc::UnboundedReceiver<Stored>) {
        let (stored, inbox) = mpsc::unbounded_channel();
        (Values { waiting: HashMap::new(), session: 0, open: false, stored }, inbox)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn contains(&self, key: Key) -> bool {
        self.waiting.contains_key(&key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.waiting.keys().copied()
    }
}

impl Loop {
    /// Keeps an end back until its value is stored.
    pub(super) fn store(&mut self, key: Key, outcome: Box<Outcome>, has_slot: bool) {
        let value = Value { outcome, has_slot, upload: None };
        self.values.waiting.insert(key, value);
        if self.values.open {
            self.upload(key);
        }
    }

    fn upload(&mut self, key: Key) {
        let Some(value) = self.values.waiting.get_mut(&key) else { return };
        let (blobs, bytes) = (self.blobs.clone(), value.outcome.value.clone());
        let (session, stored) = (self.values.session, self.values.stored.clone());
        let work = async move {
            // Nobody hears it if the worker has ended.
            let say = |what| _ = stored.send(Stored { key, session, what });
            let result = blobs.store(key, bytes, |why| say(What::Waits(why))).await;
            say(What::Over(result));
        };
        value.upload = Some(self.uploads.spawn(work));
    }

    /// There is a session: what waits for one is stored in it.
    pub(super) fn values_open(&mut self) {
        self.values.open = true;
        for key in self.values.keys().collect::<Vec<_>>() {
            self.upload(key);
        }
    }

    /// The session is lost, and with it what was stored in it and not confirmed.
    pub(super) fn values_lost(&mut self) {
        self.values.open = false;
        self.values.session += 1;
        for value in self.values.waiting.values_mut() {
            value.upload.take().inspect(AbortHandle::abort);
        }
        for (key, mut outcome) in self.outbox.take_stored() {
            outcome.value_blob = None;
            self.store(key, outcome, false);
        }
    }

    pub(super) fn stored(&mut self, stored: Stored) {
        let Stored { key, session, what } = stored;
        if session != self.values.session {
            return; // it is under way again
        }
        let result = match what {
            What::Over(result) => result,
            What::Waits(why) => {
                let note = format!("it has returned, and its value cannot be stored yet: {why}");
                self.outbox.push(Report { key, event: Event::Progress(Progress::new(1.0, &note)) });
                return;
            }
        };
        let Some(value) = self.values.waiting.remove(&key) else { return };
        let Value { mut outcome, has_slot, .. } = value;
        match result {
            Ok(blob) => outcome.value_blob = Some(blob),
            Err(fault) => {
                outcome.how = How::Failed;
                outcome.message = fault.message.clone();
                outcome.value.clear();
                outcome.fault = Some(fault);
            }
        }
        if has_slot {
            self.slots.end(key);
        }
        self.outbox.push(Report { key, event: Event::Ended(outcome) });
    }

    /// Nobody wants the value any more; false if it is not here.
    pub(super) fn cancel_value(&mut self, key: Key) -> bool {
        let Some(value) = self.values.waiting.remove(&key) else { return false };
        value.upload.inspect(AbortHandle::abort);
        if value.has_slot {
            self.slots.end(key);
        }
        let Outcome { started_unix_ms, ended_unix_ms, usage, .. } = *value.outcome;
        let outcome =
            Outcome { how: How::Cancelled, started_unix_ms, ended_unix_ms, usage, ..Outcome::default() };
        self.outbox.push(Report { key, event: Event::Ended(Box::new(outcome)) });
        true
    }

    /// Values of attempts that belong to somebody else by now.
    pub(super) fn abandon_values(&mut self, keys: &HashSet<Key>) {
        for key in keys {
            if let Some(value) = self.values.waiting.remove(key) {
                value.upload.inspect(AbortHandle::abort);
                if value.has_slot {
                    self.slots.end(*key);
                }
            }
        }
    }
}
