//! Which waiting task may start, and in which slot. Pure: no process, no clock of its own.
//!
//! Waiting tasks start in the order (priority, highest first; as they came), each lane by itself: the coordinator sends
//! them in the order in which it wants them to start. The head waits for what it needs, and nobody overtakes it: otherwise
//! a task that needs everything would never start.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::attempt::{Key, Needs, Task};

/// Where a task waits and runs. Lanes have nothing in common but the named resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Commands, and functions that take a thread or a process.
    Slots,
    /// Asynchronous functions.
    Async,
}

/// Slots that are taken although their task has ended, for its function has not returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Busy {
    pub slots: u32,
    pub asynchronous: u32,
}

/// What the worker offers, who has it, and who waits.
pub(crate) struct Slots {
    lanes: [Line; 2],
    named: BTreeMap<String, u64>,
    running: FxHashMap<Key, Held>,
    /// Attempts that have ended, and whose function has not returned.
    busy: HashMap<Key, (Lane, Vec<u32>)>,
    /// Where each task waits.
    places: FxHashMap<Key, (Lane, Place)>,
    /// How many tasks came until now.
    came: u64,
    /// How many tasks beside one have the same slot, to run there one after another.
    followers: FxHashMap<(Lane, u32), u32>,
}

/// One lane: who waits in it, and which of its slots are free.
struct Line {
    free: BTreeSet<u32>,
    waiting: BTreeMap<Place, (Task, Instant)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(std::cmp::Reverse<i32>, u64);

struct Held {
    lane: Lane,
    slots: Vec<u32>,
    named: BTreeMap<String, u64>,
}

impl Slots {
    pub(crate) fn new(slots: u32, asynchronous: u32, named: BTreeMap<String, u64>) -> Slots {
        let line = |slots| Line { free: (0..slots).collect(), waiting: BTreeMap::new() };
        Slots {
            lanes: [line(slots), line(asynchronous)],
            named,
            running: FxHashMap::default(),
            busy: HashMap::new(),
            places: FxHashMap::default(),
            came: 0,
            followers: FxHashMap::default(),
        }
    }

    /// Queues a task. One that is here already is not queued again.
    pub(crate) fn add(&mut self, task: Task, lane: Lane, now: Instant) {
        if !self.running.contains_key(&task.key) && !self.places.contains_key(&task.key) {
            let place = Place(std::cmp::Reverse(task.job.priority), self.came);
            self.came += 1;
            self.places.insert(task.key, (lane, place));
            self.lanes[lane as usize].waiting.insert(place, (task, now));
        }
    }

    /// The next task that may start now, with the number of its (first) slot, from 0.
    pub(crate) fn start(&mut self) -> Option<(Task, u32)> {
        self.start_in(Lane::Slots).or_else(|| self.start_in(Lane::Async))
    }

    fn start_in(&mut self, lane: Lane) -> Option<(Task, u32)> {
        let line = &mut self.lanes[lane as usize];
        let entry = line.waiting.first_entry()?;
        let needs = &entry.get().0.job.needs;
        if !fits(needs, &line.free, &self.named) {
            return None;
        }
        let (task, _) = entry.remove();
        self.places.remove(&task.key);
        let needs = &task.job.needs;
        let slots: Vec<u32> = line.free.iter().copied().take(needs.slots as usize).collect();
        slots.iter().for_each(|slot| assert!(line.free.remove(slot), "a slot is free or taken"));
        for (name, count) in &needs.named {
            if let Some(left) = self.named.get_mut(name) {
                *left -= count;
            }
        }
        let first = slots.first().copied().unwrap_or(0);
        self.running.insert(task.key, Held { lane, slots, named: needs.named.clone() });
        Some((task, first))
    }

    /// The next tasks in the lane of one that was just started: at most so many, and not more than its share, for as long
    /// as they `may` follow it, one after another, in its (one) slot.
    pub(crate) fn follow(&mut self, first: Key, most: usize, may: impl Fn(&Task) -> bool) -> Vec<Task> {
        let Held { lane, slots, .. } = self.running.get(&first).expect("it was just started");
        let (lane, &[slot]) = (*lane, &slots[..]) else { return Vec::new() };
        let line = &mut self.lanes[lane as usize];
        let most = most.min(line.waiting.len() / (line.free.len() + 1));
        let mut followers = Vec::new();
        while followers.len() < most
            && let Some(entry) = line.waiting.first_entry()
        {
            let task = &entry.get().0;
            if task.job.needs.slots != 1 || !task.job.needs.named.is_empty() || !may(task) {
                break;
            }
            let (task, _) = entry.remove();
            self.places.remove(&task.key);
            self.running.insert(task.key, Held { lane, slots: vec![slot], named: BTreeMap::new() });
            followers.push(task);
        }
        if !followers.is_empty() {
            let many = u32::try_from(followers.len()).expect("a handful");
            *self.followers.entry((lane, slot)).or_default() += many;
        }
        followers
    }

    /// A started task has ended: what it held is free.
    pub(crate) fn end(&mut self, key: Key) {
        let (lane, slots) = self.leave(key);
        self.free(lane, slots);
    }

    /// A slot is free once the last task in it has left.
    fn free(&mut self, lane: Lane, slots: Vec<u32>) {
        for slot in slots {
            match self.followers.get_mut(&(lane, slot)) {
                Some(left @ 2..) => *left -= 1,
                Some(_) => _ = self.followers.remove(&(lane, slot)),
                None => _ = self.lanes[lane as usize].free.insert(slot),
            }
        }
    }

    /// Tasks that share a slot with this one.
    pub(crate) fn beside(&self, key: Key) -> Vec<Key> {
        let Some(held) = self.running.get(&key) else { return Vec::new() };
        let shared = |slot: &u32| self.followers.contains_key(&(held.lane, *slot));
        if !held.slots.iter().any(shared) {
            return Vec::new();
        }
        let same = |(other, theirs): (&Key, &Held)| {
            (*other != key && theirs.lane == held.lane && theirs.slots == held.slots).then_some(*other)
        };
        self.running.iter().filter_map(same).collect()
    }

    /// A started task has ended, but its function has not returned: its slots are not free.
    pub(crate) fn end_busy(&mut self, key: Key) {
        let left = self.leave(key);
        self.busy.insert(key, left);
    }

    /// A function that was busy has returned: its slots are free.
    pub(crate) fn returned(&mut self, key: Key) {
        let (lane, slots) = self.busy.remove(&key).expect("only busy functions return, and once");
        self.free(lane, slots);
    }

    fn leave(&mut self, key: Key) -> (Lane, Vec<u32>) {
        let held = self.running.remove(&key).expect("only started tasks end, and once");
        for (name, count) in held.named {
            if let Some(left) = self.named.get_mut(&name) {
                *left += count;
            }
        }
        (held.lane, held.slots)
    }

    /// How much is taken by nobody's task.
    pub(crate) fn busy(&self) -> Busy {
        let of = |lane| {
            let taken = self.busy.values().filter(|(of, _)| *of == lane).map(|(_, slots)| slots.len());
            u32::try_from(taken.sum::<usize>()).expect("not more than there are slots")
        };
        Busy { slots: of(Lane::Slots), asynchronous: of(Lane::Async) }
    }

    /// Slots that nothing takes, but for those of asynchronous calls.
    pub(crate) fn unused(&self) -> u32 {
        u32::try_from(self.lanes[Lane::Slots as usize].free.len()).expect("not more than there are slots")
    }

    /// Takes a waiting task out. None if it does not wait here.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Task> {
        let (lane, place) = self.places.remove(&key)?;
        self.lanes[lane as usize].waiting.remove(&place).map(|(task, _)| task)
    }

    /// Takes out all that waited longer than `patience`.
    pub(crate) fn give_back(&mut self, now: Instant, patience: Duration) -> Vec<Key> {
        let mut late = Vec::new();
        for line in &mut self.lanes {
            line.waiting.retain(|_, (task, since)| {
                let stays = now.duration_since(*since) < patience;
                if !stays {
                    late.push(task.key);
                    self.places.remove(&task.key);
                }
                stays
            });
        }
        late
    }

    /// When the first waiting task came.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.lanes.iter().flat_map(|line| line.waiting.values()).map(|(_, since)| *since).min()
    }

    /// All that runs, then all that waits in its order.
    pub(crate) fn held(&self) -> impl Iterator<Item = Key> + '_ {
        let waiting = self.lanes.iter().flat_map(|line| line.waiting.values());
        self.running.keys().copied().chain(waiting.map(|(task, _)| task.key))
    }

    /// Something waits for a slot.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.places.is_empty()
    }

    /// Nothing waits or runs. Functions that are busy have no task any more.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty() && self.running.is_empty()
    }
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
        Slots::new(count, 2, BTreeMap::from([("gpu".to_owned(), 1)]))
    }

    fn started(slots: &mut Slots) -> Vec<(u64, u32, u32)> {
        std::iter::from_fn(|| slots.start()).map(|(t, slot)| (t.key.job.0, t.key.index, slot)).collect()
    }

    #[test]
    fn priority_goes_before_the_order_in_which_they_came() {
        let mut slots = slots(4);
        let now = Instant::now();
        slots.add(task(2, 1).priority(0), Lane::Slots, now);
        slots.add(task(2, 0).priority(0), Lane::Slots, now);
        slots.add(task(1, 5).priority(0), Lane::Slots, now);
        slots.add(task(9, 0).priority(3), Lane::Slots, now);
        assert_eq!(started(&mut slots), [(9, 0, 0), (2, 1, 1), (2, 0, 2), (1, 5, 3)]);
    }

    #[test]
    fn nobody_overtakes_a_head_that_does_not_fit() {
        let mut slots = slots(2);
        let now = Instant::now();
        slots.add(task(1, 0), Lane::Slots, now);
        assert_eq!(started(&mut slots), [(1, 0, 0)]);
        slots.add(task(2, 0).slots(2), Lane::Slots, now);
        slots.add(task(3, 0), Lane::Slots, now);
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
        slots.add(task(1, 0).named("gpu", 1), Lane::Slots, now);
        slots.add(task(1, 1).named("gpu", 1), Lane::Slots, now);
        assert_eq!(started(&mut slots), [(1, 0, 0)]);
        slots.end(task(1, 0).key);
        assert_eq!(started(&mut slots), [(1, 1, 0)]);
    }

    #[test]
    fn what_waits_too_long_is_given_back_and_what_runs_is_not() {
        let mut slots = slots(1);
        let now = Instant::now();
        let patience = Duration::from_secs(1);
        slots.add(task(1, 0), Lane::Slots, now);
        slots.add(task(1, 1), Lane::Slots, now);
        slots.add(task(1, 2), Lane::Slots, now + patience);
        assert_eq!(started(&mut slots), [(1, 0, 0)]);
        assert_eq!(slots.give_back(now + patience, patience), [task(1, 1).key]);
        assert_eq!(slots.oldest(), Some(now + patience));
        assert_eq!(slots.held().collect::<Vec<_>>(), [task(1, 0).key, task(1, 2).key]);
    }

    #[test]
    fn the_same_assignment_twice_is_one_task() {
        let mut slots = slots(2);
        let now = Instant::now();
        slots.add(task(1, 0), Lane::Slots, now);
        slots.add(task(1, 0), Lane::Slots, now);
        assert_eq!(started(&mut slots), [(1, 0, 0)]);
        slots.add(task(1, 0), Lane::Slots, now);
        assert_eq!(started(&mut slots), []);
    }

    #[test]
    fn lanes_do_not_wait_for_each_other() {
        let mut slots = slots(1);
        let now = Instant::now();
        slots.add(task(1, 0), Lane::Slots, now);
        slots.add(task(1, 1), Lane::Slots, now);
        (0..3).for_each(|i| slots.add(task(2, i).priority(-1), Lane::Async, now));
        assert_eq!(started(&mut slots), [(1, 0, 0), (2, 0, 0), (2, 1, 1)]);
        slots.end(task(2, 0).key);
        assert_eq!(started(&mut slots), [(2, 2, 0)]);
        assert_eq!(slots.remove(task(1, 1).key).map(|task| task.key), Some(task(1, 1).key));
        assert_eq!(slots.held().count(), 3);
    }

    #[test]
    fn named_resources_are_shared_by_the_lanes() {
        let mut slots = slots(1);
        let now = Instant::now();
        slots.add(task(1, 0).named("gpu", 1), Lane::Slots, now);
        slots.add(task(2, 0).named("gpu", 1), Lane::Async, now);
        assert_eq!(started(&mut slots), [(1, 0, 0)]);
        slots.end(task(1, 0).key);
        assert_eq!(started(&mut slots), [(2, 0, 0)]);
    }

    #[test]
    fn a_busy_slot_is_not_free_until_its_function_returns() {
        let mut slots = slots(3);
        let now = Instant::now();
        slots.add(task(1, 0).slots(2).named("gpu", 1), Lane::Slots, now);
        slots.add(task(2, 0), Lane::Async, now);
        assert_eq!(started(&mut slots).len(), 2);
        slots.end_busy(task(1, 0).key);
        slots.end_busy(task(2, 0).key);
        assert_eq!(slots.busy(), Busy { slots: 2, asynchronous: 1 });
        assert!(slots.is_empty(), "no task is here any more");
        slots.add(task(3, 0).named("gpu", 1), Lane::Slots, now);
        slots.add(task(3, 1), Lane::Slots, now);
        assert_eq!(started(&mut slots), [(3, 0, 2)]);
        slots.returned(task(1, 0).key);
        assert_eq!(started(&mut slots), [(3, 1, 0)]);
        assert_eq!(slots.busy(), Busy { slots: 0, asynchronous: 1 });
    }

    #[test]
    fn short_tasks_follow_each_other_in_one_slot() {
        let mut slots = slots(2);
        let now = Instant::now();
        (0..10).for_each(|i| slots.add(task(1, i), Lane::Slots, now));
        slots.add(task(2, 0).slots(2), Lane::Slots, now);
        let keys = |tasks: Vec<Task>| tasks.iter().map(|task| task.key.index).collect::<Vec<_>>();
        assert_eq!(slots.start().map(|(task, slot)| (task.key.index, slot)), Some((0, 0)));
        // Ten wait, and another slot is free: half of them.
        let first = task(1, 0).key;
        assert_eq!(keys(slots.follow(first, 100, |_| true)), [1, 2, 3, 4, 5]);
        assert_eq!(slots.start().map(|(task, slot)| (task.key.index, slot)), Some((6, 1)));
        assert_eq!(keys(slots.follow(task(1, 6).key, 100, |task| task.key.index < 8)), [7]);
        assert_eq!(keys(slots.follow(task(1, 6).key, 100, |_| true)), [8, 9], "the last one needs two");
        assert_eq!(slots.start().map(|(task, _)| task.key.index), None);
        assert_eq!(slots.beside(first).len(), 5);
        for index in [0, 1, 2, 3, 4] {
            slots.end(task(1, index).key);
            assert!(slots.start().is_none());
        }
        // The other slot's first is busy, and leaves it to those behind it when it returns.
        slots.end_busy(task(1, 6).key);
        for index in [7, 8, 9, 5] {
            slots.end(task(1, index).key);
        }
        assert!(slots.start().is_none(), "one slot is busy");
        slots.returned(task(1, 6).key);
        assert_eq!(slots.start().map(|(task, slot)| (task.key.job.0, slot)), Some((2, 0)));
    }
}
