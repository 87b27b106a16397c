//! The way to a running coordinator, for the subcommands that ask one something. Its users have `taskq-client`.

use std::{error::Error as _, io, time::Duration};

use sha2::{Digest as _, Sha256};
use taskq_proto::v1::{self as pb, admin_client::AdminClient};
use tokio::time::timeout;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// Where a coordinator listens if nobody says a port.
const PORT: u16 = 7733;

/// A coordinator that does not take a connection within this time is not there.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection over which nothing comes is given up after these.
const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a coordinator did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be written as an address.
    #[error("{addr:?} is not an address; write HOST:PORT, such as 127.0.0.1:7733")]
    Address {
        /// What was given.
        addr: String,
    },
    /// No connection.
    #[error(
        "{addr} cannot be reached ({why}); is taskq-server running there, and is this the address on which it listens?"
    )]
    Unreachable {
        /// Where.
        addr: String,
        /// What the system said.
        why: String,
    },
    /// A connection, and no word.
    #[error(
        "starting, or held up: a program listens at {addr} and has not answered within {waited:?}; a coordinator does not \
         while it reads its store (its log says when it is ready)"
    )]
    Starting {
        /// Where.
        addr: String,
        /// How long nothing came.
        waited: Duration,
    },
    /// It says that it does not serve.
    #[error("the coordinator at {addr} answers that it does not serve; its log says why")]
    NotServing {
        /// Where.
        addr: String,
    },
    /// It refuses.
    #[error("the coordinator at {addr} says: {why}")]
    Refused {
        /// Where.
        addr: String,
        /// What it says.
        why: String,
        /// The token is not its own.
        denied: bool,
        /// Its store is damaged.
        damaged: bool,
    },
    /// It ended, or the connection did.
    #[error(
        "the coordinator at {addr} was lost in the middle of it ({why}); nothing is kept of what had come; try again"
    )]
    Lost {
        /// Where.
        addr: String,
        /// How that was noticed.
        why: String,
    },
    /// What came is not what was sent.
    #[error("what came from the coordinator at {addr} is not what it sent; try again")]
    Garbled {
        /// Where.
        addr: String,
    },
    /// What came could not be kept.
    #[error("cannot write the backup")]
    Write(#[source] io::Error),
    /// Somebody else, or a connection that ended in between.
    #[error("{addr} does not answer as a coordinator does ({why}); is it one, and has it just stopped?")]
    Strange {
        /// Where.
        addr: String,
        /// What came instead.
        why: String,
    },
}

/// Asks the standard gRPC health service.
///
/// # Errors
/// Unless the coordinator answers in time that it serves.
pub async fn health(addr: &str, patience: Duration) -> Result<(), Error> {
    let endpoint = endpoint(addr)?.connect_timeout(patience);
    let asked = tokio::time::Instant::now();
    let channel = connect(addr, &endpoint).await?;
    let question = HealthCheckRequest { service: String::new() };
    let mut client = HealthClient::new(channel);
    let answer = timeout(patience.saturating_sub(asked.elapsed()), client.check(question)).await;
    let addr = addr.to_owned();
    match answer {
        Err(_) => Err(Error::Starting { addr, waited: patience }),
        Ok(Err(status)) => Err(Error::Strange { addr, why: said(&status) }),
        Ok(Ok(reply)) if reply.get_ref().status() == ServingStatus::Serving => Ok(()),
        Ok(Ok(_)) => Err(Error::NotServing { addr }),
    }
}

/// Fetches a backup and writes it to `out`.
///
/// # Errors
/// Unless all of it came, and is what was sent. What is in `out` then is of no use.
pub async fn backup(
    addr: &str,
    token: &str,
    out: &mut dyn io::Write,
    progress: &mut dyn FnMut(u64),
) -> Result<pb::BackupSummary, Error> {
    let endpoint = endpoint(addr)?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PROBE_EVERY)
        .keep_alive_timeout(PROBE_TIMEOUT)
        .initial_stream_window_size(2 << 20);
    let mut client = AdminClient::new(connect(addr, &endpoint).await?);
    let mut request = Request::new(pb::BackupRequest {});
    let bearer: MetadataValue<Ascii> = format!("Bearer {token}")
        .parse()
        .map_err(|_| Error::Strange { addr: addr.to_owned(), why: "the token cannot be sent".to_owned() })?;
    request.metadata_mut().insert("authorization", bearer);
    let mut stream = client.backup(request).await.map_err(|status| refused(addr, &status))?.into_inner();
    let (mut bytes, mut hash) = (0, Sha256::new());
    loop {
        let chunk = stream.message().await.map_err(|status| refused(addr, &status))?;
        let chunk = chunk.ok_or_else(|| lost(addr, "its answer ended early"))?;
        if let Some(summary) = chunk.summary {
            let whole = summary.bytes == bytes && summary.sha256 == hash.finalize().as_slice();
            return if whole { Ok(summary) } else { Err(Error::Garbled { addr: addr.to_owned() }) };
        }
        hash.update(&chunk.data);
        bytes += chunk.data.len() as u64;
        out.write_all(&chunk.data).map_err(Error::Write)?;
        progress(bytes);
    }
}

fn lost(addr: &str, why: &str) -> Error {
    Error::Lost { addr: addr.to_owned(), why: why.to_owned() }
}

fn refused(addr: &str, status: &Status) -> Error {
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => {
            lost(addr, &said(status))
        }
        code => Error::Refused {
            addr: addr.to_owned(),
            why: said(status),
            denied: code == Code::Unauthenticated,
            damaged: code == Code::DataLoss,
        },
    }
}

fn endpoint(addr: &str) -> Result<Endpoint, Error> {
    let wrong = || Error::Address { addr: addr.to_owned() };
    let bare = addr.strip_prefix("http://").unwrap_or(addr).trim_end_matches('/');
    let parse = |text: String| Endpoint::from_shared(text).map_err(|_| wrong());
    let endpoint = parse(format!("http://{bare}"))?;
    match endpoint.uri().port_u16() {
        Some(_) => Ok(endpoint),
        None if bare.contains(['/', '?', '#']) => Err(wrong()),
        None => parse(format!("http://{bare}:{PORT}")),
    }
}

async fn connect(addr: &str, endpoint: &Endpoint) -> Result<Channel, Error> {
    endpoint.connect().await.map_err(|error| {
        // The reason of the system is at the end of the chain, behind what the layers above it say.
        let mut why: &dyn std::error::Error = &error;
        while let Some(cause) = why.source() {
            why = cause;
        }
        let why = match why.downcast_ref::<io::Error>() {
            Some(cause) => cause.kind().to_string(),
            None => why.to_string(),
        };
        Error::Unreachable { addr: addr.to_owned(), why }
    })
}

fn said(status: &Status) -> String {
    match (status.code(), status.source()) {
        (Code::Unknown | Code::Unavailable, Some(cause)) => cause.to_string(),
        (_, _) if status.message().is_empty() => status.code().description().to_owned(),
        (_, _) => status.message().to_owned(),
    }
}
