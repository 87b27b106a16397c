//! Submitting jobs, and uploading what does not fit into them.

use crate::client::Client;
use crate::error::{Error, Result};
use crate::handle::JobHandle;
use crate::job::{INLINE_BYTES, JobBuilder, JobId};
use crate::model::{self, Blob, JobSpec};
use bytes::{Bytes, BytesMut};
use taskq_proto::v1::{SubmitReply, SubmitRequest, UploadChunk};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// The most jobs of one durable step.
const MOST_JOBS: usize = 10_000;
const CHUNK_BYTES: usize = 256 << 10;

impl Client {
    /// Submits one job. When this returns, the job is on the coordinator's disk.
    ///
    /// # Errors
    /// It was refused, or the coordinator did not answer for [`crate::Options::submit_patience`]. In the latter
    /// case it may or may not have been taken: submit again with an idempotency key to be sure of one job.
    pub async fn submit(&self, job: JobBuilder) -> Result<JobHandle> {
        let spec = self.prepare(job).await?;
        let ids = self.submit_all(vec![spec]).await?;
        let id =
            ids.first().ok_or_else(|| Error::Internal("the coordinator gave the job no number".into()))?;
        Ok(self.attach(*id))
    }

    /// Checks a job here and at the coordinator, and changes nothing.
    ///
    /// # Errors
    /// It would be refused.
    pub async fn check(&self, job: JobBuilder) -> Result<()> {
        job.check()?;
        // What is too large for the request is left out: only an upload could tell more about it.
        let mut spec = job.spec;
        let (sources, zip) = job.elements.into_parts();
        let wire: Vec<(model::Source, Option<Bytes>)> =
            sources.into_iter().map(|source| source.into_wire()).collect();
        if wire.iter().all(|(_, upload)| upload.is_none()) {
            let sources = wire.into_iter().map(|(source, _)| source).collect();
            spec.elements = Some(model::Elements { sources, zip, only: Vec::new() });
        }
        let request = SubmitRequest { jobs: vec![spec], request_id: request_id(), dry_run: true };
        self.send(request).await.map(|_| ())
    }

    /// Makes a job ready for [`Client::submit_all`]: checks it, and uploads standard input, argument and elements
    /// above 64 KiB.
    ///
    /// # Errors
    /// It is wrong in itself, or an upload failed.
    pub async fn prepare(&self, job: JobBuilder) -> Result<JobSpec> {
        job.check()?;
        let mut spec = job.spec;
        if let Some(command) = &mut spec.command {
            (command.stdin, command.stdin_blob) = self.inline_or_uploaded(job.stdin).await?;
        }
        if let Some(call) = &mut spec.call {
            (call.argument, call.argument_blob) = self.inline_or_uploaded(job.argument).await?;
        }
        let (sources, zip) = job.elements.into_parts();
        let mut wire = Vec::with_capacity(sources.len());
        for source in sources {
            let (mut source, upload) = source.into_wire();
            if let Some(table) = upload {
                source.values = Some(model::source::Values::Blob(self.upload_bytes(table).await?));
            }
            wire.push(source);
        }
        spec.elements = Some(model::Elements { sources: wire, zip, only: Vec::new() });
        Ok(spec)
    }

    /// What travels inside a job, or what it names instead.
    async fn inline_or_uploaded(&self, bytes: Bytes) -> Result<(Bytes, Option<Blob>)> {
        if bytes.len() <= INLINE_BYTES {
            return Ok((bytes, None));
        }
        Ok((Bytes::new(), Some(self.upload_bytes(bytes).await?)))
    }

    /// Submits up to 10,000 jobs in one durable step: all or none. Their numbers are in the same order.
    ///
    /// # Errors
    /// As for [`Client::submit`].
    pub async fn submit_all(&self, jobs: Vec<JobSpec>) -> Result<Vec<JobId>> {
        let count = jobs.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        if count > MOST_JOBS {
            let advice = "submit them as a stream, or as one job with elements";
            return Err(Error::Usage(format!(
                "{count} jobs are too many for one step (at most {MOST_JOBS}); {advice}"
            )));
        }
        let reply = self.send(SubmitRequest { jobs, request_id: request_id(), dry_run: false }).await?;
        job_ids(reply, count)
    }

    /// Stores what a reader gives. Tried once, as a reader cannot be read again.
    ///
    /// # Errors
    /// Reading failed, or the coordinator refused or went away.
    pub async fn upload(&self, mut reader: impl AsyncRead + Unpin + Send) -> Result<Blob> {
        // Two chunks in flight: one is read while the other is sent.
        let (chunks, receiver) = mpsc::channel(2);
        let feed = async move {
            loop {
                let mut data = BytesMut::with_capacity(CHUNK_BYTES);
                while data.len() < CHUNK_BYTES
                    && (&mut reader).take((CHUNK_BYTES - data.len()) as u64).read_buf(&mut data).await? > 0
                {
                }
                // The other end is gone when the call has failed; its error says why.
                if data.is_empty() || chunks.send(UploadChunk { data: data.freeze() }).await.is_err() {
                    return std::io::Result::Ok(());
                }
            }
        };
        let call = self.ask_once(|mut jobs| async move { jobs.upload(ReceiverStream::new(receiver)).await });
        let (fed, blob) = tokio::join!(feed, call);
        // A blob that was cut off by a read error is stored, but nothing refers to it, and it is removed again.
        fed.map_err(|error| Error::Read(error.to_string()))?;
        blob
    }

    /// Stores bytes; tried again while the coordinator is away.
    ///
    /// # Errors
    /// As for [`Client::submit`].
    pub async fn upload_bytes(&self, bytes: Bytes) -> Result<Blob> {
        let upload = |mut jobs: crate::client::JobsCalls| {
            let mut rest = bytes.clone();
            let chunks = std::iter::from_fn(move || {
                let data = rest.split_to(rest.len().min(CHUNK_BYTES));
                (!data.is_empty()).then_some(UploadChunk { data })
            });
            async move { jobs.upload(tokio_stream::iter(chunks)).await }
        };
        self.ask(self.options().submit_patience, upload).await
    }

    async fn send(&self, request: SubmitRequest) -> Result<SubmitReply> {
        let patience = self.options().submit_patience;
        self.ask(patience, |mut jobs| {
            let request = request.clone();
            async move { jobs.submit(request).await }
        })
        .await
    }
}

pub(crate) fn job_ids(reply: SubmitReply, count: usize) -> Result<Vec<JobId>> {
    let got = reply.job_ids.len();
    if got != count {
        return Err(Error::Internal(format!("the coordinator gave {got} numbers for {count} jobs")));
    }
    Ok(reply.job_ids.into_iter().map(JobId).collect())
}

/// Fresh for each logical request, the same for each of its tries.
pub(crate) fn request_id() -> Bytes {
    Bytes::copy_from_slice(&rand::random::<[u8; 16]>())
}
