//! Everything that a call can end with. Each message says what happened, to what, and what to do next.

use crate::access::Place;
use crate::failed::CallError;
use std::fmt;
use std::path::PathBuf;
use tonic::{Code, Status};

/// What the calls of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call did not do what was asked. Its debug form has the same words, so that a `main` that returns it says them.
#[derive(Clone, thiserror::Error)]
pub enum Error {
    /// Something was asked that cannot be right; nothing was changed.
    #[error("{0}")]
    Usage(String),
    /// A command's placeholders are wrong.
    #[error(transparent)]
    Template(#[from] taskq_template::Error),
    /// An access file or token file that cannot be used.
    #[error("{path}: {problem}", path = .path.display())]
    AccessFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
        /// Whether it is a matter of permission or of a token.
        denied: bool,
    },
    /// Nothing says where a coordinator is.
    #[error(
        "no coordinator is known here: {path} does not exist\n  \
         if one runs: name the access.toml in its data directory with --access FILE or TASKQ_ACCESS,\n               \
         or its address and token with TASKQ_ADDR and TASKQ_TOKEN\n  \
         if none runs: start one here with  taskq up,  or on a server with  taskq-server --data DIR",
        path = .path.display()
    )]
    NoCoordinator {
        /// The access file of the default data directory.
        path: PathBuf,
    },
    /// An address without a token.
    #[error(
        "there is no token for the coordinator at {addr}\n  address came from: {origin}\n  \
         give its token too: --access FILE or --token-file FILE, or TASKQ_ACCESS, TASKQ_TOKEN or TASKQ_TOKEN_FILE"
    )]
    NoToken {
        /// The address.
        addr: String,
        /// Who said so.
        origin: Place,
    },
    /// The coordinator did not answer for as long as the caller's patience.
    #[error(
        "coordinator not reachable at {addr} ({cause})\n  address came from: {origin}\n  \
         is it running? start one here:   taskq up        or on a server:  taskq-server --data DIR"
    )]
    Unreachable {
        /// Where it was looked for.
        addr: String,
        /// Who said so.
        origin: Place,
        /// What the last try met.
        cause: String,
    },
    /// No token or a wrong one.
    #[error(
        "the coordinator at {addr} refused the token ({message})\n  token came from: {origin}\n  \
         use the token of its access.toml: --access FILE, TASKQ_ACCESS, or TASKQ_TOKEN"
    )]
    Unauthorized {
        /// Who refused.
        addr: String,
        /// Where the token came from.
        origin: Place,
        /// The coordinator's words.
        message: String,
    },
    /// What was named never existed.
    #[error("{0}")]
    NotFound(String),
    /// It existed, and its retention is over.
    #[error("{0}")]
    Gone(String),
    /// It clashes with what is already there, or with the state that something is in.
    #[error("{0}")]
    Conflict(String),
    /// A limit is reached or the disk is full; try again later.
    #[error("{0}")]
    Busy(String),
    /// A cursor is no longer served: this reader fell too far behind. Start again from an earlier cursor.
    #[error("{0}")]
    Lagged(String),
    /// Bytes to be uploaded could not be read.
    #[error("cannot read what is to be uploaded: {0}")]
    Read(String),
    /// The output of a call could not be copied to here. Its value does not depend on that: await the handle again.
    #[error("{0}")]
    Echo(String),
    /// A call has no value: its function failed, or did not come to an end.
    #[error(transparent)]
    Call(#[from] Box<CallError>),
    /// A mistake of taskq.
    #[error("{0}\n  this is a mistake in taskq; the coordinator's log may say more")]
    Internal(String),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What class an error belongs to: the rows of the exit code table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is wrong.
    Usage,
    /// There is no such thing.
    NotFound,
    /// There was, but no longer.
    Gone,
    /// It clashes with what is there.
    Conflict,
    /// No coordinator answers.
    Unreachable,
    /// Later, perhaps.
    Busy,
    /// Not with this token.
    Unauthorized,
    /// A call failed by itself.
    Failed,
    /// A mistake of taskq.
    Internal,
}

impl Kind {
    /// The exit status of a command that ends with it (but for those that stand for a job's own status).
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::NotFound | Kind::Gone => 3,
            Kind::Conflict => 5,
            Kind::Unreachable => 69,
            Kind::Internal => 70,
            Kind::Busy => 75,
            Kind::Unauthorized => 77,
        }
    }
}

impl Error {
    /// Its class.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Error::Usage(_)
            | Error::Template(_)
            | Error::Read(_)
            | Error::Echo(_)
            | Error::AccessFile { denied: false, .. } => Kind::Usage,
            Error::AccessFile { denied: true, .. } | Error::NoToken { .. } | Error::Unauthorized { .. } => {
                Kind::Unauthorized
            }
            Error::NoCoordinator { .. } | Error::Unreachable { .. } => Kind::Unreachable,
            Error::NotFound(_) => Kind::NotFound,
            Error::Gone(_) | Error::Lagged(_) => Kind::Gone,
            Error::Conflict(_) => Kind::Conflict,
            Error::Busy(_) => Kind::Busy,
            Error::Call(_) => Kind::Failed,
            Error::Internal(_) => Kind::Internal,
        }
    }

    /// Whether the same call may succeed once the coordinator is there again.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Error::Unreachable { .. })
    }

    /// What a gRPC status means to a caller of the coordinator that `at` describes.
    pub(crate) fn of(status: &Status, at: &At) -> Self {
        // A status that this side made has a source: the connection broke. HTTP/2 gives that several codes, and
        // a reply without its end (see tonic's `infer_grpc_status`) comes as Unknown, without a source.
        let cut_off = std::error::Error::source(status).is_some()
            || (status.code() == Code::Unknown && status.message().contains("grpc-status"));
        if cut_off || status.code() == Code::Unavailable {
            return Self::unreachable(innermost(status), at);
        }
        Self::of_code(status.code(), status.message(), at)
    }

    /// The same for a code and message that came inside a reply.
    pub(crate) fn of_code(code: Code, message: &str, at: &At) -> Self {
        let text = || message.to_owned();
        match code {
            _ if message.contains("LAGGED") => Self::Lagged(text()),
            Code::Unavailable => Self::unreachable(text(), at),
            Code::InvalidArgument => Self::Usage(text()),
            Code::NotFound if message.contains("EXPIRED") => Self::Gone(without_mark(message)),
            Code::NotFound => Self::NotFound(text()),
            Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => Self::Conflict(text()),
            // The words of tonic's decoder, on whichever side refused.
            Code::OutOfRange | Code::ResourceExhausted if message.contains("message length too large") => {
                let advice = "upload large values (elements, standard input), or submit in smaller parts";
                Self::Usage(format!("the message is too large ({message}); {advice}"))
            }
            Code::ResourceExhausted => Self::Busy(text()),
            Code::OutOfRange => Self::Lagged(text()),
            Code::Unauthenticated | Code::PermissionDenied => {
                Self::Unauthorized { addr: at.addr.clone(), origin: at.token_from.clone(), message: text() }
            }
            Code::Unimplemented => Self::Internal(format!(
                "the coordinator at {} does not know this call ({message}); is it older than this client?",
                at.addr
            )),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Internal
            | Code::DataLoss => Self::Internal(format!("the coordinator answered {code:?}: {message}")),
        }
    }

    fn unreachable(cause: String, at: &At) -> Self {
        Self::Unreachable { addr: at.addr.clone(), origin: at.addr_from.clone(), cause }
    }
}

/// The word by which programs know what was removed is none for people.
pub(crate) fn without_mark(message: &str) -> String {
    message.replace(" (EXPIRED)", "")
}

/// Which coordinator a call went to, and who said so: for messages.
#[derive(Debug)]
pub(crate) struct At {
    pub(crate) addr: String,
    pub(crate) addr_from: Place,
    pub(crate) token_from: Place,
}

/// The last cause of a chain says most: "Connection refused (os error 111)".
fn innermost(status: &Status) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut text = status.message().to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    match text.split_once(" (os error") {
        Some((plain, _)) => plain.to_lowercase(),
        None => text,
    }
}
