//! The wire contract: types and services generated from `taskq/v1/*.proto`, whose comments are the
//! specification. No logic and no conversions live here; see `server/src/api/convert.rs`,
//! `worker/src/session.rs` and `client/src/convert.rs` for those.

/// Version 1 of the protocol.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated; the comments of the .proto files are the documentation"
)]
pub mod v1 {
    tonic::include_proto!("taskq.v1");
}
