//! The results of a map one by one: as they are committed, from a cursor, or in the order of the arguments.

use super::{Job, VALUES};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::failed::CallError;
use crate::model::Task;
use crate::ordered::InOrder;
use crate::results::{Results, ResultsQuery};
use crate::value::{Read, Value};
use std::fmt;
use std::pin::Pin;
use std::sync::Mutex;

/// What came of one argument.
#[derive(Debug)]
pub struct Element<R> {
    /// Of the argument, from 0.
    pub index: u32,
    /// How many results have been seen with this one: [`MapHandle::results`](super::MapHandle::results) goes on from it.
    pub cursor: u64,
    /// What the function returned, or why there is nothing.
    pub value: std::result::Result<R, Box<CallError>>,
}

/// A value that is read at the moment, with its element's index and cursor. In a lock that is never taken, so that its
/// owner can be shared.
type Reading<R> = Mutex<Pin<Box<dyn Future<Output = Result<Element<R>>> + Send>>>;

/// The value of an ended task: mostly it came with it.
fn read<R: Value>(
    client: &Client,
    job: &Job,
    task: Task,
    cursor: u64,
) -> std::result::Result<Element<R>, Reading<R>> {
    let index = task.index;
    let task = match job.callee.at_hand(task) {
        Ok(Read::Here(value)) => return Ok(Element { index, cursor, value: Ok(value) }),
        Ok(Read::Elsewhere(task)) => task,
        Err(failed) => return Ok(Element { index, cursor, value: Err(failed) }),
    };
    let (client, callee) = (client.clone(), job.callee.clone());
    Err(Mutex::new(Box::pin(async move {
        let value = match callee.read(&client, *task).await {
            Ok(value) => Ok(value),
            Err(Error::Call(failed)) => Err(failed),
            Err(error) => return Err(error),
        };
        Ok(Element { index, cursor, value })
    })))
}

/// Results of a map in the order in which they are committed: each exactly once, from a cursor.
pub struct MapResults<R> {
    client: Client,
    job: Option<(Job, Results)>,
    cursor: u64,
    reading: Option<Reading<R>>,
}

impl<R> fmt::Debug for MapResults<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MapResults({} seen)", self.cursor)
    }
}

impl<R: Value> MapResults<R> {
    pub(super) fn new(client: Client, job: Option<Job>, cursor: u64) -> Self {
        let job = job.map(|job| {
            let results = client.results(job.id, ResultsQuery { cursor, ..VALUES });
            (job, results)
        });
        Self { client, job, cursor, reading: None }
    }

    /// The next that has ended; `None` after the last. A call that failed is a result, too: an error is told if no more
    /// can be heard, and nothing comes after it. May be dropped at any time.
    pub async fn next(&mut self) -> Option<Result<Element<R>>> {
        let next = self.advance().await;
        match &next {
            Some(Ok(element)) => self.cursor = element.cursor,
            Some(Err(_)) => self.job = None,
            None => {}
        }
        next
    }

    /// How many results were given out, in this run and before.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    async fn advance(&mut self) -> Option<Result<Element<R>>> {
        let (job, results) = self.job.as_mut()?;
        if self.reading.is_none() {
            let end = match results.next().await? {
                Ok(end) => end,
                Err(error) => return Some(Err(error)),
            };
            match read(&self.client, job, end.task, end.cursor) {
                Ok(element) => return Some(Ok(element)),
                Err(reading) => self.reading = Some(reading),
            }
        }
        let read = self.reading.as_mut()?.get_mut().expect("never locked").as_mut().await;
        self.reading = None;
        Some(read)
    }
}

/// Results of a map in the order of the arguments.
pub struct Elementwise<R> {
    client: Client,
    job: Option<Job>,
    in_order: Option<InOrder>,
    given: u64,
    reading: Option<Reading<R>>,
}

impl<R> fmt::Debug for Elementwise<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Elementwise({} given)", self.given)
    }
}

impl<R: Value> Elementwise<R> {
    pub(super) fn new(client: Client, job: Option<Job>, in_order: Option<InOrder>) -> Self {
        Self { client, job, in_order, given: 0, reading: None }
    }

    /// The next value, or [`Error::Call`] in its place, after which it goes on; `None` after the last, and after any other
    /// error. May be dropped at any time.
    pub async fn next(&mut self) -> Option<Result<R>> {
        let element = match self.advance().await? {
            Ok(element) => element,
            Err(error) => {
                self.in_order = None;
                return Some(Err(error));
            }
        };
        self.given += 1;
        Some(element.value.map_err(Error::Call))
    }

    async fn advance(&mut self) -> Option<Result<Element<R>>> {
        let (job, in_order) = (self.job.as_ref()?, self.in_order.as_mut()?);
        if self.reading.is_none() {
            let task = match in_order.next().await? {
                Ok(task) => task,
                Err(error) => return Some(Err(error)),
            };
            match read(&self.client, job, task, self.given + 1) {
                Ok(element) => return Some(Ok(element)),
                Err(reading) => self.reading = Some(reading),
            }
        }
        let read = self.reading.as_mut()?.get_mut().expect("never locked").as_mut().await;
        self.reading = None;
        Some(read)
    }
}
