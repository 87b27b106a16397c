//! Directories that only their owner can look into: what jobs are given and write is nobody else's business.

use std::{fs::DirBuilder, io, os::unix::fs::DirBuilderExt, path::Path};

/// Makes a directory, and what is missing above it, with mode 0700. One that is there stays as it is.
pub(super) fn create(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
