//! Bytes that are kept apart from jobs and outcomes: a large argument, or what a call returned.

use crate::client::Client;
use crate::error::{Error, Result};
use crate::model::Blob;
use crate::retry::Effort;
use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

/// Room that is made before the first byte has come; more is made as it is needed.
const ROOM: u64 = 16 << 20;

impl Client {
    /// The bytes of a blob, compared with its digest. Begun anew if the connection is lost.
    ///
    /// # Errors
    /// They are not there any more, or the coordinator did not answer for [`crate::Options::patience`].
    pub async fn download(&self, blob: &Blob) -> Result<Bytes> {
        let mut effort = self.effort(self.options().patience);
        loop {
            match self.download_once(blob, &mut effort).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => effort.after(error).await?,
            }
        }
    }

    async fn download_once(&self, blob: &Blob, effort: &mut Effort) -> Result<Bytes> {
        let mut chunks = self.open(|mut jobs| async move { jobs.download(blob.clone()).await }).await?;
        effort.answered();
        let room = usize::try_from(blob.size_bytes.min(ROOM)).expect("some megabytes");
        let mut bytes = BytesMut::with_capacity(room);
        let mut digest = Sha256::new();
        while let Some(chunk) = chunks.next().await? {
            digest.update(&chunk.data);
            bytes.extend_from_slice(&chunk.data);
            if bytes.len() as u64 > blob.size_bytes {
                return Err(damaged(blob, "it is longer"));
            }
        }
        if (bytes.len() as u64) < blob.size_bytes {
            return Err(self.ended_early());
        }
        if digest.finalize().as_slice() != &blob.sha256[..] {
            return Err(damaged(blob, "its bytes have another digest"));
        }
        Ok(bytes.freeze())
    }
}

fn damaged(blob: &Blob, how: &str) -> Error {
    Error::Internal(format!("a blob of {} bytes did not come as it was stored: {how}", blob.size_bytes))
}
