//! Policies, each kept once however many jobs share it, with how long their tasks take.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU32,
    sync::Arc,
};

use crate::{
    job::Policy,
    ready::{ClassId, QueueId},
};

/// Unused policies are remembered, with the duration of their tasks, until there are more than this many.
const IDLE: usize = 256;

/// A policy's number while it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PolicyId(NonZeroU32);

/// The known policies.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    entries: Vec<Option<Entry>>,
    vacant: Vec<PolicyId>,
    by_value: HashMap<Arc<Policy>, PolicyId>,
    idle: VecDeque<PolicyId>,
}

/// A known policy.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) policy: Arc<Policy>,
    pub(crate) queue: QueueId,
    pub(crate) class: ClassId,
    /// Live jobs.
    jobs: u64,
    /// It stands in `idle`.
    parked: bool,
    /// Exponentially weighted average of the wall time of its attempts.
    pub(crate) average_us: Option<u64>,
}

impl Policies {
    /// The number of a policy that is known already, with one more user.
    pub(crate) fn reuse(&mut self, policy: &Policy) -> Option<PolicyId> {
        let id = *self.by_value.get(policy)?;
        self.get_mut(id).jobs += 1;
        Some(id)
    }

    /// A number for a policy that is not known, with its first user.
    pub(crate) fn add(&mut self, policy: Arc<Policy>, queue: QueueId, class: ClassId) -> PolicyId {
        let entry = Entry { policy: policy.clone(), queue, class, jobs: 1, parked: false, average_us: None };
        let id = match self.vacant.pop() {
            Some(id) => {
                self.entries[id.slot()] = Some(entry);
                id
            }
            None => {
                self.entries.push(Some(entry));
                let number = u32::try_from(self.entries.len()).expect("fewer policies than jobs");
                PolicyId(NonZeroU32::new(number).expect("the length after a push is not 0"))
            }
        };
        self.by_value.insert(policy, id);
        id
    }

    /// One user less. Gives back what is forgotten because of it.
    pub(crate) fn release(&mut self, id: PolicyId) -> Option<Entry> {
        let entry = self.get_mut(id);
        entry.jobs -= 1;
        if entry.jobs == 0 && !entry.parked {
            entry.parked = true;
            self.idle.push_back(id);
        }
        if self.idle.len() <= IDLE {
            return None;
        }
        let oldest = self.idle.pop_front()?;
        let entry = self.get_mut(oldest);
        entry.parked = false;
        if entry.jobs > 0 {
            return None;
        }
        self.vacant.push(oldest);
        let entry = self.entries[oldest.slot()].take()?;
        self.by_value.remove(&entry.policy);
        Some(entry)
    }

    /// Takes in how long an attempt took.
    pub(crate) fn observe(&mut self, id: PolicyId, wall_us: u64) {
        let entry = self.get_mut(id);
        entry.average_us = Some(match entry.average_us {
            None => wall_us,
            Some(average) => average - average / 8 + wall_us / 8,
        });
    }

    pub(crate) fn get(&self, id: PolicyId) -> &Entry {
        self.entries[id.slot()].as_ref().expect("a policy is kept while a job uses it")
    }

    fn get_mut(&mut self, id: PolicyId) -> &mut Entry {
        self.entries[id.slot()].as_mut().expect("a policy is kept while a job uses it")
    }
}

impl PolicyId {
    fn slot(self) -> usize {
        self.0.get() as usize - 1
    }
}
