//! Jobs in order, each with a stamp: those of a class, or of a queue. Jobs that follow each other mostly have the same
//! stamp, so a million of them cost one bit each and not a node.

use std::collections::BTreeMap;

use crate::id::JobId;

/// Ids of a group.
const PAGE: u64 = 64;

/// An ordered map from job ids to stamps.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// By the number of the page and the stamp: which of the 64 jobs of the page have that stamp. Never 0.
    groups: BTreeMap<(u64, u32), u64>,
    len: usize,
}

impl Line {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The lowest id, and its stamp.
    pub(crate) fn first(&self) -> Option<(JobId, u32)> {
        let ((page, _), _) = self.groups.first_key_value()?;
        let groups = self.page(*page).map(|(stamp, bits)| (bits.trailing_zeros(), stamp));
        groups.min().map(|(slot, stamp)| (JobId(page * PAGE + u64::from(slot)), stamp))
    }

    pub(crate) fn contains(&self, job: JobId) -> bool {
        self.stamp(job).is_some()
    }

    /// Adds a job; one that is there keeps its stamp.
    pub(crate) fn insert(&mut self, job: JobId, stamp: u32) {
        if !self.contains(job) {
            *self.groups.entry((job.0 / PAGE, stamp)).or_default() |= bit(job);
            self.len += 1;
        }
    }

    pub(crate) fn remove(&mut self, job: JobId) {
        let Some(stamp) = self.stamp(job) else { return };
        let key = (job.0 / PAGE, stamp);
        if let Some(bits) = self.groups.get_mut(&key) {
            *bits &= !bit(job);
            if *bits == 0 {
                self.groups.remove(&key);
            }
            self.len -= 1;
        }
    }

    /// Gives a job that is there another stamp.
    pub(crate) fn restamp(&mut self, job: JobId, stamp: u32) {
        if self.stamp(job).is_some_and(|old| old != stamp) {
            self.remove(job);
            self.insert(job, stamp);
        }
    }

    /// Every id, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = JobId> + '_ {
        let mut next = Some(0);
        let pages = std::iter::from_fn(move || {
            let ((page, _), _) = self.groups.range((next?, 0)..).next()?;
            next = page.checked_add(1);
            Some((*page, self.page(*page).fold(0, |all, (_, bits)| all | bits)))
        });
        pages.flat_map(|(page, all)| {
            (0..PAGE).filter(move |slot| all & 1 << slot != 0).map(move |slot| JobId(page * PAGE + slot))
        })
    }

    /// Every id below this one, descending.
    pub(crate) fn below(&self, job: JobId) -> impl Iterator<Item = JobId> + '_ {
        let mut end = Some(job.0.div_ceil(PAGE));
        let pages = std::iter::from_fn(move || {
            let ((page, _), _) = self.groups.range(..(end?, 0)).next_back()?;
            end = Some(*page);
            Some((*page, self.page(*page).fold(0, |all, (_, bits)| all | bits)))
        });
        let ids = pages.flat_map(|(page, all)| {
            (0..PAGE)
                .rev()
                .filter(move |slot| all & 1 << slot != 0)
                .map(move |slot| JobId(page * PAGE + slot))
        });
        ids.skip_while(move |id| *id >= job)
    }

    /// How many ids are below this one; counting stops at `limit`.
    pub(crate) fn before(&self, job: JobId, limit: usize) -> usize {
        let mut count = 0;
        for ((page, _), bits) in self.groups.range(..=(job.0 / PAGE, u32::MAX)) {
            let below = if *page < job.0 / PAGE { *bits } else { *bits & (bit(job) - 1) };
            count += below.count_ones() as usize;
            if count >= limit {
                return limit;
            }
        }
        count
    }

    fn stamp(&self, job: JobId) -> Option<u32> {
        self.page(job.0 / PAGE).find(|(_, bits)| bits & bit(job) != 0).map(|(stamp, _)| stamp)
    }

    fn page(&self, page: u64) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.groups.range((page, 0)..=(page, u32::MAX)).map(|((_, stamp), bits)| (*stamp, *bits))
    }
}

fn bit(job: JobId) -> u64 {
    1 << (job.0 % PAGE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_sorted_map(steps in prop::collection::vec((0..4_u8, 0..200_u64, 0..3_u32), 0..300)) {
            let (mut line, mut model) = (Line::default(), BTreeMap::new());
            for (act, id, stamp) in steps {
                let job = JobId(id);
                match act {
                    0 | 1 => {
                        line.insert(job, stamp);
                        model.entry(job).or_insert(stamp);
                    }
                    2 => {
                        line.remove(job);
                        model.remove(&job);
                    }
                    _ => {
                        line.restamp(job, stamp);
                        if let Some(old) = model.get_mut(&job) {
                            *old = stamp;
                        }
                    }
                }
                prop_assert_eq!(line.len(), model.len());
                prop_assert_eq!(line.is_empty(), model.is_empty());
                prop_assert_eq!(line.contains(job), model.contains_key(&job));
                prop_assert_eq!(line.first(), model.first_key_value().map(|(job, stamp)| (*job, *stamp)));
                prop_assert_eq!(line.before(job, 50), model.range(..job).take(50).count());
                prop_assert!(line.iter().eq(model.keys().copied()));
                prop_assert!(line.below(job).eq(model.range(..job).rev().map(|(job, _)| *job)));
            }
        }
    }
}
