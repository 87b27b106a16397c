//! The number of the last acknowledged commit, kept beside the engine.
//!
//! An engine that finds the end of its file damaged takes that for a write that a crash cut off, and drops it. Whether
//! it was acknowledged only somebody else can know. The witness is written after each sync and not synced itself, so it
//! may lag behind after a power cut, but it never runs ahead of what is durable.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::Error;

/// Two slots that are written in turn, so that a torn write leaves the other one.
#[derive(Debug)]
pub(super) struct Witness {
    path: PathBuf,
    file: File,
}

const SLOT: u64 = 512;

impl Witness {
    /// Opens or creates `dir/acked`, and reads the number, 0 if there is none.
    pub(super) fn open(dir: &Path) -> Result<(Witness, u64), Error> {
        let path = dir.join("acked");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|cause| Error::Io { act: "open", path: path.clone(), cause })?;
        let witness = Witness { path, file };
        let seq = witness.read(0).max(witness.read(1));
        Ok((witness, seq))
    }

    /// Commits up to `seq` are acknowledged from now on.
    pub(super) fn write(&self, seq: u64) -> Result<(), Error> {
        let seq_bytes = seq.to_le_bytes();
        let mut slot = [0; 12];
        slot[..8].copy_from_slice(&seq_bytes);
        slot[8..].copy_from_slice(&crc32fast::hash(&seq_bytes).to_le_bytes());
        self.file.write_all_at(&slot, seq % 2 * SLOT).map_err(|cause| self.failed("write", cause))
    }

    /// Makes the number durable; not needed for safety.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|cause| self.failed("sync", cause))
    }

    fn read(&self, slot: u64) -> u64 {
        let mut bytes = [0; 12];
        if self.file.read_exact_at(&mut bytes, slot * SLOT).is_err() {
            return 0;
        }
        let (seq, crc) = bytes.split_at(8);
        let valid = crc32fast::hash(seq).to_le_bytes() == crc;
        if valid { u64::from_le_bytes(seq.try_into().unwrap_or_default()) } else { 0 }
    }

    fn failed(&self, act: &'static str, cause: io::Error) -> Error {
        Error::Io { act, path: self.path.clone(), cause }
    }
}
