//! Walks over a log's parts and yields its entries with their places.

use bytes::{Bytes, BytesMut};

use super::codec::{self, Need, record::Record};

/// Where an entry lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loc {
    /// The commit.
    pub(super) seq: u64,
    /// Where in its stream.
    pub(super) offset: u32,
    /// Bytes, with its frame.
    pub(super) len: u32,
}

/// The entries of one commit, fed part by part.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    seq: u64,
    offset: u32,
    /// What is left of the last part, as long as whole entries are in it.
    whole: Bytes,
    /// The beginning of an entry that goes on in the next part.
    partial: BytesMut,
    /// How long `partial` must be to say more.
    wanted: usize,
}

impl Entries {
    /// Of this commit, from the start of its stream.
    pub(super) fn of(seq: u64) -> Entries {
        Entries { seq, ..Entries::default() }
    }

    /// The next part. Every whole entry of the former parts has been taken.
    pub(super) fn push(&mut self, part: Bytes) {
        debug_assert!(self.whole.is_empty(), "entries are taken before the next part comes");
        if self.partial.is_empty() {
            self.whole = part;
        } else {
            self.partial.extend_from_slice(&part);
            if self.partial.len() >= self.wanted {
                self.whole = std::mem::take(&mut self.partial).freeze();
            }
        }
    }

    /// The next whole entry; `None` means that the next part is needed, if there is one.
    pub(super) fn take(&mut self) -> Result<Option<(Loc, Record)>, codec::Error> {
        if self.whole.is_empty() {
            return Ok(None);
        }
        match codec::need(&self.whole)? {
            Need::Entry(len) => {
                let record = codec::open(self.whole.split_to(len))?;
                let len = u32::try_from(len).map_err(|_| codec::Error::Bad("an entry is too long"))?;
                let loc = Loc { seq: self.seq, offset: self.offset, len };
                self.offset =
                    self.offset.checked_add(len).ok_or(codec::Error::Bad("a commit is too long"))?;
                Ok(Some((loc, record)))
            }
            Need::More(wanted) => {
                self.partial = BytesMut::from(&*std::mem::take(&mut self.whole));
                self.wanted = wanted;
                Ok(None)
            }
        }
    }

    /// After the last part: nothing may be left over.
    pub(super) fn finish(&self) -> Result<(), codec::Error> {
        if self.whole.is_empty() && self.partial.is_empty() {
            Ok(())
        } else {
            Err(codec::Error::Bad("a commit ends within an entry"))
        }
    }
}
