//! Which waiting task may start, and in which slot. Pure: no process, no clock of its own.
//!
//! Waiting tasks start in the order (priority, highest first; job; index). The head waits for what it needs, and
//! nobody overtakes it: otherwise a task that needs everything would never start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::attempt::{Key, Needs, Task};

/// What the worker offers, who has it, and who waits.
pub(crate) struct Slots {
    free: BTreeSet<u32>,
    named: BTreeMap<String, u64>,
    waiting: BTreeMap<Place, (Task, Instant)>,
    running: BTreeMap<Key, Held>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(std::cmp::Reverse<i32>, Key);

struct Held {
    slots: Vec<u32>,
    named: BTreeMap<String, u64>,
}

impl Slots {
    pub(crate) fn new(slots: u32, named: BTreeMap<String, u64>) -> Slots {
        Slots { free: (0..slots).collect(), named, waiting: BTreeMap::new(), running: BTreeMap::new() }
    }

    /// Queues a task. One that is here already is not queued again.
    pub(crate) fn add(&mut self, task: Task, now: Instant) {
        if !self.running.contains_key(&task.key) {
            self.waiting.entry(place(&task)).or_insert((task, now));
        }
    }

    /// The next task that may start now, with the number of its (first) slot, from 0.
    pub(crate) fn start(&mut self) -> Option<(Task, u32)> {
        let entry = self.waiting.first_entry()?;
        let needs = &entry.get().0.job.needs;
        if !fits(needs, &self.free, &self.named) {
            return None;
        }
        let (task, _) = entry.remove();
        let needs = &task.job.needs;
        let slots: Vec<u32> = self.free.iter().copied().take(needs.slots as usize).collect();
        slots.iter().for_each(|slot| assert!(self.free.remove(slot), "a slot is free or taken"));
        for (name, count) in &needs.named {
            if let Some(left) = self.named.get_mut(name) {
                *left -= count;
            }
        }
        let first = slots.first().copied().unwrap_or(0);
        self.running.insert(task.key, Held { slots, named: needs.named.clone() });
        Some((task, first))
    }

    /// A started task has ended: what it held is free.
    pub(crate) fn end(&mut self, key: Key) {
        let held = self.running.remove(&key).expect("only started tasks end, and once");
        self.free.extend(held.slots);
        for (name, count) in held.named {
            if let Some(left) = self.named.get_mut(&name) {
                *left += count;
            }
        }
    }

    /// Takes a waiting task out. None if it does not wait here.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Task> {
        let place = *self.waiting.keys().find(|place| place.1 == key)?;
        self.waiting.remove(&place).map(|(task, _)| task)
    }

    /// Takes out all that waited longer than `patience`.
    pub(crate) fn give_back(&mut self, now: Instant, patience: Duration) -> Vec<Key> {
        let mut late = Vec::new();
        self.waiting.retain(|place, (_, since)| {
            let stays = now.duration_since(*since) < patience;
            if !stays {
                late.push(place.1);
            }
            stays
        });
        late
    }

    /// When the first waiting task came.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.waiting.values().map(|(_, since)| *since).min()
    }

    /// All that waits or runs.
    pub(crate) fn held(&self) -> impl Iterator<Item = Key> + '_ {
        self.waiting.keys().map(|place| place.1).chain(self.running.keys().copied())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }
}

fn place(task: &Task) -> Place {
    Place(std::cmp::Reverse(task.job.priority), task.key)
}

fn fits(needs: &Needs, free: &BTreeSet<u32>, named: &BTreeMap<String, u64>) -> bool {
    free.len() >= needs.slots as usize
        && needs.named.iter().all(|(name, count)| named.get(name).copied().unwrap_or(0) >= *count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::tests::task;

    fn slots(count: u32) -> Slots {
        Slots::new(count, BTreeMap::from([("gpu".to_owned(), 1)]))
    }

    fn started(slots: &mut Slots) -> Vec<(u64, u32, u32)> {
        std::iter::from_fn(|| slots.start()).map(|(t, slot)| (t.key.job.0, t.key.index, slot)).collect()
    }

    #[test]
    fn priority_goes_before_job_and_index() {
        let mut slots = slots(4);
        let now = Instant::now();
        slots.add(task(2, 1).priority(0), now);
        slots.add(task(2, 0).priority(0), now);
        slots.add(task(1, 5).priority(0), now);
        slots.add(task(9, 0).priority(3), now);
        assert_eq!(started(&mut slots), [(9, 0, 0), (1, 5, 1), (2, 0, 2), (2, 1, 3)]);
    }

    #[test]
    fn nobody_overtakes_a_head_that_does_not_fit() {
        let mut slots = slots(2);
        let now = Instant::now();
        slots.add(task(1, 0), now);
        assert_eq!(started(&mut slots), [(1, 0, 0)]);
        slots.add(task(2, 0).slots(2), now);
        slots.add(task(3, 0), now);
        assert_eq!(started(&mut slots), []);
        slots.end(task(1, 0).key);
        assert_eq!(started(&mut slots), [(2, 0, 0)]);
        slots.end(task(2, 0).key);
        assert_eq!(started(&mut slots), [(3, 0, 0)]);
    }

    #[test]
    fn named_resources_are_counted_and_given_back() {
        let mut slots = slots(4);
        let now = Instant::now();
        slots.add(task(1, 0).named("gpu", 1), now);
        slots.add(task(1, 1).named("gpu", 1), now);
        assert_eq!(started(&mut slots), [(1, 0, 0)]);
        slots.end(task(1, 0).key);
        assert_eq!(started(&mut slots), [(1, 1, 0)]);
    }

    #[test]
    fn what_waits_too_long_is_given_back_and_what_runs_is_not() {
        let mut slots = slots(1);
        let now = Instant::now();
        let patience = Duration::from_secs(1);
        slots.add(task(1, 0), now);
        slots.add(task(1, 1), now);
        slots.add(task(1, 2), now + patience);
        assert_eq!(started(&mut slots), [(1, 0, 0)]);
        assert_eq!(slots.give_back(now + patience, patience), [task(1, 1).key]);
        assert_eq!(slots.oldest(), Some(now + patience));
        assert_eq!(slots.held().collect::<Vec<_>>(), [task(1, 2).key, task(1, 0).key]);
    }

    #[test]
    fn the_same_assignment_twice_is_one_task() {
        let mut slots = slots(2);
        let now = Instant::now();
        slots.add(task(1, 0), now);
        slots.add(task(1, 0), now);
        assert_eq!(started(&mut slots), [(1, 0, 0)]);
        slots.add(task(1, 0), now);
        assert_eq!(started(&mut slots), []);
    }
}
