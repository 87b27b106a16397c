//! Many handles at once: their results as they come, or waiting until one or all have ended.

use crate::ends::{Place, Told};
use crate::error::Result;
use crate::handle::JobHandle;
use crate::model::State;
use crate::value::Value;
use std::fmt;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Handles that wait together. One is given back when it has ended, and knows it then.
struct Party<T> {
    /// By their numbers in the party; `None` once they were given back.
    waiting: Vec<Option<(JobHandle<T>, Option<Place>)>>,
    told: mpsc::UnboundedReceiver<(usize, Told)>,
    left: usize,
}

impl<T> Party<T> {
    fn gather(handles: impl IntoIterator<Item = JobHandle<T>>) -> Self {
        let (group, told) = mpsc::unbounded_channel();
        let mut waiting = Vec::new();
        for (key, handle) in handles.into_iter().enumerate() {
            let place = match handle.client().tell_group(handle.id(), &group, key) {
                Ok(place) => Some(place),
                Err(error) => {
                    // The receiver is in our hand.
                    let _ = group.send((key, Err(error)));
                    None
                }
            };
            waiting.push(Some((handle, place)));
        }
        let left = waiting.len();
        Self { waiting, told, left }
    }

    /// The next handle that has ended, and whether its job succeeded. May be dropped at any time.
    async fn next(&mut self) -> Option<(JobHandle<T>, bool)> {
        // Each who waits holds an end of the channel until it is told: it lasts as long as something is left.
        let (key, told) = self.told.recv().await?;
        self.give_back(key, told)
    }

    /// The same, of those that have ended already.
    fn next_at_hand(&mut self) -> Option<(JobHandle<T>, bool)> {
        let (key, told) = self.told.try_recv().ok()?;
        self.give_back(key, told)
    }

    fn give_back(&mut self, key: usize, told: Told) -> Option<(JobHandle<T>, bool)> {
        let (handle, _place) = self.waiting.get_mut(key)?.take()?;
        self.left -= 1;
        let succeeded = told.as_ref().is_ok_and(|ended| ended.state == State::Succeeded);
        Some((handle.told(told), succeeded))
    }
}

/// The results of many handles, in the order in which they end.
pub struct AsCompleted<T> {
    party: Party<T>,
    /// Ended, and its value is read at the moment.
    reading: Option<JobHandle<T>>,
}

impl<T> fmt::Debug for AsCompleted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsCompleted({} left)", self.party.left)
    }
}

/// Results as they come. To be called inside a tokio runtime.
///
/// ```no_run
/// # async fn tour(client: taskq_client::Client) -> taskq_client::Result<()> {
/// let mut handles = Vec::new();
/// for n in 0..10 {
///     handles.push(client.call::<u64>("fib", n).submit().await?);
/// }
/// let mut results = taskq_client::as_completed(handles);
/// while let Some((handle, result)) = results.next().await {
///     println!("job {}: {}", handle.id(), result?);
/// }
/// # Ok(()) }
/// ```
pub fn as_completed<T: Value>(handles: impl IntoIterator<Item = JobHandle<T>>) -> AsCompleted<T> {
    AsCompleted { party: Party::gather(handles), reading: None }
}

impl<T: Value> AsCompleted<T> {
    /// The next that has ended, with its result; `None` after the last. May be dropped at any time.
    pub async fn next(&mut self) -> Option<(JobHandle<T>, Result<T>)> {
        if self.reading.is_none() {
            self.reading = Some(self.party.next().await?.0);
        }
        let result = self.reading.as_mut()?.await;
        self.reading.take().map(|handle| (handle, result))
    }

    /// How many were not given out yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.party.left + usize::from(self.reading.is_some())
    }
}

/// What [`wait`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// One has ended.
    FirstCompleted,
    /// One has ended without success; or all have ended.
    FirstException,
    /// All have ended.
    AllCompleted,
}

/// What came of waiting. Both keep the order in which they ended, or were given.
#[derive(Debug)]
pub struct Waited<T> {
    /// Have ended, well or not: awaiting one of them gives its result.
    pub done: Vec<JobHandle<T>>,
    /// Have not.
    pub not_done: Vec<JobHandle<T>>,
}

/// Waits until some or all jobs have ended, at most for `timeout`; `None` waits as long as it takes. What has ended is known
/// only when the coordinator has said so, which takes a round trip: after a timeout that is shorter, all counts as not done.
/// A handle that nothing can be learnt of counts as done: awaiting it says why. Nothing is cancelled. To be called inside
/// a tokio runtime.
///
/// ```no_run
/// # use std::time::Duration;
/// # use taskq_client::{JobHandle, Until};
/// # async fn tour(handles: Vec<JobHandle<u64>>) -> taskq_client::Result<()> {
/// let waited = taskq_client::wait(handles, Until::AllCompleted, Some(Duration::from_secs(60))).await;
/// for handle in waited.done {
///     println!("{}", handle.await?);
/// }
/// for late in waited.not_done {
///     late.cancel().await?;
/// }
/// # Ok(()) }
/// ```
pub async fn wait<T>(
    handles: impl IntoIterator<Item = JobHandle<T>>,
    until: Until,
    timeout: Option<Duration>,
) -> Waited<T> {
    let mut party = Party::gather(handles);
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut done = Vec::new();
    let mut enough = false;
    while !enough {
        let next = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, party.next()).await.unwrap_or(None),
            None => party.next().await,
        };
        let Some((handle, succeeded)) = next else { break };
        done.push(handle);
        enough = match until {
            Until::FirstCompleted => true,
            Until::FirstException => !succeeded,
            Until::AllCompleted => false,
        };
    }
    while let Some((handle, _)) = party.next_at_hand() {
        done.push(handle);
    }
    let not_done = party.waiting.into_iter().flatten().map(|(handle, _)| handle).collect();
    Waited { done, not_done }
}
