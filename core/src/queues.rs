//! Queues by name: their switches, their live jobs and their figures. What goes next is `ready.rs`'s business.

use std::{collections::BTreeMap, sync::Arc};

use crate::{line::Line, ready::QueueId, tally::Ends};

/// The known queues.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    entries: BTreeMap<QueueId, Queue>,
    by_name: BTreeMap<Arc<str>, QueueId>,
    next: u32,
}

/// One queue. Kept while a policy names it or it was ever switched, so that its revisions never repeat.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) name: Arc<str>,
    pub(crate) paused: bool,
    pub(crate) revision: u64,
    pub(crate) policies: u32,
    /// The live ones, all with stamp 0.
    pub(crate) jobs: Line,
    pub(crate) queued: u64,
    pub(crate) running: u64,
    pub(crate) backoff: u64,
    pub(crate) tally: Tally,
}

/// Tasks of one queue, counted while it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) submitted: u64,
    pub(crate) started: u64,
    pub(crate) ended: Ends,
}

impl Queues {
    /// The queue of this name, new if need be.
    pub(crate) fn ensure(&mut self, name: &Arc<str>) -> QueueId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let mut id = QueueId(self.next);
        while self.entries.contains_key(&id) {
            id = QueueId(id.0.wrapping_add(1));
        }
        self.next = id.0.wrapping_add(1);
        self.by_name.insert(name.clone(), id);
        let queue = Queue {
            name: name.clone(),
            paused: false,
            revision: 0,
            policies: 0,
            jobs: Line::default(),
            queued: 0,
            running: 0,
            backoff: 0,
            tally: Tally::default(),
        };
        self.entries.insert(id, queue);
        id
    }

    pub(crate) fn find(&self, name: &str) -> Option<QueueId> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn get(&self, id: QueueId) -> &Queue {
        self.entries.get(&id).expect("a queue is kept while a policy names it")
    }

    pub(crate) fn get_mut(&mut self, id: QueueId) -> &mut Queue {
        self.entries.get_mut(&id).expect("a queue is kept while a policy names it")
    }

    /// Forgets a queue that nothing needs. True if it did.
    pub(crate) fn forget(&mut self, id: QueueId) -> bool {
        let queue = self.get(id);
        if queue.policies > 0 || queue.revision > 0 || !queue.jobs.is_empty() {
            return false;
        }
        let name = queue.name.clone();
        self.by_name.remove(&name);
        self.entries.remove(&id);
        true
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// In order of name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = QueueId> + '_ {
        self.by_name.values().copied()
    }
}
