//! Records of ends take a twentieth of their bytes: a few hundred outcomes side by side differ in few of them.
//!
//! A pressed body is `length of the plain one (varint) | zstd frame`. Which records are worth it is the caller's to
//! say; here is how, and how long they may be. Backups press whole frames
//! (`backup/frame.rs`); zstd is named nowhere else.

#[cfg(test)]
mod tests;

use std::{cell::RefCell, fmt};

use bytes::Bytes;
use prost::Message;
use zstd::bulk::{Compressor, Decompressor};

use super::{Error, record::Record};

/// One of zstd's fast levels, which look for what is repeated and leave other bytes as they are. Measured on a record
/// of 400 calls: level 1 saves another seventh for half as much time again, and spends three times as much on values
/// that it can hardly shorten.
const LEVEL: i32 = -1;

/// Shorter ones, of one or two tasks, would become hardly shorter.
const SHORTEST: usize = 128;

/// Longer ones hold large values. It also bounds what a damaged length can make a reader allocate.
const LONGEST: usize = 64 << 10;

/// The writer's half: what it needs is kept from record to record.
pub(in crate::store) struct Press {
    compressor: Compressor<'static>,
    plain: Vec<u8>,
    pressed: Vec<u8>,
}

impl Press {
    pub(in crate::store) fn new() -> Press {
        let compressor = Compressor::new(LEVEL).expect("zstd has this level");
        Press { compressor, plain: Vec::new(), pressed: Vec::new() }
    }

    /// A record of `len` bytes as a pressed body; `None` if that would not make it shorter.
    pub(super) fn press(&mut self, record: &Record, len: usize) -> Option<&[u8]> {
        if !(SHORTEST..=LONGEST).contains(&len) {
            return None;
        }
        self.plain.clear();
        record.encode_raw(&mut self.plain);
        self.pressed.clear();
        prost::encoding::encode_varint(len as u64, &mut self.pressed);
        let header = self.pressed.len();
        // One byte too few to be as long as the plain one: zstd says so by giving up.
        self.pressed.resize(len, 0);
        let frame = self.compressor.compress_to_buffer(&self.plain, &mut self.pressed[header..len - 1]);
        frame.ok().map(|frame| &self.pressed[..header + frame])
    }
}

impl fmt::Debug for Press {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Press").finish_non_exhaustive()
    }
}

thread_local! {
    /// A reader's half: 100 KiB that are not to be made for each record.
    static UNPRESS: RefCell<Decompressor<'static>> =
        RefCell::new(Decompressor::new().expect("without a dictionary there is nothing to refuse"));
}

/// The plain body.
pub(super) fn unpress(mut pressed: Bytes) -> Result<Bytes, Error> {
    let len = prost::encoding::decode_varint(&mut pressed).ok().and_then(|len| usize::try_from(len).ok());
    let len = len.filter(|len| *len <= LONGEST).ok_or(Error::Bad("a pressed entry has a wrong length"))?;
    let plain = UNPRESS.with_borrow_mut(|unpress| unpress.decompress(&pressed, len));
    match plain {
        Ok(plain) if plain.len() == len => Ok(plain.into()),
        Ok(_) | Err(_) => Err(Error::Bad("a pressed entry cannot be decoded")),
    }
}
