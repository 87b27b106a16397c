//! Which ended jobs are to be forgotten. Shared by both stores.

use std::collections::BTreeSet;

use taskq_core::id::{JobId, Millis, WallTime};

use super::Retention;

/// An idempotency key keeps its job so much longer.
const KEY_BONUS: Millis = Millis(24 * 3600 * 1000);

/// Ended jobs by the time of their end, in three classes.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    plain: BTreeSet<(u64, JobId)>,
    keyed: BTreeSet<(u64, JobId)>,
    /// Those that say themselves how long they are kept, by the time when that is over. The number does not bind them.
    own: BTreeSet<(u64, JobId)>,
}

/// What decides about one ended job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    /// When it ended.
    pub(super) wall: WallTime,
    /// It has an idempotency key.
    pub(super) keyed: bool,
    /// Its own time to be kept.
    pub(super) keep: Option<Millis>,
}

impl Expiry {
    pub(super) fn insert(&mut self, job: JobId, term: Term) {
        let (set, time) = self.class(term);
        set.insert((time, job));
    }

    pub(super) fn remove(&mut self, job: JobId, term: Term) {
        let (set, time) = self.class(term);
        set.remove(&(time, job));
    }

    fn class(&mut self, term: Term) -> (&mut BTreeSet<(u64, JobId)>, u64) {
        let bonus = if term.keyed { KEY_BONUS.0 } else { 0 };
        match (term.keep, term.keyed) {
            (Some(keep), _) => (&mut self.own, term.wall.0.saturating_add(keep.0).saturating_add(bonus)),
            (None, true) => (&mut self.keyed, term.wall.0),
            (None, false) => (&mut self.plain, term.wall.0),
        }
    }

    /// See [`Store::expired`](super::Store::expired). The number counts jobs with and without a key apart.
    pub(super) fn expired(&self, now: WallTime, keep: &Retention, limit: usize) -> Vec<JobId> {
        let mut due: Vec<(u64, JobId)> =
            self.own.iter().take_while(|(t, _)| *t <= now.0).take(limit).copied().collect();
        due.extend(oldest(&self.plain, keep, limit, now.0, u64::MAX));
        let before = now.0.saturating_sub(KEY_BONUS.0);
        if now.0 >= KEY_BONUS.0 {
            due.extend(oldest(&self.keyed, keep, limit, before, before));
        }
        due.sort_unstable();
        due.truncate(limit);
        due.into_iter().map(|(_, job)| job).collect()
    }
}

/// Those that ended by `age_from` minus the age, and those beyond the number that ended by `number_from`.
fn oldest(
    set: &BTreeSet<(u64, JobId)>,
    keep: &Retention,
    limit: usize,
    age_from: u64,
    number_from: u64,
) -> Vec<(u64, JobId)> {
    let beyond = set.len().saturating_sub(keep.jobs);
    let aged = |wall: u64| age_from.checked_sub(keep.age.0).is_some_and(|t| wall <= t);
    let due = set
        .iter()
        .enumerate()
        .take_while(|(i, (wall, _))| aged(*wall) || (*i < beyond && *wall <= number_from));
    due.take(limit).map(|(_, entry)| *entry).collect()
}
