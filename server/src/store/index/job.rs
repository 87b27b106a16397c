//! What the index knows of one job.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::num::NonZeroU32;

use roaring::RoaringBitmap;
use taskq_core::id::{Millis, WallTime};

use crate::store::{codec, entries::Loc, retention::Term};

/// Outcomes of earlier attempts that are kept of one task; of more, the oldest go.
pub(in crate::store) const ATTEMPTS_KEPT: usize = 32;

/// Tasks whose output is looked up one by one.
const FEW: u64 = 1_000;
/// Pieces that one look for those of many tasks passes over.
const LOOKED_AT: usize = 65_536;

/// In [`Job::len`]: it has an idempotency key.
const KEYED: u32 = 1 << 31;
/// In [`Job::len`]: it has the id of a submit call.
const REPEAT: u32 = 1 << 30;
/// In [`Job::len`]: nothing. Always set, so that a slot without a job needs no byte to say so.
const SOME: NonZeroU32 = NonZeroU32::new(1 << 29).expect("a bit is not 0");

/// One kept job. A queued job of one task needs nothing but this.
#[derive(Debug)]
pub(in crate::store) struct Job {
    seq: u64,
    offset: u32,
    /// The length of the submission's entry, and [`KEYED`], [`REPEAT`] and [`SOME`].
    len: NonZeroU32,
    more: Option<Box<More>>,
}

impl Default for Job {
    fn default() -> Job {
        Job { seq: 0, offset: 0, len: SOME, more: None }
    }
}

#[derive(Debug, Default)]
struct More {
    keep: Option<Millis>,
    end: Option<(WallTime, Loc)>,
    ends: Ends,
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default)]
struct Rare {
    switches: Option<(u64, Loc)>,
    attempts: BTreeMap<(u32, u32), (Loc, bool)>,
    /// By number, ascending.
    outputs: Vec<Piece>,
    /// The same by task: its index and the piece's number.
    outputs_by_task: BTreeSet<(u32, u64)>,
}

/// A piece of output.
#[derive(Clone, Copy, Debug)]
struct Piece {
    number: u64,
    loc: Loc,
    task: u32,
}

/// Most jobs have one record of ends, or few; some have a million.
#[derive(Debug, Default)]
enum Ends {
    #[default]
    None,
    One(u64, EndSpan),
    Many(BTreeMap<u64, EndSpan>),
}

/// A record of ends.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct EndSpan {
    pub(in crate::store) loc: Loc,
    pub(in crate::store) low: u32,
    pub(in crate::store) high: u32,
}

/// What applying a record did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Spot {
    /// It counts; so many bytes of others no longer do.
    Taken { freed: u64 },
    /// It does not count, and so many bytes of others no longer do.
    Passed { freed: u64 },
}

impl Job {
    /// Where its submission is; `None` if that was not seen.
    pub(in crate::store) fn spec(&self) -> Option<Loc> {
        let len = self.len.get() & !(KEYED | REPEAT | SOME.get());
        let loc = Loc { seq: self.seq, offset: self.offset, len };
        (loc.len > 0).then_some(loc)
    }

    /// When it ended, and where that is recorded.
    pub(in crate::store) fn end(&self) -> Option<(WallTime, Loc)> {
        self.more.as_ref()?.end
    }

    /// It has an idempotency key or the id of a submit call: the core wants to know it after it has ended.
    pub(in crate::store) fn remembered(&self) -> bool {
        self.len.get() & (KEYED | REPEAT) != 0
    }

    /// What retention must know, once it has ended.
    pub(in crate::store) fn term(&self) -> Option<Term> {
        let more = self.more.as_ref()?;
        self.spec()?;
        let (wall, _) = more.end?;
        Some(Term { wall, keyed: self.len.get() & KEYED != 0, keep: more.keep })
    }

    /// The record of ends that has this rank, and those after it, with their first ranks.
    pub(in crate::store) fn ends_from(&self, rank: u64) -> Vec<(u64, EndSpan)> {
        const AHEAD: usize = 256;
        match self.more.as_ref().map(|m| &m.ends) {
            Some(Ends::One(first, span)) => vec![(*first, *span)],
            Some(Ends::Many(spans)) => {
                let start = spans.range(..=rank).next_back().map_or(0, |(first, _)| *first);
                spans.range(start..).take(AHEAD).map(|(f, s)| (*f, *s)).collect()
            }
            Some(Ends::None) | None => Vec::new(),
        }
    }

    /// Records of ends that may hold one of these indices, by their lowest index.
    pub(in crate::store) fn ends_with(&self, wanted: &RoaringBitmap) -> Vec<EndSpan> {
        let (Some(lowest), Some(highest)) = (wanted.min(), wanted.max()) else { return Vec::new() };
        // The bounds settle it for nearly all of a long job's records.
        let overlaps = |low: u32, high: u32| {
            low <= highest && lowest <= high && wanted.range_cardinality(low..=high) > 0
        };
        let mut spans: Vec<EndSpan> = match self.more.as_ref().map(|m| &m.ends) {
            Some(Ends::One(_, span)) => vec![*span],
            Some(Ends::Many(spans)) => spans.values().copied().collect(),
            Some(Ends::None) | None => Vec::new(),
        };
        spans.retain(|s| overlaps(s.low, s.high));
        spans.sort_unstable_by_key(|s| s.low);
        spans
    }

    /// Attempts of a task with an outcome, in order.
    pub(in crate::store) fn attempts(&self, index: u32) -> Vec<(u32, Loc)> {
        let Some(rare) = self.rare() else { return Vec::new() };
        let own = rare.attempts.range((index, 0)..=(index, u32::MAX));
        own.filter(|(_, (_, filled))| *filled).map(|((_, attempt), (loc, _))| (*attempt, *loc)).collect()
    }

    /// Pieces of output from a number on, of all tasks or of these, ascending, at most `limit`; and where to go on. It may
    /// find none and yet not be at the end: whoever holds the index is not held up by a long search.
    pub(in crate::store) fn outputs(
        &self,
        from: u64,
        wanted: Option<&RoaringBitmap>,
        limit: usize,
    ) -> (Vec<(u64, Loc)>, u64) {
        let Some(rare) = self.rare() else { return (Vec::new(), from) };
        if let Some(wanted) = wanted.filter(|wanted| wanted.len() <= FEW) {
            return rare.outputs_of(from, wanted, limit);
        }
        let start = rare.outputs.partition_point(|piece| piece.number < from);
        let (mut found, mut next) = (Vec::new(), from);
        for piece in rare.outputs[start..].iter().take(LOOKED_AT) {
            if found.len() == limit {
                break;
            }
            next = piece.number + 1;
            if wanted.is_none_or(|wanted| wanted.contains(piece.task)) {
                found.push((piece.number, piece.loc));
            }
        }
        (found, next)
    }

    /// The number of its next piece of output.
    pub(in crate::store) fn next_output(&self) -> u64 {
        self.rare().and_then(|r| r.outputs.last()).map_or(0, |piece| piece.number + 1)
    }

    /// All that is recorded of it.
    pub(in crate::store) fn bytes(&self) -> u64 {
        let size = |loc: &Loc| u64::from(loc.len);
        let mut sum = self.spec().map_or(0, |loc| size(&loc));
        let Some(more) = &self.more else { return sum };
        sum += more.end.map_or(0, |(_, l)| size(&l));
        sum += match &more.ends {
            Ends::None => 0,
            Ends::One(_, span) => size(&span.loc),
            Ends::Many(spans) => spans.values().map(|s| size(&s.loc)).sum(),
        };
        let Some(rare) = &more.rare else { return sum };
        sum += rare.switches.map_or(0, |(_, l)| size(&l));
        sum += rare.attempts.values().map(|(l, _)| size(l)).sum::<u64>();
        sum + rare.outputs.iter().map(|piece| size(&piece.loc)).sum::<u64>()
    }

    pub(in crate::store) fn has_ends(&self, rank: u64, loc: Loc) -> bool {
        match self.more.as_ref().map(|m| &m.ends) {
            Some(Ends::One(_, span)) => span.loc == loc,
            Some(Ends::Many(spans)) => spans.get(&rank).is_some_and(|s| s.loc == loc),
            Some(Ends::None) | None => false,
        }
    }

    pub(in crate::store) fn has_attempt(&self, index: u32, attempt: u32, loc: Loc) -> bool {
        self.rare().and_then(|r| r.attempts.get(&(index, attempt))).is_some_and(|(l, _)| *l == loc)
    }

    /// Is this the attempt with the highest number of its task?
    pub(in crate::store) fn is_last_attempt(&self, index: u32, attempt: u32, loc: Loc) -> bool {
        let last = self.rare().and_then(|r| r.attempts.range((index, 0)..=(index, u32::MAX)).next_back());
        last.is_some_and(|((_, a), (l, _))| *a == attempt && *l == loc)
    }

    pub(in crate::store) fn has_switches(&self, loc: Loc) -> bool {
        self.rare().and_then(|r| r.switches).is_some_and(|(_, l)| l == loc)
    }

    pub(in crate::store) fn has_output(&self, number: u64, loc: Loc) -> bool {
        self.rare().and_then(|r| r.piece(number)).is_some_and(|piece| piece.loc == loc)
    }

    pub(super) fn submitted(&mut self, loc: Loc, keyed: bool, repeat: bool, keep: Option<Millis>) -> Spot {
        let freed = self.spec().map_or(0, |loc| u64::from(loc.len));
        assert!(loc.len < SOME.get(), "a submission is no longer than a request");
        (self.seq, self.offset) = (loc.seq, loc.offset);
        self.len = SOME | loc.len | if keyed { KEYED } else { 0 } | if repeat { REPEAT } else { 0 };
        if keep.is_some() {
            self.more().keep = keep;
        }
        Spot::Taken { freed }
    }

    pub(super) fn ended(&mut self, wall: u64, loc: Loc) -> Spot {
        let old = self.more().end.replace((WallTime(wall), loc));
        Spot::Taken { freed: old.map_or(0, |(_, l)| u64::from(l.len)) }
    }

    pub(super) fn ends(&mut self, rank: u64, span: codec::Span, loc: Loc) -> Spot {
        let new = EndSpan { loc, low: span.low, high: span.high };
        let until = rank.saturating_add(span.count);
        let ends = &mut self.more().ends;
        let mut freed = 0;
        match ends {
            Ends::None => *ends = Ends::One(rank, new),
            Ends::One(first, old) if (rank..until).contains(first) => {
                freed = u64::from(old.loc.len);
                *ends = Ends::One(rank, new);
            }
            Ends::One(first, old) => *ends = Ends::Many(BTreeMap::from([(*first, *old), (rank, new)])),
            Ends::Many(spans) => {
                while let Some((first, old)) = spans.range(rank..until).next().map(|(f, s)| (*f, *s)) {
                    freed += u64::from(old.loc.len);
                    spans.remove(&first);
                }
                spans.insert(rank, new);
            }
        }
        Spot::Taken { freed }
    }

    /// Of a task's attempts count: the last one, and the newest ones with an outcome.
    pub(super) fn attempt(&mut self, index: u32, attempt: u32, filled: bool, loc: Loc) -> Spot {
        let attempts = &mut self.more().rare.get_or_insert_default().attempts;
        let replaced = attempts.insert((index, attempt), (loc, filled));
        let mut freed = replaced.map_or(0, |(l, _)| u64::from(l.len));
        let own: Vec<(u32, bool)> =
            attempts.range((index, 0)..=(index, u32::MAX)).rev().map(|((_, a), (_, f))| (*a, *f)).collect();
        let keep = |place: usize, filled: bool| place == 0 || (filled && place < ATTEMPTS_KEPT);
        let mut counts = true;
        for (_, (old, _)) in own.iter().enumerate().filter(|(place, (_, filled))| !keep(*place, *filled)) {
            if *old == attempt {
                counts = false;
                attempts.remove(&(index, attempt));
            } else if let Some((l, _)) = attempts.remove(&(index, *old)) {
                freed += u64::from(l.len);
            }
        }
        if counts { Spot::Taken { freed } } else { Spot::Passed { freed } }
    }

    pub(super) fn switches(&mut self, revision: u64, loc: Loc) -> Spot {
        let known = &mut self.more().rare.get_or_insert_default().switches;
        match *known {
            Some((newer, _)) if newer > revision => Spot::Passed { freed: 0 },
            old => {
                *known = Some((revision, loc));
                Spot::Taken { freed: old.map_or(0, |(_, l)| u64::from(l.len)) }
            }
        }
    }

    pub(super) fn output(&mut self, number: u64, task: u32, loc: Loc) -> Spot {
        let rare = self.more().rare.get_or_insert_default();
        match rare.outputs.binary_search_by_key(&number, |piece| piece.number) {
            Ok(at) => Spot::Taken { freed: u64::from(std::mem::replace(&mut rare.outputs[at].loc, loc).len) },
            Err(at) => {
                rare.outputs.insert(at, Piece { number, loc, task });
                rare.outputs_by_task.insert((task, number));
                Spot::Taken { freed: 0 }
            }
        }
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    fn rare(&self) -> Option<&Rare> {
        self.more.as_ref()?.rare.as_deref()
    }
}

impl Rare {
    fn piece(&self, number: u64) -> Option<&Piece> {
        let at = self.outputs.binary_search_by_key(&number, |piece| piece.number).ok()?;
        self.outputs.get(at)
    }

    /// For few tasks of many: touches no other task's pieces.
    fn outputs_of(&self, from: u64, wanted: &RoaringBitmap, limit: usize) -> (Vec<(u64, Loc)>, u64) {
        let first = |task, from| self.outputs_by_task.range((task, from)..=(task, u64::MAX)).next();
        let mut due: BinaryHeap<Reverse<(u64, u32)>> = wanted
            .iter()
            .filter_map(|task| first(task, from))
            .map(|(task, at)| Reverse((*at, *task)))
            .collect();
        let mut found = Vec::new();
        while let Some(Reverse((number, task))) = due.pop() {
            if found.len() == limit {
                return (found, number);
            }
            found.extend(self.piece(number).map(|piece| (number, piece.loc)));
            due.extend(first(task, number + 1).map(|(task, at)| Reverse((*at, *task))));
        }
        let end = self.outputs.last().map_or(from, |piece| from.max(piece.number + 1));
        (found, end)
    }
}
