//! A commit's stream of entries, cut into the records that the engine keeps.
//!
//! A part is `version (1) | flags (1) | CRC-32 (4, LE) | [last part only: parts (2), floor (8), highest (8), LE] | bytes`.
//! The checksum covers the key as well, so a part that turns up under another key is noticed. Only the last part says
//! how many there are: a commit without it never happened. `floor` is the oldest commit that is still needed, `highest`
//! the highest job id ever used.

use bytes::{Buf, BufMut, Bytes};

/// The most that a record's value may take: larger ones tempt the engine into files that nobody syncs.
pub(super) const PART_BYTES: usize = 64 << 10;

/// Parts of a usual commit. The engine keeps 8 to 16 of them in a page and evicts whole pages, at best all but one of
/// each of its 256 shards: with large parts it would keep the whole log in memory.
const USUAL_BYTES: usize = 8 << 10;

/// Streams beyond it are cut into parts of [`PART_BYTES`], so that their number suffices.
const LARGE_STREAM: usize = 128 << 20;

/// Bytes of stream in every part but the last one. With the longest header a part has at most its nominal size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// Of a usual commit.
    Usual,
    /// Of a very large one.
    Large,
}

const HEADER: usize = 6;
const TRAILER: usize = 18;
/// The format of parts that this version writes, and the highest that it reads.
pub(super) const VERSION: u8 = 1;
const LAST: u8 = 1;
const LARGE: u8 = 2;

/// A record's key: commit and part, both big-endian, so that the engine keeps them in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PartKey {
    /// The commit.
    pub(super) seq: u64,
    /// The part, from 0.
    pub(super) part: u16,
}

/// What the last part of a commit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    /// Parts of the commit.
    pub(super) parts: u16,
    /// Commits below it are no longer needed.
    pub(super) floor: u64,
    /// The highest job id ever used.
    pub(super) highest: u64,
}

/// A part as read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    /// On the last one.
    pub(super) seal: Option<Seal>,
    /// How the stream was cut.
    pub(super) chunk: Chunk,
    /// The piece of the stream.
    pub(super) bytes: Bytes,
}

/// Why bytes are not a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadPart {
    /// They were changed or cut.
    Bad(&'static str),
    /// A later version wrote them.
    Newer(u8),
}

impl PartKey {
    /// As the engine sees it.
    pub(super) fn bytes(self) -> [u8; 10] {
        let mut key = [0; 10];
        key[..8].copy_from_slice(&self.seq.to_be_bytes());
        key[8..].copy_from_slice(&self.part.to_be_bytes());
        key
    }

    /// From the engine; `None` if it is no such key.
    pub(super) fn read(mut key: &[u8]) -> Option<PartKey> {
        (key.len() == 10).then(|| PartKey { seq: key.get_u64(), part: key.get_u16() })
    }
}

impl Chunk {
    /// How a stream of this length is cut.
    pub(super) fn of(stream: usize) -> Chunk {
        if stream > LARGE_STREAM { Chunk::Large } else { Chunk::Usual }
    }

    /// Bytes of the stream in every part but the last one.
    pub(super) fn bytes(self) -> usize {
        let part = match self {
            Chunk::Usual => USUAL_BYTES,
            Chunk::Large => PART_BYTES,
        };
        part - HEADER - TRAILER
    }
}

/// How many parts a stream of this length makes; `None` if it is too long.
pub(super) fn parts(stream: usize) -> Option<u16> {
    u16::try_from(stream.div_ceil(Chunk::of(stream).bytes()).max(1)).ok()
}

/// One part, ready for the engine.
pub(super) fn seal(key: PartKey, cut: Chunk, chunk: &[u8], seal: Option<Seal>) -> Vec<u8> {
    let mut part = Vec::with_capacity(HEADER + TRAILER + chunk.len());
    part.put_u8(VERSION);
    part.put_u8(if seal.is_some() { LAST } else { 0 } | if cut == Chunk::Large { LARGE } else { 0 });
    part.put_u32_le(0);
    if let Some(seal) = seal {
        part.put_u16_le(seal.parts);
        part.put_u64_le(seal.floor);
        part.put_u64_le(seal.highest);
    }
    part.put_slice(chunk);
    let crc = checksum(key, &part);
    part[2..HEADER].copy_from_slice(&crc.to_le_bytes());
    part
}

/// Checks and takes apart what the engine kept under `key`.
pub(super) fn open(key: PartKey, mut value: Bytes) -> Result<Part, BadPart> {
    if value.len() < HEADER {
        return Err(BadPart::Bad("a part is too short"));
    }
    let stored = u32::from_le_bytes([value[2], value[3], value[4], value[5]]);
    if checksum(key, &value) != stored {
        return Err(BadPart::Bad("a part fails its checksum"));
    }
    let version = value.get_u8();
    let flags = value.get_u8();
    value.advance(4);
    if version > VERSION {
        return Err(BadPart::Newer(version));
    }
    let chunk = if flags & LARGE == 0 { Chunk::Usual } else { Chunk::Large };
    if flags & LAST == 0 {
        return Ok(Part { seal: None, chunk, bytes: value });
    }
    if value.len() < TRAILER {
        return Err(BadPart::Bad("a last part is too short"));
    }
    let seal = Seal { parts: value.get_u16_le(), floor: value.get_u64_le(), highest: value.get_u64_le() };
    Ok(Part { seal: Some(seal), chunk, bytes: value })
}

fn checksum(key: PartKey, part: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&key.bytes());
    crc.update(&part[..2]);
    crc.update(&part[HEADER..]);
    crc.finalize()
}
