//! A map from job ids to small values. Ids are dense, so values lie in pages of 64: no key, no node per job.

use std::collections::BTreeMap;

use taskq_core::id::JobId;

const PAGE: u64 = 64;

/// Values by job id.
#[derive(Debug)]
pub(super) struct Table<T> {
    pages: BTreeMap<u64, Box<Page<T>>>,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    /// One bit for each slot that has a value. The others hold a default.
    used: u64,
    slots: [T; PAGE as usize],
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { pages: BTreeMap::new(), len: 0 }
    }
}

impl<T: Default> Table<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, job: JobId) -> Option<&T> {
        let page = self.pages.get(&(job.0 / PAGE))?;
        page.has(job.0 % PAGE).then(|| &page.slots[(job.0 % PAGE) as usize])
    }

    pub(super) fn get_mut(&mut self, job: JobId) -> Option<&mut T> {
        let page = self.pages.get_mut(&(job.0 / PAGE))?;
        page.has(job.0 % PAGE).then(|| &mut page.slots[(job.0 % PAGE) as usize])
    }

    /// The value of a job, a default if it has none.
    pub(super) fn get_or_default(&mut self, job: JobId) -> &mut T {
        let empty = || Box::new(Page { used: 0, slots: std::array::from_fn(|_| T::default()) });
        let page = self.pages.entry(job.0 / PAGE).or_insert_with(empty);
        if !page.has(job.0 % PAGE) {
            page.used |= 1 << (job.0 % PAGE);
            self.len += 1;
        }
        &mut page.slots[(job.0 % PAGE) as usize]
    }

    pub(super) fn remove(&mut self, job: JobId) -> Option<T> {
        let number = job.0 / PAGE;
        let page = self.pages.get_mut(&number).filter(|page| page.has(job.0 % PAGE))?;
        let value = std::mem::take(&mut page.slots[(job.0 % PAGE) as usize]);
        page.used &= !(1 << (job.0 % PAGE));
        self.len -= 1;
        if page.used == 0 {
            self.pages.remove(&number);
        }
        Some(value)
    }

    /// Every id and value, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (JobId, &T)> {
        self.pages.iter().flat_map(|(number, page)| {
            let slots = (0..PAGE).zip(&page.slots).filter(|(slot, _)| page.has(*slot));
            slots.map(move |(slot, value)| (JobId(number * PAGE + slot), value))
        })
    }
}

impl<T> Page<T> {
    fn has(&self, slot: u64) -> bool {
        self.used & 1 << slot != 0
    }
}
