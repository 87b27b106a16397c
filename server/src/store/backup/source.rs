//! Where facts and blobs are read from, one by one: a backup, or a directory that nobody serves. What is damaged is named
//! and passed over.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use taskq_core::id::{JobId, WallTime};

use super::{
    About, Damage, Error, VERSION,
    directory::Directory,
    frame::{self, Closing, Head, Kind, Opening},
    scan::{Found, Scan},
    unreadable,
};
use crate::{
    access::Token,
    store::{codec, codec::record::Record, entries::Entries},
};

/// A backup, or a data directory.
#[derive(Debug)]
pub enum Source {
    /// A backup.
    File(PathBuf),
    /// A directory, locked as a server would lock it.
    Directory(Box<Directory>),
}

/// What is in it.
#[derive(Debug)]
pub(super) enum Piece {
    /// Where it is from.
    About { about: About, epoch: u64 },
    /// A fact.
    Record(Record),
    /// A large payload, which is what its digest says.
    Blob([u8; 32], Bytes),
    /// What should have come before, at the end of a backup.
    Closing(Closing),
    /// The highest job id ever used, of a directory.
    Highest(u64),
    /// A place that is not as it was written.
    Damage(Damage),
}

/// Takes pieces.
pub(super) type Visit<'a> = dyn FnMut(Piece) -> Result<(), Error> + 'a;

impl Source {
    /// Opens what is at `path`; a directory is locked, and its engine's files are copied, so that they stay as they are.
    ///
    /// # Errors
    /// If it cannot be read, or a server has the directory.
    pub fn open(path: &Path) -> Result<Source, Error> {
        let meta = std::fs::metadata(path).map_err(unreadable(path))?;
        match meta.is_dir() {
            true => Ok(Source::Directory(Box::new(Directory::open(path)?))),
            false => Ok(Source::File(path.to_owned())),
        }
    }

    /// The file or directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Source::File(path) => path,
            Source::Directory(directory) => directory.path(),
        }
    }

    /// Visits all that is there. Returns the number of bytes read.
    pub(super) fn walk(&self, visit: &mut Visit<'_>) -> Result<u64, Error> {
        match self {
            Source::File(path) => walk(path, visit),
            Source::Directory(directory) => directory.walk(visit),
        }
    }
}

fn walk(path: &Path, visit: &mut Visit<'_>) -> Result<u64, Error> {
    let file = File::open(path).map_err(unreadable(path))?;
    let mut scan = Scan::new(file, path);
    let mut blob = Blob::default();
    let mut frames = 0;
    loop {
        match scan.next().map_err(unreadable(path))? {
            None => break,
            Some(Found::Damage(damage)) => visit(Piece::Damage(damage))?,
            Some(Found::Frame { at, head, body, before }) => {
                frames += 1;
                let place = Place { path, bytes: (at, scan.at()), head: &head };
                match head.kind() {
                    Kind::Opening => opening(&place, &body, visit)?,
                    Kind::Facts => facts(&place, body, visit)?,
                    Kind::Blob => blob.add(&place, &body, visit)?,
                    Kind::Closing => closing(&place, &body, before, visit)?,
                    Kind::Unknown => visit(place.damage("is of no known kind"))?,
                }
            }
        }
    }
    if frames == 0 {
        return Err(Error::NotOne { path: path.to_owned() });
    }
    Ok(scan.at())
}

/// A frame, for messages.
struct Place<'a> {
    path: &'a Path,
    bytes: (u64, u64),
    head: &'a Head,
}

impl Place<'_> {
    fn damage(&self, what: &str) -> Piece {
        let jobs = frame::spans(&self.head.jobs);
        Piece::Damage(Damage {
            file: self.path.to_owned(),
            bytes: Some(self.bytes),
            what: format!("frame {} {what}", self.head.number),
            jobs: jobs.into_iter().map(|(first, last)| (JobId(first), JobId(last))).collect(),
        })
    }
}

fn opening(place: &Place<'_>, body: &Bytes, visit: &mut Visit<'_>) -> Result<(), Error> {
    let Ok(opening) = Opening::decode(body.clone()) else {
        return visit(place.damage("does not say where the backup is from"));
    };
    if opening.format > VERSION {
        return Err(Error::Newer { path: place.path.to_owned(), found: opening.format });
    }
    let token = Some(opening.token).filter(|token| !token.is_empty()).map(Token::kept);
    let (wall, version, salvaged) = (WallTime(opening.wall), opening.version, opening.salvaged);
    let about = About { wall, version, token, salvaged };
    visit(Piece::About { about, epoch: opening.epoch })
}

fn facts(place: &Place<'_>, body: Bytes, visit: &mut Visit<'_>) -> Result<(), Error> {
    let mut entries = Entries::of(0);
    entries.push(body);
    let mut records = 0;
    loop {
        match entries.take() {
            Ok(Some((_, record))) if record.body.is_some() => visit(Piece::Record(record))?,
            Ok(Some(_)) => visit(place.damage("has a record of no kind"))?,
            Ok(None) => break,
            Err(codec::Error::Newer(found)) => {
                return Err(Error::Newer { path: place.path.to_owned(), found: u32::from(found) });
            }
            Err(codec::Error::Bad(what)) => return visit(place.damage(&format!("is damaged: {what}"))),
        }
        records += 1;
    }
    match entries.finish() {
        Ok(()) if records == place.head.records => Ok(()),
        Ok(()) | Err(_) => visit(place.damage("has not as many records as it says")),
    }
}

fn closing(place: &Place<'_>, body: &Bytes, sha256: [u8; 32], visit: &mut Visit<'_>) -> Result<(), Error> {
    let Ok(closing) = Closing::decode(body.clone()) else {
        return visit(place.damage("does not say what is in the backup"));
    };
    if closing.sha256 != sha256.as_slice() {
        visit(place.damage("says that what comes before it is not what was written"))?;
    }
    visit(Piece::Closing(closing))
}

/// A blob that is being put together.
#[derive(Default)]
struct Blob {
    digest: Bytes,
    bytes: Vec<u8>,
}

impl Blob {
    /// Adds a stretch. One whose beginning was lost is passed over: it was named with the frame that is damaged.
    fn add(&mut self, place: &Place<'_>, stretch: &Bytes, visit: &mut Visit<'_>) -> Result<(), Error> {
        let head = place.head;
        if head.offset == 0 {
            self.digest = head.blob.clone();
            self.bytes.clear();
        }
        if self.digest != head.blob || head.offset != self.bytes.len() as u64 {
            return Ok(());
        }
        self.bytes.extend_from_slice(stretch);
        if (self.bytes.len() as u64) < head.whole {
            return Ok(());
        }
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        self.digest = Bytes::new();
        match digest.as_slice() == head.blob {
            true => visit(Piece::Blob(digest, bytes)),
            false => visit(place.damage("ends a blob that is not what its name says")),
        }
    }
}
