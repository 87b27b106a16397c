//! From an ended task to what its function returned.

use crate::client::Client;
use crate::error::{Error, Result};
use crate::failed::{self, CallError};
use crate::model::outcome::Kind;
use crate::model::{JobSpec, Outcome, Task};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// What a call can return: anything that serde can make from bytes.
pub trait Value: DeserializeOwned + Send + 'static {}

impl<T: DeserializeOwned + Send + 'static> Value for T {}

/// What reading a call's value takes to know of it.
#[derive(Debug)]
pub(crate) struct Callee {
    pub(crate) function: String,
    /// By its name: it may be one that this library does not know.
    pub(crate) codec: String,
}

impl Callee {
    /// `None` if the job runs a command.
    pub(crate) fn of(spec: &JobSpec) -> Option<Arc<Callee>> {
        let call = spec.call.as_ref()?;
        Some(Arc::new(Callee { function: call.function.clone(), codec: call.codec.clone() }))
    }

    /// The value of an ended task, if it is here already: in the outcome itself.
    ///
    /// # Errors
    /// [`Error::Call`]: there is none, or one of another type.
    pub(crate) fn at_hand<T: Value>(&self, task: Task) -> std::result::Result<Read<T>, Box<CallError>> {
        let outcome = task.outcome.as_ref();
        let Some(outcome) = outcome.filter(|outcome| outcome.kind() == Kind::Completed) else {
            return Err(Box::new(CallError::new(task, &self.function, &self.codec)));
        };
        if outcome.value_blob.is_some() {
            return Ok(Read::Elsewhere(Box::new(task)));
        }
        let value = outcome.value.clone();
        self.decode(task, &value).map(Read::Here)
    }

    /// The same wherever it is.
    ///
    /// # Errors
    /// [`Error::Call`], or the coordinator did not give the bytes.
    pub(crate) async fn read<T: Value>(&self, client: &Client, task: Task) -> Result<T> {
        match self.at_hand(task)? {
            Read::Here(value) => Ok(value),
            Read::Elsewhere(task) => {
                let bytes = client.value(task.outcome.as_ref().unwrap_or(&Outcome::default())).await?;
                Ok(self.decode(*task, &bytes)?)
            }
        }
    }

    fn decode<T: Value>(&self, task: Task, bytes: &[u8]) -> std::result::Result<T, Box<CallError>> {
        failed::decode(&self.codec, bytes)
            .map_err(|mismatch| Box::new(CallError::undecodable(task, &self.function, &self.codec, mismatch)))
    }
}

/// Where a value is.
pub(crate) enum Read<T> {
    Here(T),
    /// In a blob.
    Elsewhere(Box<Task>),
}

impl Client {
    /// What a call returned, as it is written: in the outcome, or fetched. Empty if the outcome has none.
    ///
    /// # Errors
    /// As for [`Client::download`].
    pub async fn value(&self, outcome: &Outcome) -> Result<Bytes> {
        match &outcome.value_blob {
            Some(blob) => self.download(blob).await,
            None => Ok(outcome.value.clone()),
        }
    }
}

/// The error for what is no call.
pub(crate) fn no_call(id: crate::JobId) -> Error {
    Error::Usage(format!(
        "job {id} runs a command, which has output and a status but no value; see: taskq result {id}"
    ))
}
