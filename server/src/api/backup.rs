//! A backup of the store as a stream: made where it may block, a piece at a time, at the pace of who takes it.

use std::{
    io::{self, Write},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use taskq_proto::v1 as pb;
use tokio::sync::{Semaphore, watch};
use tonic::Code;

use super::{
    Context, broken,
    status::Failure,
    stream::{Sender, fail},
};
use crate::{
    access::Token,
    clock,
    store::{Store, backup},
};

/// Bytes of one message.
const CHUNK_BYTES: usize = 256 << 10;

/// What backups need beside the store.
#[derive(Clone, Debug)]
pub struct Backups {
    /// One at a time: two would only take the disk from each other.
    turn: Arc<Semaphore>,
    /// Is in the backup, so that who knows it comes in after a restore.
    token: Token,
}

impl Backups {
    /// None is under way.
    #[must_use]
    pub fn new(token: Token) -> Backups {
        Backups { turn: Arc::new(Semaphore::new(1)), token }
    }
}

impl Context {
    pub(super) async fn backup(self, out: Sender<pb::BackupChunk>) {
        let Ok(_turn) = Arc::clone(&self.backups.turn).try_acquire_owned() else {
            let message = "another backup is under way; try again when it is done".to_owned();
            return fail(&out, Failure { code: Code::ResourceExhausted, message }).await;
        };
        let about = backup::About {
            wall: clock::wall(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            token: Some(self.backups.token.clone()),
            salvaged: false,
        };
        let (store, chunks) = (Arc::clone(&self.store), Chunks::new(out.clone(), self.stopping.clone()));
        let made = tokio::task::spawn_blocking(move || make(&*store, &about, chunks)).await;
        match made.unwrap_or_else(|_| Err(broken("a backup panicked"))) {
            Ok(summary) => {
                tracing::info!(bytes = summary.bytes, jobs = summary.jobs, "a backup was taken");
                let summary = Some(told(&summary));
                // Whoever has hung up by now does not take the file for whole.
                let _sent = out.send(Ok(pb::BackupChunk { data: Bytes::new(), summary })).await;
            }
            Err(failure) => {
                tracing::info!(why = failure.message, "a backup was not finished");
                fail(&out, failure).await;
            }
        }
    }
}

fn make(store: &dyn Store, about: &backup::About, mut chunks: Chunks) -> Result<backup::Summary, Failure> {
    Ok(store.backup(about, &mut chunks)?)
}

fn told(summary: &backup::Summary) -> pb::BackupSummary {
    pb::BackupSummary {
        bytes: summary.bytes,
        sha256: Bytes::copy_from_slice(&summary.sha256),
        jobs: summary.jobs,
        records: summary.records,
        blobs: summary.blobs,
    }
}

impl From<backup::Error> for Failure {
    fn from(error: backup::Error) -> Failure {
        let code = match error {
            backup::Error::Store(error) => return error.into(),
            backup::Error::Volatile => Code::FailedPrecondition,
            backup::Error::Write(_) => Code::Unavailable,
            backup::Error::Read { .. }
            | backup::Error::NotOne { .. }
            | backup::Error::Newer { .. }
            | backup::Error::Damaged { .. }
            | backup::Error::NotEmpty { .. }
            | backup::Error::Differs { .. }
            | backup::Error::NoStore { .. }
            | backup::Error::Access(_) => Code::Internal,
        };
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Failure { code, message: format!("{error}{cause}") }
    }
}

/// Gathers what is written into messages, and waits while the last one has not been taken.
struct Chunks {
    out: Sender<pb::BackupChunk>,
    gathered: BytesMut,
    stopping: watch::Receiver<bool>,
}

impl Chunks {
    fn new(out: Sender<pb::BackupChunk>, stopping: watch::Receiver<bool>) -> Chunks {
        Chunks { out, gathered: BytesMut::with_capacity(CHUNK_BYTES), stopping }
    }

    fn send(&mut self) -> io::Result<()> {
        if *self.stopping.borrow() {
            return Err(io::Error::other(
                "the coordinator is stopping; take the backup again when it is back",
            ));
        }
        if self.gathered.is_empty() {
            return Ok(());
        }
        let data = self.gathered.split().freeze();
        let sent = self.out.blocking_send(Ok(pb::BackupChunk { data, summary: None }));
        sent.map_err(|_| io::Error::other("whoever asked for it has hung up"))
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK_BYTES - self.gathered.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.gathered.extend_from_slice(taken);
        if self.gathered.len() == CHUNK_BYTES {
            self.send()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}
