//! The wire contract: types and services generated from `taskq/v1/*.proto`, whose comments are the
//! specification, and limits that both sides know. No logic and no conversions live here; see
//! `server/src/api/convert/`, `worker/src/session/` and the client for those.

/// The most standard input of a job, in bytes: it goes to a worker in one message, which may have 64 MiB.
pub const STDIN_BYTES: usize = 32 << 20;

/// The longest encoded argument of a call without elements, and the longest value that a call may return, in bytes.
pub const VALUE_BYTES: usize = 256 << 20;

/// A longer value is uploaded, and its outcome names the blob: an outcome has to fit into one record of the store.
pub const INLINE_VALUE_BYTES: usize = 32 << 10;

/// Version 1 of the protocol.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::large_enum_variant,
    reason = "generated; the comments of the .proto files are the documentation"
)]
pub mod v1 {
    tonic::include_proto!("taskq.v1");
}
