//! The filter that `ls` and every bulk action share. The coordinator applies it, but for --older-than.

use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, PossibleValue, PossibleValuesParser, TypedValueParser};
use taskq_client::model::{STATES, State, state_word};

use crate::clock::UnixMs;
use crate::quantity;

/// Which jobs. All given conditions must hold.
#[derive(clap::Args, Clone, Debug, Default)]
#[group(skip)]
#[command(next_help_heading = "Filter")]
pub(crate) struct Filter {
    /// Jobs of this queue
    #[arg(short, long, value_name = "QUEUE", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) queue: Option<String>,
    /// Jobs in these states
    #[arg(short, long, value_name = "STATES", value_delimiter = ',', value_parser = state())]
    pub(crate) state: Vec<State>,
    /// Jobs with this label; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = quantity::pair)]
    pub(crate) label: Vec<(String, String)>,
    /// Jobs whose name matches this pattern (`*`, `?`, `[a-z]`)
    #[arg(long, value_name = "GLOB", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: Option<String>,
    /// Jobs submitted within this time, such as 1h; a bare number counts seconds
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    pub(crate) since: Option<Duration>,
    /// Jobs that ended longer ago than this, such as 7d; a bare number counts seconds
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    pub(crate) older_than: Option<Duration>,
    /// Jobs with a failed task whose message or last error output contains this text
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) error_like: Option<String>,
}

/// Another word for `succeeded`.
const DONE: &str = "done";

/// States as people type and read them. `done` is another word for `succeeded`.
pub(crate) fn state() -> impl TypedValueParser<Value = State> {
    let name = |state: State| match state {
        State::Succeeded => PossibleValue::new(state_word(state)).alias(DONE),
        _ => PossibleValue::new(state_word(state)),
    };
    PossibleValuesParser::new(STATES.map(name)).try_map(|word| state_of(&word))
}

fn state_of(word: &str) -> Result<State, String> {
    if word == DONE {
        return Ok(State::Succeeded);
    }
    let known = STATES.into_iter().find(|state| state_word(*state) == word);
    known.ok_or_else(|| format!("there is no state {word:?}"))
}

impl Filter {
    /// True if no condition was given, so that everything would match.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_none()
            && self.state.is_empty()
            && self.label.is_empty()
            && self.name.is_none()
            && self.since.is_none()
            && self.older_than.is_none()
            && self.error_like.is_none()
    }

    /// `--older-than`, which this side looks after: a coordinator that did not know of it would take all jobs.
    pub(crate) fn is_old_enough(&self, ended_unix_ms: u64, now: UnixMs) -> bool {
        let Some(least) = self.older_than else { return true };
        let ago = Duration::from_millis(now.0.saturating_sub(ended_unix_ms));
        ended_unix_ms > 0 && ago > least
    }

    /// `--since` as a point in time; 0 = no limit.
    pub(crate) fn since_unix_ms(&self, now: UnixMs) -> u64 {
        match self.since {
            Some(since) => now.0.saturating_sub(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_is_what_ended_long_ago() {
        let filter = Filter { older_than: Some(Duration::from_secs(60)), ..Filter::default() };
        assert!(!filter.is_empty(), "alone it is a condition, too");
        let now = UnixMs(1_000_000);
        assert!(filter.is_old_enough(939_999, now) && !filter.is_old_enough(940_000, now));
        assert!(!filter.is_old_enough(0, now), "it has not ended");
        assert!(Filter::default().is_old_enough(0, now));
    }

    #[test]
    fn each_state_has_its_word_and_no_other_word_is_one() {
        for state in STATES {
            assert_eq!(state_of(state_word(state)), Ok(state));
        }
        assert_eq!(state_of("done"), Ok(State::Succeeded));
        assert!(state_of("expired").is_err() && state_of("").is_err());
    }
}
