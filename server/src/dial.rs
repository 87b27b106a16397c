//! The way to a running coordinator, for the subcommands that ask one something. Its users have `taskq-client`.

use std::{error::Error as _, io, time::Duration};

use tokio::time::timeout;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// Where a coordinator listens if nobody says a port.
const PORT: u16 = 7733;

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
