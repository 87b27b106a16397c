//! A compact map from job ids to values, for ids that mostly follow each other.
//!
//! Pages of 64 slots hang in an ordered map, so a value costs its own size and little more, lookups touch one small
//! tree, and a page goes away with its last value.

use std::collections::BTreeMap;

use crate::id::JobId;

/// Slots of a page.
const PAGE: usize = 64;

/// An ordered map keyed by [`JobId`]: insert, lookup and remove in O(log pages).
#[derive(Debug)]
pub struct Table<T> {
    pages: BTreeMap<u64, Page<T>>,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    used: usize,
    slots: Box<[Option<T>; PAGE]>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { pages: BTreeMap::new(), len: 0 }
    }
}

impl<T> Default for Page<T> {
    fn default() -> Page<T> {
        Page { used: 0, slots: Box::new([const { None }; PAGE]) }
    }
}

impl<T> Table<T> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Table<T> {
        Table::default()
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a job.
    #[must_use]
    pub fn get(&self, id: JobId) -> Option<&T> {
        let (page, slot) = place(id);
        self.pages.get(&page)?.slots[slot].as_ref()
    }

    /// The value of a job, to change.
    pub fn get_mut(&mut self, id: JobId) -> Option<&mut T> {
        let (page, slot) = place(id);
        self.pages.get_mut(&page)?.slots[slot].as_mut()
    }

    /// Whether the job has a value.
    #[must_use]
    pub fn contains(&self, id: JobId) -> bool {
        self.get(id).is_some()
    }

    /// Puts a value in; gives back the one that was there.
    pub fn insert(&mut self, id: JobId, value: T) -> Option<T> {
        let (page, slot) = place(id);
        let page = self.pages.entry(page).or_default();
        let old = page.slots[slot].replace(value);
        if old.is_none() {
            page.used += 1;
            self.len += 1;
        }
        old
    }

    /// The value of a job, to change; a default if it had none.
    pub fn get_or_default(&mut self, id: JobId) -> &mut T
    where
        T: Default,
    {
        let (page, slot) = place(id);
        let page = self.pages.entry(page).or_default();
        if page.slots[slot].is_none() {
            page.used += 1;
            self.len += 1;
        }
        page.slots[slot].get_or_insert_default()
    }

    /// Takes a value out.
    pub fn remove(&mut self, id: JobId) -> Option<T> {
        let (number, slot) = place(id);
        let page = self.pages.get_mut(&number)?;
        let old = page.slots[slot].take()?;
        page.used -= 1;
        self.len -= 1;
        if page.used == 0 {
            self.pages.remove(&number);
        }
        Some(old)
    }

    /// All values in ascending order of id.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (JobId, &T)> {
        self.pages.iter().flat_map(|(page, content)| values(*page, content))
    }

    /// The values with an id below `end`, from the highest down.
    pub fn below(&self, end: JobId) -> impl Iterator<Item = (JobId, &T)> {
        self.pages
            .range(..=end.0 / PAGE as u64)
            .rev()
            .flat_map(|(page, content)| values(*page, content).rev())
            .skip_while(move |(id, _)| *id >= end)
    }

    /// The values with an id of at least `start`, ascending.
    pub fn from(&self, start: JobId) -> impl Iterator<Item = (JobId, &T)> {
        self.pages
            .range(start.0 / PAGE as u64..)
            .flat_map(|(page, content)| values(*page, content))
            .skip_while(move |(id, _)| *id < start)
    }
}

fn place(id: JobId) -> (u64, usize) {
    let slot = usize::try_from(id.0 % PAGE as u64).expect("a slot number is below 64");
    (id.0 / PAGE as u64, slot)
}

fn values<T>(page: u64, content: &Page<T>) -> impl DoubleEndedIterator<Item = (JobId, &T)> {
    content
        .slots
        .iter()
        .enumerate()
        .filter_map(move |(slot, value)| Some((JobId(page * PAGE as u64 + slot as u64), value.as_ref()?)))
}
