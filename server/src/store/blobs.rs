//! Large payloads: files named by the SHA-256 of what is in them, beside the log. Each is whole and synced before the
//! commit that names it.

use std::{
    fs::{self, File, FileTimes},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{Error, dirs, trouble::failed};

/// A blob that nothing names yet is left alone so long: its job may be on the way.
const GRACE: Duration = Duration::from_secs(3600);

/// The directory of blobs.
#[derive(Debug)]
pub(super) struct Blobs {
    root: PathBuf,
    bytes: AtomicU64,
    /// Names temporary files.
    counter: AtomicU64,
}

impl Blobs {
    /// In `dir/blobs-sha256`; files that were never finished are removed.
    pub(super) fn open(dir: &Path) -> Result<Blobs, Error> {
        let root = dir.join("blobs-sha256");
        let blobs = Blobs { root, bytes: AtomicU64::new(0), counter: AtomicU64::new(0) };
        dirs::create(&blobs.root).map_err(|c| failed("create", &blobs.root, c))?;
        dirs::sync(dir)?;
        blobs.each(|path, digest, size| {
            match digest {
                Some(_) => drop(blobs.bytes.fetch_add(size, Ordering::Relaxed)),
                None => fs::remove_file(path).map_err(|c| failed("remove", path, c))?,
            }
            Ok(())
        })?;
        Ok(blobs)
    }

    /// See [`Store::put_blob`](super::Store::put_blob).
    pub(super) fn put(&self, sha256: [u8; 32], bytes: &[u8]) -> Result<(), Error> {
        let path = self.path(&sha256);
        let folder = path.parent().unwrap_or(&self.root);
        if let Ok(file) = File::open(&path) {
            let now = self.now()?;
            file.set_times(FileTimes::new().set_modified(now)).map_err(|c| failed("touch", &path, c))?;
            // It may have been put there a moment ago by somebody who has not synced yet, or was killed before that.
            return dirs::sync(folder);
        }
        if !folder.is_dir() {
            dirs::create(folder).map_err(|c| failed("create", folder, c))?;
            dirs::sync(&self.root)?;
        }
        let temporary = self.temporary();
        let written = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, &path));
        if let Err(cause) = written {
            drop(fs::remove_file(&temporary));
            return Err(failed("write", &path, cause));
        }
        dirs::sync(folder)?;
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// See [`Store::blob`](super::Store::blob).
    pub(super) fn get(&self, sha256: &[u8; 32]) -> Result<Option<Bytes>, Error> {
        let path = self.path(sha256);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(failed("read", &path, cause)),
        };
        if Sha256::digest(&bytes).as_slice() != sha256 {
            let what = format!("{} is not what its name says", path.display());
            return Err(Error::Corrupt { dir: self.root.clone(), what });
        }
        Ok(Some(bytes.into()))
    }

    /// See [`Store::has_blob`](super::Store::has_blob).
    pub(super) fn has(&self, sha256: &[u8; 32]) -> bool {
        self.path(sha256).is_file()
    }

    /// See [`Store::sweep_blobs`](super::Store::sweep_blobs). Returns the bytes won.
    pub(super) fn sweep(&self, used: &dyn Fn(&[u8; 32]) -> bool) -> Result<u64, Error> {
        let now = self.now()?;
        let mut won = 0;
        self.each(|path, digest, size| {
            let Some(digest) = digest else { return Ok(()) };
            let modified =
                fs::metadata(path).and_then(|m| m.modified()).map_err(|c| failed("read", path, c))?;
            let old = now.duration_since(modified).is_ok_and(|age| age > GRACE);
            if old && !used(&digest) {
                fs::remove_file(path).map_err(|c| failed("remove", path, c))?;
                won += size;
            }
            Ok(())
        })?;
        self.bytes.fetch_sub(won, Ordering::Relaxed);
        Ok(won)
    }

    /// Those of a directory, as they are; `None` if it has none.
    pub(super) fn look(dir: &Path) -> Option<Blobs> {
        let root = dir.join("blobs-sha256");
        root.is_dir().then(|| Blobs { root, bytes: AtomicU64::new(0), counter: AtomicU64::new(0) })
    }

    /// The names of all blobs, in order.
    pub(super) fn digests(&self) -> Result<Vec<[u8; 32]>, Error> {
        let mut digests = Vec::new();
        self.each(|_, digest, _| {
            digests.extend(digest);
            Ok(())
        })?;
        digests.sort_unstable();
        Ok(digests)
    }

    /// Bytes of all blobs.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn path(&self, sha256: &[u8; 32]) -> PathBuf {
        let name = hex(sha256);
        self.root.join(&name[..2]).join(&name[2..])
    }

    fn temporary(&self) -> PathBuf {
        self.root.join(format!("new-{}", self.counter.fetch_add(1, Ordering::Relaxed)))
    }

    /// The time as the file system stamps it: blobs are compared with nothing else.
    fn now(&self) -> Result<SystemTime, Error> {
        let probe = self.temporary();
        let stamped = File::create(&probe).and_then(|f| f.metadata()).and_then(|m| m.modified());
        drop(fs::remove_file(&probe));
        stamped.map_err(|c| failed("write", &probe, c))
    }

    /// Every file with its digest, if its name is one.
    fn each(
        &self,
        mut visit: impl FnMut(&Path, Option<[u8; 32]>, u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for entry in list(&self.root)? {
            if !entry.is_dir() {
                visit(&entry, None, 0)?;
                continue;
            }
            let prefix = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for file in list(&entry)? {
                let rest = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let size = fs::metadata(&file).map_err(|c| failed("read", &file, c))?.len();
                visit(&file, unhex(&(prefix.clone() + &rest)), size)?;
            }
        }
        Ok(())
    }
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(dir).map_err(|c| failed("read", dir, c))?;
    entries.map(|e| e.map(|e| e.path()).map_err(|c| failed("read", dir, c))).collect()
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}
