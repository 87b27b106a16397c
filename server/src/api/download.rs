//! Reading a blob back: a large argument on its way to a worker, or what a call returned.

use bytes::Bytes;
use taskq_proto::v1 as pb;
use tonic::Code;

use super::{
    Context,
    status::{Failure, Invalid, hex},
    stream::{Sender, fail},
};

/// Bytes of one message.
const CHUNK_BYTES: usize = 256 << 10;

impl Context {
    /// Sends the blob, in order. An empty one is a stream without messages.
    pub(super) async fn download(self, named: pb::Blob, out: Sender<pb::DownloadChunk>) {
        let mut rest = match self.bytes_of(&named).await {
            Ok(bytes) => bytes,
            Err(failure) => return fail(&out, failure).await,
        };
        while !rest.is_empty() {
            let data = rest.split_to(rest.len().min(CHUNK_BYTES));
            if out.send(Ok(pb::DownloadChunk { data })).await.is_err() {
                return;
            }
        }
    }

    async fn bytes_of(&self, named: &pb::Blob) -> Result<Bytes, Failure> {
        let digest = <[u8; 32]>::try_from(named.sha256.as_ref());
        let digest = digest.map_err(|_| Invalid::new("sha256", "must be 32 bytes"))?;
        let found = self.read(move |store| Ok(store.blob(&digest)?)).await?;
        found.ok_or_else(|| Failure {
            code: Code::NotFound,
            message: format!(
                "there is no blob {}: it was never uploaded, or no kept job refers to it",
                hex(&digest)
            ),
        })
    }
}
