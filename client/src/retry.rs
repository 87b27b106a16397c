//! How long and how often a call is tried while the coordinator does not answer.

use crate::error::{Error, Result};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What is called with each [`Trouble`]; from any thread, and not to block.
pub type Listener = Arc<dyn Fn(&Trouble) + Send + Sync>;

/// How a [`crate::Client`] behaves while the coordinator is away.
#[derive(Clone)]
pub struct Options {
    /// How long a reading call is tried again. Default: 30 s.
    pub patience: Duration,
    /// How long a submit or an act is tried again, with the same request id. Default: 60 s.
    pub submit_patience: Duration,
    /// Told when the coordinator goes away and when it is back. The library itself prints nothing.
    pub on_trouble: Option<Listener>,
}

impl Default for Options {
    fn default() -> Self {
        Self { patience: Duration::from_secs(30), submit_patience: Duration::from_secs(60), on_trouble: None }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (patience, submit_patience) = (self.patience, self.submit_patience);
        write!(f, "Options {{ patience: {patience:?}, submit_patience: {submit_patience:?} }}")
    }
}

/// What [`Options::on_trouble`] is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// No answer; it is tried again.
    Lost {
        /// What the last try met.
        error: String,
        /// When the next one is made.
        retry_in: Duration,
    },
    /// There is an answer again.
    Back,
}

/// The tries of one call.
#[derive(Debug)]
pub(crate) struct Effort {
    options: Arc<Options>,
    patience: Duration,
    /// Of the first failure in a row.
    since: Option<Instant>,
    pause: Duration,
}

impl Effort {
    pub(crate) fn new(options: Arc<Options>, patience: Duration) -> Self {
        Self { options, patience, since: None, pause: FIRST_PAUSE }
    }

    /// A try failed: pauses before the next one, or gives the error back if another try is no use.
    pub(crate) async fn after(&mut self, error: Error) -> Result<()> {
        if !error.is_unreachable() {
            return Err(error);
        }
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let left = (since + self.patience).saturating_duration_since(now);
        if left.is_zero() {
            return Err(error);
        }
        // Half of the pause is random, so that many clients do not come back at the same moment.
        let pause = self.pause.mul_f64(rand::random_range(0.5..=1.0)).min(left);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        tracing::debug!(%error, ?pause, "no answer from the coordinator; trying again");
        if let Some(tell) = &self.options.on_trouble {
            tell(&Trouble::Lost { error: error.to_string(), retry_in: pause });
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// The coordinator answers. The pause stays as it is: something that answers and then hangs up again and
    /// again must not be asked without a breath.
    pub(crate) fn answered(&mut self) {
        if self.since.take().is_some()
            && let Some(tell) = &self.options.on_trouble
        {
            tell(&Trouble::Back);
        }
    }

    /// There was progress.
    pub(crate) fn worked(&mut self) {
        self.answered();
        self.pause = FIRST_PAUSE;
    }
}
