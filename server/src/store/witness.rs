//! The number of the last acknowledged commit, kept beside the engine in `acked`.
//!
//! An engine that finds the end of its file damaged takes that for a write that a crash cut off, and drops it. Whether
//! it was acknowledged only somebody else can know. The witness is durable at each open, before anything more is
//! acknowledged; after that it is written after each sync and not synced itself, so it may lag behind after a power cut,
//! but it never runs ahead of what is durable.
//!
//! So a store without it is not a young store. What a first start leaves that a power cut ends is told by `acked.none`,
//! which is there before the engine's files are, and becomes `acked` when they are whole.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{
    Error, dirs,
    trouble::{Place, failed},
};

/// Two slots that are written in turn, so that a torn write leaves the other one.
#[derive(Debug)]
pub(super) struct Witness {
    path: PathBuf,
    file: File,
}

const SLOT: u64 = 512;

/// What the witness says before the log is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing was ever acknowledged here.
    None,
    /// Everything up to this commit was.
    Acked(u64),
    /// The same, and one slot cannot be read: it may have said one more.
    Half(u64),
    /// The file cannot be read.
    Damaged,
    /// There is a log, and no such file.
    Missing,
}

impl Found {
    /// Looks at `dir`. Where there is nothing yet it notes, durably, that nothing was acknowledged; what a first start
    /// has left there that did not get further is set aside, as it may be no log at all.
    pub(super) fn look(place: &Place, engine: &Path) -> Result<Found, Error> {
        let (path, none) = (acked(place), unborn(place));
        match File::open(&path) {
            Ok(file) => {
                // Of a directory that was copied over the rest of a first start.
                remove(&none)?;
                return read(&file).map_err(|cause| failed("read", &path, cause));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("open", &path, error)),
        }
        let exists = |path: &Path| path.try_exists().map_err(|cause| failed("look for", path, cause));
        if exists(engine)? {
            if !exists(&none)? {
                return Ok(Found::Missing);
            }
            set_aside(place, engine)?;
        }
        write_whole(&none, 0)?;
        dirs::sync(place.path())?;
        Ok(Found::None)
    }

    /// Checks a log that ends with commit `last`. True if it may be too short, and that is accepted.
    pub(super) fn check(self, place: &Place, last: u64, accept_loss: bool) -> Result<bool, Error> {
        let what = match self {
            Found::Acked(acked) if acked > last => {
                format!("commits up to {acked} were acknowledged, and the log ends at {last}")
            }
            Found::Half(acked) if acked >= last => unknown("is damaged", last),
            Found::Damaged => unknown("is damaged", last),
            Found::Missing => unknown("is missing", last),
            Found::None | Found::Acked(_) | Found::Half(_) => {
                if accept_loss {
                    tracing::warn!("--accept-loss was given and nothing is lost: leave it out from now on");
                }
                return Ok(false);
            }
        };
        if !accept_loss {
            return Err(Error::Loss { dir: place.path().to_owned(), what });
        }
        tracing::warn!(what, "accepted, as --accept-loss says; job numbers go on far above");
        Ok(true)
    }

    /// The log is whole up to `last` and synced: says so, durably.
    pub(super) fn settle(self, place: &Place, last: u64) -> Result<Witness, Error> {
        let path = acked(place);
        let in_place = matches!(self, Found::Acked(acked) if acked <= last);
        if !in_place {
            let new = match self {
                Found::None => unborn(place),
                Found::Acked(_) | Found::Half(_) | Found::Damaged | Found::Missing => {
                    place.path().join("acked.new")
                }
            };
            write_whole(&new, last)?;
            fs::rename(&new, &path).map_err(|cause| failed("write", &path, cause))?;
            dirs::sync(place.path())?;
        }
        let file =
            OpenOptions::new().write(true).open(&path).map_err(|cause| failed("open", &path, cause))?;
        let witness = Witness { path, file };
        if in_place {
            // Needs no room on the disk, and a sector is old or new. Both slots, one after the other: whichever is
            // damaged later, the other knows of everything but the very last commit.
            for number in [last % 2, (last + 1) % 2] {
                witness.write_slot(number, last)?;
                witness.sync()?;
            }
        }
        Ok(witness)
    }
}

impl Witness {
    /// Commits up to `seq` are acknowledged from now on.
    pub(super) fn write(&self, seq: u64) -> Result<(), Error> {
        self.write_slot(seq % 2, seq)
    }

    fn write_slot(&self, number: u64, seq: u64) -> Result<(), Error> {
        let written = self.file.write_all_at(&slot(seq), number * SLOT);
        written.map_err(|cause| failed("write", &self.path, cause))
    }

    /// Makes the number durable.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|cause| failed("sync", &self.path, cause))
    }
}

/// What the file in a directory says, looked at only; `None` if nothing can be told.
pub(super) fn acked_in(place: &Place) -> Result<Option<u64>, Error> {
    let path = acked(place);
    match File::open(&path) {
        Ok(file) => match read(&file).map_err(|cause| failed("read", &path, cause))? {
            Found::Acked(acked) | Found::Half(acked) => Ok(Some(acked)),
            Found::None | Found::Damaged | Found::Missing => Ok(None),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(failed("open", &path, cause)),
    }
}

fn unknown(state: &str, last: u64) -> String {
    format!(
        "the file `acked`, which says how much was acknowledged, {state}: whether the log, which ends at commit \
         {last}, is whole cannot be told, and the newest jobs and results may be lost"
    )
}

/// Nothing is deleted: somebody may have put a log there.
fn set_aside(place: &Place, engine: &Path) -> Result<(), Error> {
    let mut number = 1;
    let aside = loop {
        let aside = place.path().join(format!("sled.unfinished-{number}"));
        if !aside.try_exists().map_err(|cause| failed("look for", &aside, cause))? {
            break aside;
        }
        number += 1;
    };
    tracing::warn!(
        to = %aside.display(),
        "a first start here did not get to its end; what it left is set aside, and can be removed"
    );
    fs::rename(engine, &aside).map_err(|cause| failed("rename", engine, cause))
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn acked(place: &Place) -> PathBuf {
    place.path().join("acked")
}

fn unborn(place: &Place) -> PathBuf {
    place.path().join("acked.none")
}

fn slot(seq: u64) -> [u8; 12] {
    let seq_bytes = seq.to_le_bytes();
    let mut slot = [0; 12];
    slot[..8].copy_from_slice(&seq_bytes);
    slot[8..].copy_from_slice(&crc32fast::hash(&seq_bytes).to_le_bytes());
    slot
}

fn read(file: &File) -> io::Result<Found> {
    Ok(match (read_slot(file, 0)?, read_slot(file, 1)?) {
        (Some(one), Some(other)) => Found::Acked(one.max(other)),
        (Some(one), None) | (None, Some(one)) => Found::Half(one),
        (None, None) => Found::Damaged,
    })
}

/// `None` for what is not there or damaged; a disk that cannot be read is an error.
fn read_slot(file: &File, number: u64) -> io::Result<Option<u64>> {
    let mut bytes = [0; 12];
    match file.read_exact_at(&mut bytes, number * SLOT) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let [a, b, c, d, e, f, g, h, ..] = bytes;
    let seq = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    Ok((slot(seq) == bytes).then_some(seq))
}

/// A durable file in which both slots say `seq`.
fn write_whole(path: &Path, seq: u64) -> Result<(), Error> {
    let write = || {
        let file = File::create(path)?;
        file.write_all_at(&slot(seq), 0)?;
        file.write_all_at(&slot(seq), SLOT)?;
        file.sync_all()
    };
    write().map_err(|cause| failed("write", path, cause))
}
