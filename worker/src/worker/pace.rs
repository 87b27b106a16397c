//! How long calls take, to tell how many of them make a handful: short ones are handed to a thread several at once, as it
//! takes longer to hand one over than to run it.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::attempt::Outcome;

/// A handful takes this long if its calls take what is expected of them: much longer than to hand it over, and shorter than
/// anybody notices. If a few calls in a hundred take much longer than the others, the others may wait behind them, until
/// the worker's patience is over and they are given back.
const HANDFUL_US: f64 = 1_000.0;
const MOST: usize = 256;
/// A call that takes longer than expected raises what is expected by this factor at the most: one that was kept from its
/// processor for a moment does not make a function long, and twenty long ones in a row do.
const LONGER: f64 = 1.5;
/// One that takes less lowers it by this factor: a few short ones do not make a function short. Together, about one call
/// in fourteen takes longer than expected.
const SHORTER: f64 = 0.97;

/// By function: how long a call is expected to take, in microseconds.
#[derive(Default)]
pub(super) struct Pace(FxHashMap<Arc<str>, f64>);

impl Pace {
    pub(super) fn note(&mut self, function: &Arc<str>, outcome: &Outcome) {
        let took = outcome.usage.wall_us.max(1) as f64;
        match self.0.get_mut(function) {
            Some(expected) if took > *expected => *expected = took.min(*expected * LONGER),
            Some(expected) => *expected = took.max(*expected * SHORTER),
            None => _ = self.0.insert(Arc::clone(function), took),
        }
    }

    /// For some time calls of this function are handed over one by one, however short they are.
    pub(super) fn alone(&mut self, function: &Arc<str>) {
        if let Some(expected) = self.0.get_mut(function) {
            *expected = expected.max(HANDFUL_US);
        }
    }

    /// How many calls may follow one.
    pub(super) fn followers(&self, function: &str) -> usize {
        // Nothing is known of a function that was never called: it may take a day.
        let Some(expected) = self.0.get(function) else { return 0 };
        let many = HANDFUL_US / expected;
        // A float becomes the nearest number that there is.
        (many as usize).min(MOST).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::Usage;

    fn after(calls: &[u64]) -> usize {
        let (function, mut pace) = (Arc::from("f"), Pace::default());
        for wall_us in calls {
            let usage = Usage { wall_us: *wall_us, ..Usage::default() };
            pace.note(&function, &Outcome { usage, ..Outcome::default() });
        }
        pace.followers("f")
    }

    #[test]
    fn a_handful_is_a_millisecond() {
        assert_eq!(after(&[]), 0);
        assert_eq!(after(&[1]), 255);
        assert_eq!(after(&[100]), 9);
        assert_eq!(after(&[600]), 0);
        assert_eq!(after(&[1_000_000]), 0);
    }

    #[test]
    fn a_function_whose_calls_become_long_is_soon_known_as_long() {
        let mut calls = vec![1; 100];
        calls.push(50_000);
        assert_eq!(after(&calls), 255, "one may have been kept from its processor");
        calls.extend([50_000; 20]);
        assert_eq!(after(&calls), 0);
    }

    #[test]
    fn one_long_call_is_remembered_for_a_while() {
        let mut calls = vec![50_000];
        calls.extend([1; 50]);
        assert_eq!(after(&calls), 0);
        calls.extend([1; 500]);
        assert_eq!(after(&calls), 255);
    }
}
