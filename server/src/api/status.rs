//! Every reason for which a call fails, as a gRPC status. One exhaustive match a kind.

use tonic::{Code, Status};

use crate::{
    coordinator::Unanswered,
    store::{Error, Lookup},
};
use taskq_core::effect::{Refusal, Rejection};

/// A field of a request that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Invalid {
    field: String,
    why: String,
}

impl Invalid {
    /// Names the field as the `.proto` does, and what it must be.
    #[must_use]
    pub fn new(field: impl Into<String>, why: impl Into<String>) -> Invalid {
        Invalid { field: field.into(), why: why.into() }
    }

    /// Puts the place of the surrounding message in front.
    #[must_use]
    pub fn within(self, place: &str) -> Invalid {
        Invalid { field: format!("{place}.{}", self.field), why: self.why }
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Failure {
        Failure { code: Code::InvalidArgument, message: invalid.to_string() }
    }
}

/// A failed call before it becomes a [`Status`]: also told inside replies that act on many jobs.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What kind.
    pub code: Code,
    /// What happened and what to do.
    pub message: String,
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Status {
        Status::new(failure.code, failure.message)
    }
}

impl From<Unanswered> for Failure {
    fn from(why: Unanswered) -> Failure {
        let code = match why {
            Unanswered::Busy => Code::ResourceExhausted,
            Unanswered::Stopping => Code::Unavailable,
        };
        Failure { code, message: why.to_string() }
    }
}

impl From<Rejection> for Failure {
    fn from(why: Rejection) -> Failure {
        let code = match &why {
            Rejection::KeyTaken { .. } => Code::AlreadyExists,
            Rejection::Full { .. } => Code::ResourceExhausted,
            Rejection::NotEnded(_) => Code::FailedPrecondition,
            Rejection::NoTask { .. } | Rejection::NoWorker(_) => Code::NotFound,
        };
        let digests = match &why {
            Rejection::KeyTaken { stored, offered, .. } => {
                format!(" (stored sha256 {}, offered {})", hex(stored), hex(offered))
            }
            _ => String::new(),
        };
        Failure { code, message: format!("{why}{digests}") }
    }
}

impl From<Refusal> for Failure {
    fn from(why: Refusal) -> Failure {
        match why {
            Refusal::NameTaken { name, host } => Failure {
                code: Code::AlreadyExists,
                message: format!(
                    "a worker named {name:?} is connected from {host}; give this one another --name, or stop that one"
                ),
            },
            Refusal::Buried => Failure {
                code: Code::FailedPrecondition,
                message: "this worker process was reported dead, and its tasks run elsewhere; start it anew"
                    .into(),
            },
        }
    }
}

impl From<Lookup> for Failure {
    fn from(why: Lookup) -> Failure {
        let code = match &why {
            Lookup::Unknown(_) | Lookup::Gone(_) => Code::NotFound,
            Lookup::Store(error) => return Failure::from_store(error),
        };
        Failure { code, message: why.to_string() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::from_store(&error)
    }
}

impl Failure {
    fn from_store(error: &Error) -> Failure {
        let code = match error {
            Error::Full { .. } => Code::ResourceExhausted,
            Error::Corrupt { .. } | Error::Loss { .. } | Error::Unfinished { .. } => Code::DataLoss,
            Error::Locked { .. } | Error::Io { .. } | Error::NoDirectory { .. } | Error::Newer { .. } => {
                Code::Internal
            }
        };
        Failure { code, message: error.to_string() }
    }
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
