//! What a backup is made of: frames that can be found and checked one by one.
//!
//! `mark (4) | length of the head (4, LE) | length of the body (4, LE) | CRC-32 of those eight bytes and the head (4, LE) |
//! head | CRC-32 of the body (4, LE) | body`. The head says what the body is, and names the jobs in it and in the frame
//! before, so that a frame that is lost altogether has left word of what it held.

use std::ops::Range;

use bytes::{BufMut, Bytes};
use prost::Message;

/// How a frame begins.
pub(super) const MARK: [u8; 4] = *b"\xf1TQ\n";
/// Mark, two lengths, checksum.
pub(super) const FIXED: usize = 16;
/// Longer heads are not written; a bound for what a damaged length makes a reader wait for.
pub(super) const HEAD_MOST: usize = 1 << 20;
/// The same for bodies: one fact may be as large as a request.
pub(super) const BODY_MOST: usize = 64 << 20;

/// zstd's level: for facts that differ in few bytes the faster ones gain nothing.
const LEVEL: i32 = 1;

/// What is in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Kind {
    Unknown = 0,
    /// An [`Opening`]; the first frame.
    Opening = 1,
    /// Facts, framed as in the log (`codec/frame.rs`), none of them pressed.
    Facts = 2,
    /// A stretch of a blob.
    Blob = 3,
    /// A [`Closing`]; the last frame.
    Closing = 4,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Head {
    #[prost(enumeration = "Kind", tag = "1")]
    pub(super) kind: i32,
    /// The place among the frames, from 0.
    #[prost(uint64, tag = "2")]
    pub(super) number: u64,
    /// Length of the body before it was pressed by zstd; 0 = it is as it was.
    #[prost(uint32, tag = "3")]
    pub(super) plain: u32,
    /// Facts: how many records.
    #[prost(uint32, tag = "4")]
    pub(super) records: u32,
    /// Facts: whose, as gap and length of each run of ids.
    #[prost(uint64, repeated, tag = "5")]
    pub(super) jobs: Vec<u64>,
    /// The same of the frame before.
    #[prost(uint64, repeated, tag = "6")]
    pub(super) former_jobs: Vec<u64>,
    /// A blob's digest, of this frame and of the one before.
    #[prost(bytes = "bytes", tag = "7")]
    pub(super) blob: Bytes,
    #[prost(bytes = "bytes", tag = "8")]
    pub(super) former_blob: Bytes,
    /// A blob's stretch: where in it.
    #[prost(uint64, tag = "9")]
    pub(super) offset: u64,
    /// Length of the whole blob.
    #[prost(uint64, tag = "10")]
    pub(super) whole: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Opening {
    #[prost(uint32, tag = "1")]
    pub(super) format: u32,
    /// Of the store, at the beginning.
    #[prost(uint64, tag = "2")]
    pub(super) epoch: u64,
    /// When, in milliseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub(super) wall: u64,
    /// The version of taskq.
    #[prost(string, tag = "4")]
    pub(super) version: String,
    /// The name of the store; hex.
    #[prost(string, tag = "5")]
    pub(super) instance: String,
    /// The token of its access.toml; empty = unknown.
    #[prost(string, tag = "6")]
    pub(super) token: String,
    #[prost(bool, tag = "7")]
    pub(super) salvaged: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Closing {
    /// Of all bytes before this frame.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) sha256: Bytes,
    #[prost(uint64, tag = "2")]
    pub(super) jobs: u64,
    #[prost(uint64, tag = "3")]
    pub(super) records: u64,
    #[prost(uint64, tag = "4")]
    pub(super) blobs: u64,
    /// The highest job id that was ever used.
    #[prost(uint64, tag = "5")]
    pub(super) highest: u64,
}

/// A frame as bytes. The body is pressed if that makes it shorter.
pub(super) fn seal(mut head: Head, plain: &[u8]) -> Vec<u8> {
    let pressed = zstd::bulk::compress(plain, LEVEL).ok().filter(|pressed| pressed.len() < plain.len());
    head.plain = match pressed {
        Some(_) => u32::try_from(plain.len()).expect("a body has a bound"),
        None => 0,
    };
    let body = pressed.as_deref().unwrap_or(plain);
    let mut lengths = Vec::with_capacity(8);
    let fits = "heads and bodies have bounds";
    lengths.put_u32_le(u32::try_from(head.encoded_len()).expect(fits));
    lengths.put_u32_le(u32::try_from(body.len()).expect(fits));
    let head = head.encode_to_vec();
    let mut frame = Vec::with_capacity(FIXED + head.len() + 4 + body.len());
    frame.put_slice(&MARK);
    frame.put_slice(&lengths);
    frame.put_u32_le(checksum(&lengths, &head));
    frame.put_slice(&head);
    frame.put_u32_le(crc32fast::hash(body));
    frame.put_slice(body);
    frame
}

/// Where the parts of a frame are, counted from its mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) head: Range<usize>,
    pub(super) body: Range<usize>,
}

/// The lengths that a frame's first bytes tell; `None` if they are no such.
pub(super) fn shape(fixed: &[u8]) -> Option<Shape> {
    if fixed.len() < FIXED || fixed[..4] != MARK {
        return None;
    }
    let number =
        |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]) as usize;
    let (head, body) = (number(4), number(8));
    let whole = head <= HEAD_MOST && body <= BODY_MOST;
    let body_at = FIXED + head + 4;
    whole.then_some(Shape { head: FIXED..FIXED + head, body: body_at..body_at + body })
}

/// The head of what begins at `bytes`, if it is whole.
pub(super) fn head(bytes: &[u8], shape: &Shape) -> Option<Head> {
    let head = bytes.get(shape.head.clone())?;
    let stored = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
    (checksum(&bytes[4..12], head) == stored).then(|| Head::decode(head).ok()).flatten()
}

/// The body, as it was before it was pressed; or what is wrong with it.
pub(super) fn body(bytes: &[u8], shape: &Shape, head: &Head) -> Result<Bytes, &'static str> {
    let body = &bytes[shape.body.clone()];
    let at = shape.head.end;
    let stored = u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    if crc32fast::hash(body) != stored {
        return Err("fails its checksum");
    }
    let plain = head.plain as usize;
    match plain {
        0 => Ok(Bytes::copy_from_slice(body)),
        plain if plain > BODY_MOST => Err("has a wrong length"),
        plain => match zstd::bulk::decompress(body, plain) {
            Ok(bytes) if bytes.len() == plain => Ok(bytes.into()),
            Ok(_) | Err(_) => Err("cannot be unpressed"),
        },
    }
}

fn checksum(lengths: &[u8], head: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(lengths);
    crc.update(head);
    crc.finalize()
}

/// Sorted ids as gap and length of each run.
pub(super) fn runs(ids: &std::collections::BTreeSet<u64>) -> Vec<u64> {
    let mut runs: Vec<u64> = Vec::new();
    let mut next = 0;
    for id in ids {
        match runs.last_mut() {
            Some(length) if *id == next => *length += 1,
            Some(_) | None => runs.extend([id - next, 1]),
        }
        next = id + 1;
    }
    runs
}

/// And back: the first and the last id of each.
pub(super) fn spans(runs: &[u64]) -> Vec<(u64, u64)> {
    let mut next = 0_u64;
    let mut spans = Vec::with_capacity(runs.len() / 2);
    for run in runs.chunks_exact(2) {
        let first = next.saturating_add(run[0]);
        next = first.saturating_add(run[1]);
        spans.push((first, next.saturating_sub(1)));
    }
    spans
}
