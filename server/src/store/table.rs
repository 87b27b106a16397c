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
    used: u32,
    slots: [Option<T>; PAGE as usize],
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { pages: BTreeMap::new(), len: 0 }
    }
}

impl<T> Table<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, job: JobId) -> Option<&T> {
        self.pages.get(&(job.0 / PAGE))?.slots[(job.0 % PAGE) as usize].as_ref()
    }

    pub(super) fn get_mut(&mut self, job: JobId) -> Option<&mut T> {
        self.pages.get_mut(&(job.0 / PAGE))?.slots[(job.0 % PAGE) as usize].as_mut()
    }

    pub(super) fn get_or_insert_with(&mut self, job: JobId, make: impl FnOnce() -> T) -> &mut T {
        let empty = || Box::new(Page { used: 0, slots: std::array::from_fn(|_| None) });
        let page = self.pages.entry(job.0 / PAGE).or_insert_with(empty);
        let slot = &mut page.slots[(job.0 % PAGE) as usize];
        if slot.is_none() {
            page.used += 1;
            self.len += 1;
        }
        slot.get_or_insert_with(make)
    }

    pub(super) fn remove(&mut self, job: JobId) -> Option<T> {
        let number = job.0 / PAGE;
        let page = self.pages.get_mut(&number)?;
        let value = page.slots[(job.0 % PAGE) as usize].take()?;
        page.used -= 1;
        self.len -= 1;
        if page.used == 0 {
            self.pages.remove(&number);
        }
        Some(value)
    }

    /// Every id and value, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (JobId, &T)> {
        self.pages.iter().flat_map(|(number, page)| {
            let ids = number * PAGE..;
            ids.zip(&page.slots).filter_map(|(id, slot)| Some((JobId(id), slot.as_ref()?)))
        })
    }
}
