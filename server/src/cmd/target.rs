//! The file that a backup is written to: beside its place until it is whole and on the disk, so that a file of that name is
//! always a whole one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal as _},
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Why it cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It would be lost.
    #[error("{path} is there already; name another file, or say --force to replace it")]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// Nobody reads that.
    #[error("a backup is not for a terminal; name a file, or send it on: taskq-server backup - | ...")]
    Terminal,
    /// The disk refuses.
    #[error("cannot write {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

impl Error {
    pub(super) fn code(&self) -> u8 {
        match self {
            Error::Exists { .. } => 73,
            Error::Terminal => 2,
            Error::Io { .. } => 74,
        }
    }
}

/// A file that is not in its place yet, or standard output.
#[derive(Debug)]
pub(super) struct Target {
    file: File,
    /// `None` for standard output.
    place: Option<Place>,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    beside: PathBuf,
}

impl Target {
    /// Begins one. Readable by its owner only: it holds what jobs were given, and the token.
    pub(super) fn create(path: &Path, force: bool) -> Result<Target, Error> {
        let said = |cause| Error::Io { path: path.to_owned(), cause };
        if path == Path::new("-") {
            if io::stdout().is_terminal() {
                return Err(Error::Terminal);
            }
            let file = io::stdout().as_fd().try_clone_to_owned().map_err(said)?;
            return Ok(Target { file: file.into(), place: None });
        }
        if !force && path.symlink_metadata().is_ok() {
            return Err(Error::Exists { path: path.to_owned() });
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.unfinished", std::process::id()));
        let beside = path.with_file_name(name);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)
            .map_err(said)?;
        Ok(Target { file, place: Some(Place { path: path.to_owned(), beside }) })
    }

    /// Where to write.
    pub(super) fn file(&self) -> Result<File, Error> {
        self.file.try_clone().map_err(|cause| self.said(cause))
    }

    /// All of it is written: makes that durable, and puts it into its place.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        let Some(place) = &self.place else { return Ok(()) };
        let folder = place.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let done = self
            .file
            .sync_all()
            .and_then(|()| fs::rename(&place.beside, &place.path))
            .and_then(|()| File::open(folder.unwrap_or(Path::new(".")))?.sync_all());
        done.map_err(|cause| self.said(cause))?;
        self.place = None;
        Ok(())
    }

    pub(super) fn said(&self, cause: io::Error) -> Error {
        let path = self.place.as_ref().map_or_else(|| "standard output".into(), |place| place.path.clone());
        Error::Io { path, cause }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(place) = &self.place
            && let Err(error) = fs::remove_file(&place.beside)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %place.beside.display(), "cannot remove what is left of the backup");
        }
    }
}
