//! gRPC in front of the coordinator. A method parses, asks, and replies; what is read comes from the store.
//!
//! `accept` takes connections, `auth` checks tokens, `pages` are for HTTP/1, `jobs` `workers` `admin` are the services, `submit`
//! `read` `stream` `ends` `download` `act` do what `jobs` offers, `backup` what `admin` does, `convert` and `status` translate.

pub mod accept;
mod act;
mod admin;
mod ask;
mod auth;
pub mod backup;
pub mod convert;
mod download;
mod ends;
mod jobs;
pub mod pages;
mod read;
pub mod room;
pub mod status;
mod stream;
mod submit;
mod workers;

use std::{sync::Arc, time::Duration};

use taskq_core::id::Epoch;
use taskq_proto::v1::{admin_server::AdminServer, jobs_server::JobsServer, workers_server::WorkersServer};
use tokio::sync::watch;
use tonic::{
    service::interceptor::InterceptedService,
    transport::server::{Router, Server},
};

use self::{room::Promised, status::Failure};
use crate::{
    access::Token,
    coordinator::Handle,
    metrics::Metrics,
    store::{Lookup, Store},
};

/// Requests on one connection at a time. HTTP/2 alone would allow any number.
const STREAMS: u32 = 256;
/// Header bytes of one request.
const HEADERS_BYTES: u32 = 16 << 10;
/// One message in, as decoded.
const MESSAGE_BYTES: usize = 8 << 20;
/// Flow-control windows: a stream's and a connection's.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Resets that a client may have in flight (rapid reset).
const PENDING_RESETS: usize = 20;

/// What every service needs.
#[derive(Clone, Debug)]
pub struct Context {
    /// Asks the loop.
    pub handle: Handle,
    /// Reads what is durable.
    pub store: Arc<dyn Store>,
    /// Room on the disk that is promised to submissions.
    pub room: Promised,
    /// Figures of the shell.
    pub metrics: Arc<Metrics>,
    /// When this start was, and what it is called.
    pub start: Start,
    /// What backups need beside the store.
    pub backups: backup::Backups,
    /// Turns true when the coordinator stops: long calls end then.
    pub stopping: watch::Receiver<bool>,
}

/// This start of the coordinator.
#[derive(Clone, Debug)]
pub struct Start {
    /// For the uptime.
    pub at: tokio::time::Instant,
    /// Its epoch.
    pub epoch: Epoch,
    /// The store's name, hex.
    pub instance: String,
}

/// The services behind their limits.
#[must_use]
pub fn router(context: Context, token: Token) -> Router {
    let auth = auth::Auth::new(token);
    let jobs = JobsServer::new(context.clone()).max_decoding_message_size(MESSAGE_BYTES);
    let workers = WorkersServer::new(context.clone()).max_decoding_message_size(MESSAGE_BYTES);
    let admin = AdminServer::new(context).max_decoding_message_size(MESSAGE_BYTES);
    let (_reporter, health) = tonic_health::server::health_reporter();
    Server::builder()
        .max_concurrent_streams(STREAMS)
        .concurrency_limit_per_connection(STREAMS as usize)
        .http2_max_header_list_size(HEADERS_BYTES)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .add_service(health)
        .add_service(InterceptedService::new(jobs, auth.clone()))
        .add_service(InterceptedService::new(workers, auth.clone()))
        .add_service(InterceptedService::new(admin, auth))
}

impl Context {
    /// Reads the store where it may block.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Store) -> Result<T, Lookup> + Send + 'static,
    ) -> Result<T, Failure> {
        let store = Arc::clone(&self.store);
        let read = tokio::task::spawn_blocking(move || read(&*store)).await;
        Ok(read.map_err(|_| broken("a read of the store panicked"))??)
    }

    /// Returns when the coordinator stops.
    async fn stopped(&self) {
        // An error says that the sender is gone, which is the same news.
        let mut stopping = self.stopping.clone();
        let _stopping = stopping.wait_for(|stopping| *stopping).await;
    }
}

/// An answer that the loop never gives to such a question.
fn broken(what: &str) -> Failure {
    Failure { code: tonic::Code::Internal, message: format!("this is a bug in taskq-server: {what}") }
}
