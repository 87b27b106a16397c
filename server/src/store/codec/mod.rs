//! Facts to bytes and back.
//!
//! A commit is a stream of entries: `length (varint) | CRC-32 of the body (4 bytes, LE) | body`, and a body is
//! `format version (1 byte) | prost Record`, in format 3 pressed (`press.rs`). Neighbouring ends of one job share one
//! entry, so that what they have in common is written once. Decoding is total: any bytes give entries or an error. How a
//! stream becomes engine records is said in `part.rs`.

mod ends;
mod frame;
mod pack;
mod press;
pub(super) mod record;
#[cfg(test)]
mod tests;
mod unpack;

pub(super) use ends::{Span, blobs, kinds, span, tasks_from, tasks_of};
pub(super) use frame::{Need, frame, need, open, plain};
pub(super) use pack::{Stored, pack};
pub(super) use press::Press;
pub(super) use unpack::{Policies, submitted_record, writes};

/// The highest format that this version reads.
pub(super) const VERSION: u8 = 4;

/// Why bytes are not an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// They were changed or cut.
    #[error("{0}")]
    Bad(&'static str),
    /// A later version wrote them.
    #[error("format {0}")]
    Newer(u8),
}
