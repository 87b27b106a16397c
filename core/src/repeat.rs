//! What makes a submit safe to send again: idempotency keys, and the ids of recent calls.
//!
//! A key lives as long as its job is kept. A call's id is remembered for [`REPEAT_WINDOW`], one small entry a call.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use crate::{
    event::REPEAT_WINDOW,
    id::{JobId, Timestamp},
    job::Key,
};

/// What is known of former submits.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    keys: HashMap<Arc<str>, (JobId, [u8; 32])>,
    key_of: BTreeMap<JobId, Arc<str>>,
    calls: HashMap<[u8; 16], Call>,
    expiry: VecDeque<(Timestamp, [u8; 16])>,
}

/// The jobs of one call.
#[derive(Debug)]
enum Call {
    /// New jobs, numbered in a row.
    Row { first: JobId, many: u32 },
    /// By place in the call.
    Places(BTreeMap<u32, JobId>),
}

impl Memory {
    pub(crate) fn key(&self, text: &str) -> Option<(JobId, [u8; 32])> {
        self.keys.get(text).copied()
    }

    pub(crate) fn keep_key(&mut self, job: JobId, key: &Key) {
        self.keys.insert(key.text.clone(), (job, key.digest));
        self.key_of.insert(job, key.text.clone());
    }

    pub(crate) fn drop_key(&mut self, job: JobId) {
        if let Some(text) = self.key_of.remove(&job) {
            self.keys.remove(&text);
        }
    }

    /// The job at this place of a former call.
    pub(crate) fn call(&self, id: &[u8; 16], place: u32) -> Option<JobId> {
        match self.calls.get(id)? {
            Call::Row { first, many } => (place < *many).then(|| JobId(first.0 + u64::from(place))),
            Call::Places(places) => places.get(&place).copied(),
        }
    }

    pub(crate) fn keep_call(&mut self, now: Timestamp, id: [u8; 16], ids: &[JobId]) {
        let Some(&first) = ids.first() else { return };
        let in_a_row = ids.iter().zip(first.0..).all(|(id, expected)| id.0 == expected);
        let call = if in_a_row {
            Call::Row { first, many: u32::try_from(ids.len()).unwrap_or(u32::MAX) }
        } else {
            Call::Places((0..).zip(ids.iter().copied()).collect())
        };
        if self.calls.insert(id, call).is_none() {
            self.expiry.push_back((now.after(REPEAT_WINDOW), id));
        }
    }

    /// Takes in one job of a call from before a restart.
    pub(crate) fn restore_call(&mut self, id: [u8; 16], place: u32, job: JobId) {
        match self.calls.entry(id).or_insert_with(|| Call::Places(BTreeMap::new())) {
            Call::Places(places) => {
                places.insert(place, job);
            }
            Call::Row { .. } => {}
        }
    }

    /// The window of restored calls starts now; complete ones are packed.
    pub(crate) fn restored(&mut self, now: Timestamp) {
        for (id, call) in &mut self.calls {
            self.expiry.push_back((now.after(REPEAT_WINDOW), *id));
            if let Call::Places(places) = call
                && let Some((0, first)) = places.first_key_value().map(|(place, job)| (*place, *job))
                && places.iter().all(|(place, job)| job.0 == first.0 + u64::from(*place))
                && places.last_key_value().is_some_and(|(last, _)| *last as usize + 1 == places.len())
            {
                *call = Call::Row { first, many: u32::try_from(places.len()).unwrap_or(u32::MAX) };
            }
        }
    }

    pub(crate) fn expire(&mut self, now: Timestamp) {
        while let Some((until, id)) = self.expiry.front()
            && *until <= now
        {
            self.calls.remove(id);
            self.expiry.pop_front();
        }
    }
}
