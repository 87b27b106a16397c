//! Housekeeping: wins space back by carrying what is still wanted out of the oldest commits into the next one.
//!
//! It works in lumps, so that the cost is spread over commits, and only when it pays: when what is dead outweighs what
//! is alive. Each engine record counts as some dead bytes on top of its own, so a log of a million tiny commits is dead
//! weight too and gets packed into few large ones.

use prost::Message;

use super::{
    Error,
    codec::{self, Policies, Stored},
    entries::Entries,
    index::Index,
    part::PartKey,
    recover,
    sled::Engine,
    trouble::Place,
};

/// What a record costs the engine beyond its bytes, in memory and recovery time.
const RECORD_COST: u64 = 4 << 10;

/// Bytes of records looked through for each byte added, before they are pressed: fast enough to get ahead of any writer.
const PACE: u64 = 4;

/// When and how much at a time.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Dead weight in bytes that is never worth the work.
    pub slack: u64,
    /// The fewest bytes that are looked through at a time, so that what is carried over lies together.
    pub lump: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { slack: 8 << 20, lump: 512 << 10 }
    }
}

/// The most for one commit, so that no caller waits for long.
const MOST: u64 = 4 << 20;

/// How far housekeeping has got.
#[derive(Clone, Debug)]
pub(super) struct Cleaner {
    /// The next part to look at.
    next: PartKey,
    entries: Entries,
    /// Parts of a commit that is not yet looked through to its end.
    held: Vec<(PartKey, u64)>,
    /// Bytes that are to be looked through by now.
    debt: u64,
    tuning: Tuning,
}

/// What to do along with the next commit.
#[derive(Debug)]
pub(super) struct Plan {
    /// The state afterwards.
    pub(super) cleaner: Cleaner,
    /// To be written again.
    pub(super) carried: Vec<Stored>,
    /// To be removed once that is durable, with their bytes.
    pub(super) dead: Vec<(PartKey, u64)>,
    /// The oldest commit that counts from then on.
    pub(super) floor: u64,
}

/// The log as a whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    pub(super) parts: u64,
    pub(super) bytes: u64,
    pub(super) live: u64,
}

impl Weight {
    fn pays(self, slack: u64) -> bool {
        let dead = (self.bytes + self.parts * RECORD_COST).saturating_sub(self.live);
        dead > self.live + slack
    }
}

impl Cleaner {
    /// Starts at the floor.
    pub(super) fn new(floor: u64, tuning: Tuning) -> Cleaner {
        Cleaner {
            next: PartKey { seq: floor, part: 0 },
            entries: Entries::of(floor),
            held: Vec::new(),
            debt: 0,
            tuning,
        }
    }

    /// Looks through the next lump, if it is time for it. Never touches commits from `end` on.
    pub(super) fn plan(
        &self,
        engine: &Engine,
        place: &Place,
        index: &Index,
        end: u64,
        weight: Weight,
        added: u64,
    ) -> Result<Plan, Error> {
        let floor = self.next.seq;
        let mut plan = Plan { cleaner: self.clone(), carried: Vec::new(), dead: Vec::new(), floor };
        if !weight.pays(self.tuning.slack) {
            plan.cleaner.debt = 0;
            return Ok(plan);
        }
        plan.cleaner.debt += PACE * (added + RECORD_COST);
        if plan.cleaner.debt >= self.tuning.lump {
            let budget = plan.cleaner.debt.min(MOST);
            plan.cleaner.debt -= budget;
            plan.look_through(engine, place, index, end, budget)?;
        }
        Ok(plan)
    }
}

impl Plan {
    fn look_through(
        &mut self,
        engine: &Engine,
        place: &Place,
        index: &Index,
        end: u64,
        mut budget: u64,
    ) -> Result<(), Error> {
        let mut policies = Policies::default();
        while budget > 0 && self.cleaner.next.seq < end {
            let key = self.cleaner.next;
            let value = engine.get(key).map_err(|f| place.engine("read", f))?;
            let value = value
                .ok_or_else(|| place.corrupt(format!("commit {}, part {} is missing", key.seq, key.part)))?;
            let size = value.len() as u64;
            let part = recover::open(place, key, value)?;
            budget = budget.saturating_sub(RECORD_COST);
            self.cleaner.entries.push(part.bytes);
            while let Some((loc, record)) =
                self.cleaner.entries.take().map_err(|e| place.entry(key.seq, &e))?
            {
                // By what is in it rather than by what it takes on the disk: that is the work.
                budget = budget.saturating_sub(record.encoded_len() as u64);
                let Some(body) = record.body else { continue };
                if index.wants(&body, loc) {
                    self.carried
                        .extend(codec::writes(body, &mut policies).map_err(|e| place.entry(key.seq, &e))?);
                }
            }
            self.cleaner.held.push((key, size));
            if part.seal.is_some() {
                self.dead.append(&mut self.cleaner.held);
                self.floor = key.seq + 1;
                self.cleaner.next = PartKey { seq: key.seq + 1, part: 0 };
                self.cleaner.entries = Entries::of(key.seq + 1);
            } else {
                self.cleaner.next.part += 1;
            }
        }
        Ok(())
    }
}
