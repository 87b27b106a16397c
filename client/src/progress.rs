//! How far calls have come, in their own words.

use crate::error::Result;
use crate::follow::Watch;
use crate::model::Progress;

/// What the calls of a job say of their progress. Of many words between two looks the latest is told; of a job with
/// several calls that run, the one that spoke last.
#[derive(Debug)]
pub struct Progresses {
    watch: Watch,
    last: Option<Progress>,
}

impl Progresses {
    pub(crate) fn new(watch: Watch) -> Self {
        Self { watch, last: None }
    }

    /// The next word; `None` once the job has ended, or after an error. May be dropped at any time.
    pub async fn next(&mut self) -> Option<Result<Progress>> {
        while let Some(job) = self.watch.next().await {
            let said = match job {
                Ok(job) => job.progress,
                Err(error) => return Some(Err(error)),
            };
            if said.is_some() && said != self.last {
                self.last = said.clone();
                return said.map(Ok);
            }
        }
        None
    }
}
