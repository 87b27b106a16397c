//! One entry's frame: length, checksum, version.

use bytes::{Buf, BufMut, Bytes};
use prost::Message;

use super::{
    Error, VERSION,
    press::{self, Press},
    record::{Body, Record},
};

/// The format of a record that is pressed.
const PRESSED: u8 = 3;

/// Appends a record as an entry and returns how many bytes that took.
pub(in crate::store) fn frame(record: &Record, press: &mut Press, stream: &mut Vec<u8>) -> usize {
    let start = stream.len();
    let plain = record.encoded_len();
    let pressed = if worth_pressing(record) { press.press(record, plain) } else { None };
    prost::encoding::encode_varint(1 + pressed.map_or(plain, <[u8]>::len) as u64, stream);
    let crc_at = stream.len();
    stream.put_u32_le(0);
    match pressed {
        Some(bytes) => {
            stream.push(PRESSED);
            stream.put_slice(bytes);
        }
        None => {
            stream.push(format(record));
            record.encode_raw(stream);
        }
    }
    let crc = crc32fast::hash(&stream[crc_at + 4..]);
    stream[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
    stream.len() - start
}

/// Appends a record as an entry that is not pressed.
pub(in crate::store) fn plain(record: &Record, stream: &mut Vec<u8>) {
    prost::encoding::encode_varint(1 + record.encoded_len() as u64, stream);
    let crc_at = stream.len();
    stream.put_u32_le(0);
    stream.push(format(record));
    record.encode_raw(stream);
    let crc = crc32fast::hash(&stream[crc_at + 4..]);
    stream[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Ends of many tasks say nearly the same. Submissions do as well, but each has an entry of its own, and output is
/// as its program made it.
fn worth_pressing(record: &Record) -> bool {
    matches!(record.body, Some(Body::Ends(_)))
}

/// The lowest format that knows all of a plain record: what an earlier version understands, it may read.
fn format(record: &Record) -> u8 {
    match &record.body {
        Some(Body::Submitted(submitted)) if submitted.limited => 4,
        Some(Body::Submitted(submitted)) if submitted.call => 2,
        Some(_) | None => 1,
    }
}

/// What a stretch of stream, cut anywhere, holds at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Need {
    /// A whole entry of this many bytes.
    Entry(usize),
    /// At least this many bytes are needed to say more.
    More(usize),
}

/// How long is the entry at the start of `bytes`?
pub(in crate::store) fn need(bytes: &[u8]) -> Result<Need, Error> {
    let ends = bytes.iter().take(10).position(|b| b & 0x80 == 0);
    let Some(header) = ends.map(|last| last + 1) else {
        return if bytes.len() < 10 {
            Ok(Need::More(bytes.len() + 1))
        } else {
            Err(Error::Bad("a length is wrong"))
        };
    };
    let body =
        prost::encoding::decode_varint(&mut &bytes[..header]).map_err(|_| Error::Bad("a length is wrong"))?;
    let whole = usize::try_from(body).ok().and_then(|b| b.checked_add(header + 4));
    let whole = whole.filter(|w| *w <= u32::MAX as usize).ok_or(Error::Bad("a length is wrong"))?;
    Ok(if bytes.len() < whole { Need::More(whole) } else { Need::Entry(whole) })
}

/// Checks and decodes one whole entry.
pub(in crate::store) fn open(mut entry: Bytes) -> Result<Record, Error> {
    if need(&entry)? != Need::Entry(entry.len()) {
        return Err(Error::Bad("an entry has the wrong length"));
    }
    while entry.has_remaining() && entry.get_u8() & 0x80 != 0 {}
    let crc = entry.get_u32_le();
    if crc32fast::hash(&entry) != crc {
        return Err(Error::Bad("an entry fails its checksum"));
    }
    let Some(version) = entry.try_get_u8().ok() else { return Err(Error::Bad("an entry is empty")) };
    if version > VERSION {
        return Err(Error::Newer(version));
    }
    let plain = if version == PRESSED { press::unpress(entry)? } else { entry };
    Record::decode(plain).map_err(|_| Error::Bad("an entry cannot be decoded"))
}
