//! Directories of the store: made for their owner alone, as what jobs are given and write is nobody else's business, and
//! made durable.

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use super::{Error, trouble::failed};

/// Makes a directory, and what is missing above it, with mode 0700. One that is there stays as it is.
pub(super) fn create(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// What was made, renamed or removed right in a directory is so after a power cut, too.
pub(super) fn sync(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|cause| failed("sync", dir, cause))
}
