//! What the coordinator has not yet said it has on disk.
//!
//! Reports wait here until `Committed` covers them, and are sent anew, in order, over each new connection. Ends are
//! never dropped. Output is bounded by its writers: a piece of output owns a part of [`room`], and a task whose output
//! finds no room is not read until there is some.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashSet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::attempt::{Chunk, Key, Outcome, Stream};

/// Bytes of output that may be unconfirmed: half a second of a busy disk, and nothing beside a worker's memory.
const ROOM: usize = 16 * 1024 * 1024;
/// How long reports wait for others while there is more work at hand: its slots go on, and each message costs the
/// coordinator a sync.
const LINGER: Duration = Duration::from_millis(10);
/// One message: enough to amortise it, few enough to be decoded and committed in a millisecond or so.
const BATCH_REPORTS: usize = 512;
const BATCH_BYTES: usize = 512 * 1024;

/// Something that happened to an attempt.
#[derive(Debug)]
pub(crate) struct Report {
    pub key: Key,
    pub event: Event,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    Started {
        unix_ms: u64,
    },
    /// `_room` is given back when this is dropped.
    Output {
        stream: Stream,
        chunk: Chunk,
        _room: Option<OwnedSemaphorePermit>,
    },
    /// How far it has come, in its own words. An older one is of no interest.
    Progress(Progress),
    Ended(Box<Outcome>),
    Returned {
        reason: &'static str,
    },
}

/// Said by a call of itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Progress {
    /// 0 to 1.
    pub fraction: f64,
    /// At most 1 KiB.
    pub note: String,
}

impl Progress {
    /// The longest note, in bytes.
    const NOTE: usize = 1024;

    /// Made to fit: a number that is none is the beginning.
    pub(crate) fn new(fraction: f64, note: &str) -> Progress {
        let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
        let fits = note.len().min(Progress::NOTE);
        let end = (0..=fits).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
        Progress { fraction, note: note[..end].to_owned() }
    }
}

impl Event {
    /// Whether the attempt is over for this worker.
    fn is_end(&self) -> bool {
        match self {
            Event::Ended(_) | Event::Returned { .. } => true,
            Event::Started { .. } | Event::Output { .. } | Event::Progress(_) => false,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Event::Output { chunk, .. } => chunk.data.len(),
            Event::Ended(outcome) => {
                let value = if outcome.value_blob.is_some() { 0 } else { outcome.value.len() };
                outcome.stdout.data.len() + outcome.stderr.data.len() + value
            }
            Event::Progress(progress) => progress.note.len(),
            Event::Started { .. } | Event::Returned { .. } => 0,
        }
    }
}

/// Number of a message within one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seq(pub u64);

/// Where output in flight is accounted for.
pub(crate) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ROOM))
}

/// Reports in order: those sent over this connection, then those not sent yet.
#[derive(Default)]
pub(crate) struct Outbox {
    sent: VecDeque<(Seq, Vec<Report>)>,
    unsent: VecDeque<Report>,
    /// When it was first seen that there is something to send; what one message has no room for does not wait anew.
    unsent_since: Option<Instant>,
    /// Attempts whose end is here.
    ended: FxHashSet<Key>,
    /// Attempts that ran to their end, since the start.
    all_ended: u64,
}

impl Outbox {
    pub(crate) fn push(&mut self, report: Report) {
        if report.event.is_end() {
            self.ended.insert(report.key);
        }
        self.all_ended += u64::from(matches!(report.event, Event::Ended(_)));
        self.unsent.push_back(report);
    }

    /// How many attempts ran to their end since the start.
    pub(crate) fn all_ended(&self) -> u64 {
        self.all_ended
    }

    /// When the next message is due, if there is anything to say: at once, unless others are about to join. To be asked
    /// after whatever may have brought reports.
    pub(crate) fn due(&mut self, others_come: bool, now: Instant) -> Option<Instant> {
        if self.unsent.is_empty() {
            self.unsent_since = None;
            return None;
        }
        let since = *self.unsent_since.get_or_insert(now);
        let waits = others_come && self.unsent.len() < BATCH_REPORTS;
        Some(if waits { since + LINGER } else { since })
    }

    /// Takes the next message's worth of reports; they are kept under this number.
    pub(crate) fn take(&mut self, seq: Seq) -> &[Report] {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_REPORTS && bytes < BATCH_BYTES {
            let Some(report) = self.unsent.pop_front() else { break };
            // The end says when it began, and it is on its way.
            let passing = matches!(report.event, Event::Started { .. } | Event::Progress(_));
            if passing && self.ended.contains(&report.key) {
                continue;
            }
            bytes += report.event.bytes();
            batch.push(report);
        }
        if self.unsent.is_empty() {
            self.unsent_since = None;
        }
        self.sent.push_back((seq, batch));
        self.sent.back().map_or(&[], |(_, batch)| batch)
    }

    /// Everything up to this message is on disk.
    pub(crate) fn confirm(&mut self, seq: Seq) {
        while self.sent.front().is_some_and(|(sent, _)| *sent <= seq) {
            for report in self.sent.pop_front().into_iter().flat_map(|(_, batch)| batch) {
                if report.event.is_end() {
                    self.ended.remove(&report.key);
                }
            }
        }
    }

    /// The connection is lost: what was not confirmed is to be sent again. That something started is told by the
    /// list of what is held, and how far it had come is old.
    pub(crate) fn rewind(&mut self) {
        while let Some((_, batch)) = self.sent.pop_back() {
            for report in batch.into_iter().rev() {
                if !matches!(report.event, Event::Started { .. } | Event::Progress(_)) {
                    self.unsent.push_front(report);
                }
            }
        }
    }

    /// Takes out the ends whose value was stored elsewhere; for a connection that is lost.
    pub(crate) fn take_stored(&mut self) -> Vec<(Key, Box<Outcome>)> {
        let mut taken = Vec::new();
        for report in std::mem::take(&mut self.unsent) {
            match report.event {
                Event::Ended(outcome) if outcome.value_blob.is_some() => {
                    self.ended.remove(&report.key);
                    taken.push((report.key, outcome));
                }
                event => self.unsent.push_back(Report { event, ..report }),
            }
        }
        taken
    }

    /// Drops all about attempts that belong to somebody else now.
    pub(crate) fn abandon(&mut self, keys: &HashSet<Key>) {
        self.unsent.retain(|report| !keys.contains(&report.key));
        for (_, batch) in &mut self.sent {
            batch.retain(|report| !keys.contains(&report.key));
        }
        self.ended.retain(|key| !keys.contains(key));
    }

    /// Attempts that have ended here, and that the coordinator may not know of.
    pub(crate) fn ended(&self) -> impl Iterator<Item = Key> + '_ {
        self.ended.iter().copied()
    }

    pub(crate) fn holds_end_of(&self, key: Key) -> bool {
        self.ended.contains(&key)
    }

    /// Nothing would be lost if the worker ended now.
    pub(crate) fn is_settled(&self) -> bool {
        self.ended.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::tests::task;
    use bytes::Bytes;

    fn key(index: u32) -> Key {
        task(1, index).key
    }

    fn started(index: u32) -> Report {
        Report { key: key(index), event: Event::Started { unix_ms: 1 } }
    }

    fn ended(index: u32) -> Report {
        Report { key: key(index), event: Event::Ended(Box::default()) }
    }

    fn output(index: u32, room: &Arc<Semaphore>, bytes: usize) -> Report {
        let permit = Arc::clone(room).try_acquire_many_owned(bytes as u32).expect("room in the test");
        let chunk = Chunk { offset: 0, data: Bytes::from(vec![0; bytes]) };
        Report {
            key: key(index),
            event: Event::Output { stream: Stream::Stdout, chunk, _room: Some(permit) },
        }
    }

    fn indices(batch: &[Report]) -> Vec<u32> {
        batch.iter().map(|report| report.key.index).collect()
    }

    #[test]
    fn whatever_is_said_of_progress_fits() {
        let fractions = [0.25, -1.0, 1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        let told = fractions.map(|fraction| Progress::new(fraction, "").fraction);
        assert_eq!(told, [0.25, 0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(Progress::new(0.0, &"ä".repeat(600)).note, "ä".repeat(512));
        assert_eq!(Progress::new(0.0, &format!("x{}", "ä".repeat(600))).note.len(), 1023, "no half letters");
    }

    #[test]
    fn what_is_not_confirmed_is_sent_again_in_order() {
        let mut outbox = Outbox::default();
        (0..3).for_each(|i| outbox.push(ended(i)));
        assert_eq!(indices(outbox.take(Seq(2))), [0, 1, 2]);
        outbox.push(ended(3));
        assert_eq!(indices(outbox.take(Seq(3))), [3]);
        outbox.confirm(Seq(2));
        outbox.push(ended(4));
        outbox.rewind();
        assert_eq!(indices(outbox.take(Seq(2))), [3, 4]);
        assert!(!outbox.is_settled());
        outbox.confirm(Seq(2));
        assert!(outbox.is_settled());
    }

    #[test]
    fn a_start_that_nobody_saw_before_its_end_is_not_sent() {
        let mut outbox = Outbox::default();
        outbox.push(started(0));
        outbox.push(started(1));
        outbox.push(ended(0));
        assert_eq!(indices(outbox.take(Seq(2))), [1, 0]);
    }

    #[test]
    fn reports_wait_for_others_if_others_come_and_not_for_long() {
        let mut outbox = Outbox::default();
        let first = Instant::now();
        let later = |ms| first + Duration::from_millis(ms);
        assert_eq!(outbox.due(true, first), None);
        outbox.push(ended(0));
        assert_eq!(outbox.due(false, first), Some(first), "at once");
        outbox.push(ended(1));
        assert_eq!(outbox.due(true, later(3)), Some(first + LINGER), "the first one says how long");
        (2..BATCH_REPORTS as u32).for_each(|i| outbox.push(ended(i)));
        assert_eq!(outbox.due(true, later(4)), Some(first), "a message is full");
        outbox.take(Seq(2));
        assert_eq!(outbox.due(true, later(5)), None);
        outbox.rewind();
        assert_eq!(outbox.due(true, later(6)), Some(later(6)), "they have waited");
    }

    #[test]
    fn who_comes_after_a_message_waits_from_then_on() {
        let mut outbox = Outbox::default();
        let first = Instant::now();
        let second = first + Duration::from_millis(7);
        outbox.push(ended(0));
        assert_eq!(outbox.due(true, first), Some(first + LINGER));
        outbox.take(Seq(2));
        outbox.push(ended(1));
        assert_eq!(outbox.due(true, second), Some(second + LINGER));
    }

    #[test]
    fn what_a_message_has_no_room_for_does_not_wait_anew() {
        let (mut outbox, room) = (Outbox::default(), room());
        let first = Instant::now();
        (0..20).for_each(|i| outbox.push(output(i, &room, 60 * 1024)));
        assert_eq!(outbox.due(false, first), Some(first));
        assert!(outbox.take(Seq(2)).len() < 20);
        assert_eq!(outbox.due(false, first + LINGER), Some(first));
    }

    #[test]
    fn confirmed_output_gives_its_room_back() {
        let room = room();
        let mut outbox = Outbox::default();
        outbox.push(output(0, &room, 1000));
        outbox.take(Seq(2));
        assert_eq!(room.available_permits(), ROOM - 1000);
        outbox.confirm(Seq(1));
        assert_eq!(room.available_permits(), ROOM - 1000);
        outbox.confirm(Seq(2));
        assert_eq!(room.available_permits(), ROOM);
    }

    #[test]
    fn a_message_has_a_size_and_no_end_is_left_behind() {
        let room = room();
        let mut outbox = Outbox::default();
        (0..20).for_each(|i| outbox.push(output(i, &room, 60 * 1024)));
        (0..1000).for_each(|i| outbox.push(ended(i)));
        let mut sizes = Vec::new();
        while outbox.due(false, Instant::now()).is_some() {
            sizes.push(outbox.take(Seq(2 + sizes.len() as u64)).len());
        }
        assert_eq!(sizes.iter().sum::<usize>(), 1020);
        assert!(sizes[0] < 20 && sizes.iter().all(|size| *size <= BATCH_REPORTS));
        assert_eq!(outbox.ended().count(), 1000);
    }

    #[test]
    fn what_belongs_to_others_is_dropped_sent_or_not() {
        let mut outbox = Outbox::default();
        outbox.push(ended(0));
        outbox.take(Seq(2));
        outbox.push(ended(1));
        outbox.push(ended(2));
        outbox.abandon(&HashSet::from([key(0), key(1)]));
        outbox.rewind();
        assert_eq!(indices(outbox.take(Seq(2))), [2]);
        assert_eq!(outbox.ended().collect::<Vec<_>>(), [key(2)]);
    }
}
