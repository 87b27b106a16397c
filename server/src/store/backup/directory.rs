//! A data directory that may be damaged, read as far as it goes. Its engine cuts a damaged file off when it opens it, so
//! it is given a copy; the directory itself stays as it is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    About, Damage, Error,
    source::{Piece, Visit},
    unreadable,
};
use crate::{
    access, clock,
    store::{
        blobs::Blobs,
        codec::{self, Need},
        dirs,
        entries::Entries,
        lock::DirLock,
        part::{self, BadPart, PartKey, VERSION},
        sled::{Engine, Failure},
        trouble::{Place, failed},
        witness,
    },
};

/// Where the copy is.
const COPY: &str = "doctor.copy";

/// A directory that nobody serves meanwhile.
#[derive(Debug)]
pub struct Directory {
    dir: PathBuf,
    /// `Err` if the engine cannot open its files.
    engine: Result<Engine, String>,
    _copy: Copy,
    _lock: DirLock,
}

/// Removed at the end.
#[derive(Debug)]
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "cannot remove the copy");
        }
    }
}

/// Where the reading has got.
struct Reading {
    due: Option<PartKey>,
    entries: Entries,
    /// An entry began in a part that is lost: the next one is looked for.
    adrift: bool,
}

impl Directory {
    pub(super) fn open(dir: &Path) -> Result<Directory, Error> {
        let files = dir.join("sled");
        if !files.is_dir() {
            return Err(Error::NoStore { dir: dir.to_owned() });
        }
        let lock = DirLock::take(dir)?;
        let copy = Copy(dir.join(COPY));
        if copy.0.exists() {
            fs::remove_dir_all(&copy.0).map_err(|cause| failed("remove", &copy.0, cause))?;
        }
        dirs::create(&copy.0).map_err(|cause| failed("create", &copy.0, cause))?;
        for entry in fs::read_dir(&files).map_err(unreadable(&files))? {
            let path = entry.map_err(unreadable(&files))?.path();
            if path.is_file() {
                let to = copy.0.join(path.file_name().unwrap_or_default());
                fs::copy(&path, &to).map_err(|cause| failed("copy", &path, cause))?;
            }
        }
        let engine = match Engine::open(&copy.0) {
            Ok(engine) => Ok(engine),
            Err(Failure::Corrupt(what)) => Err(what),
            Err(Failure::Io(cause)) => return Err(failed("open", &copy.0, cause).into()),
        };
        Ok(Directory { dir: dir.to_owned(), engine, _copy: copy, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    pub(super) fn walk(&self, visit: &mut Visit<'_>) -> Result<u64, Error> {
        let token = match access::token_in(&self.dir) {
            Ok(token) => token,
            Err(error) => {
                visit(self.damage("access.toml", error.to_string()))?;
                None
            }
        };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        visit(Piece::About {
            about: About { wall: clock::wall(), version, token, salvaged: false },
            epoch: 0,
        })?;
        if super::unfinished(&self.dir).map_err(unreadable(&self.dir))? {
            visit(self.damage("restoring", "a restore into this directory was cut off; restore again"))?;
        }
        let bytes = match &self.engine {
            Ok(engine) => self.log(engine, visit)?,
            Err(what) => {
                visit(self.damage("sled", format!("the engine cannot open its files: {what}")))?;
                0
            }
        };
        Ok(bytes + self.blobs(visit)?)
    }

    fn damage(&self, file: &str, what: impl Into<String>) -> Piece {
        Piece::Damage(Damage { file: self.dir.join(file), bytes: None, what: what.into(), jobs: Vec::new() })
    }

    /// Every whole entry. The last commit that has an end says which of them count.
    fn log(&self, engine: &Engine, visit: &mut Visit<'_>) -> Result<u64, Error> {
        let place = Place(self.dir.clone());
        let (floor, last, highest) = self.extent(engine)?;
        visit(Piece::Highest(highest))?;
        match witness::acked_in(&place)? {
            Some(acked) if acked > last => visit(self.damage(
                "sled",
                format!("commits up to {acked} were acknowledged, and the log ends at {last}"),
            ))?,
            Some(_) => {}
            None => visit(self.damage("acked", "it does not say how much was acknowledged"))?,
        }
        let start = PartKey { seq: floor, part: 0 };
        let mut reading = Reading { due: Some(start), entries: Entries::of(floor), adrift: false };
        let mut bytes = 0;
        for item in engine.scan(start).map_err(|f| place.engine("read", f))? {
            let (key, value) = match item {
                Ok(item) => item,
                Err(Failure::Corrupt(what)) => {
                    visit(self.damage("sled", format!("the engine cannot read on: {what}")))?;
                    break;
                }
                Err(Failure::Io(cause)) => return Err(place.io("read", cause).into()),
            };
            if key.seq > last {
                break;
            }
            bytes += value.len() as u64;
            self.part(key, value, &mut reading, visit)?;
        }
        Ok(bytes)
    }

    fn part(
        &self,
        key: PartKey,
        value: Bytes,
        reading: &mut Reading,
        visit: &mut Visit<'_>,
    ) -> Result<(), Error> {
        if reading.due.is_some_and(|due| due != key) {
            let due = reading.due.unwrap_or(key);
            visit(self.damage("sled", format!("commit {}, part {} is missing", due.seq, due.part)))?;
            reading.adrift = key.part > 0;
            reading.entries = Entries::of(key.seq);
        }
        reading.due = Some(PartKey { seq: key.seq, part: key.part.saturating_add(1) });
        let (seal, bytes) = match part::open(key, value) {
            Ok(part) => (part.seal, part.bytes),
            Err(BadPart::Newer(found)) => {
                let (found, known) = (u32::from(found), u32::from(VERSION));
                return Err(crate::store::Error::Newer { dir: self.dir.clone(), found, known }.into());
            }
            Err(BadPart::Bad(what)) => {
                reading.adrift = true;
                // Whether it was the last of its commit is not known.
                reading.due = None;
                return visit(self.damage("sled", format!("{what} (commit {}, part {})", key.seq, key.part)));
            }
        };
        if key.part == 0 {
            reading.adrift = false;
            reading.entries = Entries::of(key.seq);
        }
        let bytes = match std::mem::take(&mut reading.adrift) {
            false => bytes,
            true => match next_entry(&bytes) {
                Some(at) => {
                    reading.entries = Entries::of(key.seq);
                    bytes.slice(at..)
                }
                None => {
                    reading.adrift = seal.is_none();
                    Bytes::new()
                }
            },
        };
        if !bytes.is_empty() {
            reading.entries.push(bytes);
        }
        loop {
            match reading.entries.take() {
                Ok(Some((_, record))) if record.body.is_some() => visit(Piece::Record(record))?,
                Ok(Some(_)) => {
                    visit(self.damage("sled", format!("commit {} has an entry of no kind", key.seq)))?
                }
                Ok(None) => break,
                Err(error) => {
                    visit(self.damage("sled", format!("{error} (commit {}, part {})", key.seq, key.part)))?;
                    (reading.entries, reading.adrift) = (Entries::of(key.seq), true);
                    break;
                }
            }
        }
        if seal.is_some() {
            reading.due = Some(PartKey { seq: key.seq + 1, part: 0 });
            reading.entries = Entries::of(key.seq + 1);
            reading.adrift = false;
        }
        Ok(())
    }

    /// First and last commit, and the highest job id, as far as that can be told.
    fn extent(&self, engine: &Engine) -> Result<(u64, u64, u64), Error> {
        let place = Place(self.dir.clone());
        let mut scan = engine.scan(PartKey { seq: 0, part: 0 }).map_err(|f| place.engine("read", f))?;
        while let Some(item) = scan.next_back() {
            let Ok((key, value)) = item else { break };
            if let Ok(part) = part::open(key, value)
                && let Some(seal) = part.seal
            {
                return Ok((seal.floor, key.seq, seal.highest));
            }
        }
        Ok((1, 0, 0))
    }

    fn blobs(&self, visit: &mut Visit<'_>) -> Result<u64, Error> {
        let Some(blobs) = Blobs::look(&self.dir) else { return Ok(0) };
        let mut sum = 0;
        for digest in blobs.digests()? {
            match blobs.get(&digest) {
                Ok(Some(bytes)) => {
                    sum += bytes.len() as u64;
                    visit(Piece::Blob(digest, bytes))?;
                }
                Ok(None) => {}
                Err(crate::store::Error::Corrupt { what, .. }) => {
                    visit(self.damage("blobs-sha256", what))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(sum)
    }
}

/// Where in a part that follows a lost one an entry begins that is whole.
fn next_entry(bytes: &Bytes) -> Option<usize> {
    (0..bytes.len()).find(|at| match codec::need(&bytes[*at..]) {
        Ok(Need::Entry(len)) => len > 6 && codec::open(bytes.slice(*at..*at + len)).is_ok(),
        Ok(Need::More(_)) | Err(_) => false,
    })
}
