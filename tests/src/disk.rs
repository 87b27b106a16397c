//! File systems that a test may break: an ext4 image behind a loop device, or a small tmpfs. Needs root.
//!
//! A snapshot of the image is what a power cut leaves: everything that the kernel had sent to the device, nothing that
//! was still only in the file system's memory. The journal is committed by fsync alone (`commit=600`), and a file that
//! replaces another is not written out for that (`noauto_da_alloc`), so nothing reaches the device by luck.

use crate::wait;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A mounted file system, unmounted and removed on drop.
pub struct Disk {
    holder: TempDir,
    mount: PathBuf,
}

impl Disk {
    /// A fresh ext4 of `mib` MiB.
    pub fn ext4(mib: u64) -> Self {
        let holder = holder();
        let image = holder.path().join("image");
        let file = fs::File::create(&image).expect("create an image");
        file.set_len(mib << 20).expect("size the image");
        must("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"], &[&image]);
        Self::mount_image(holder)
    }

    /// A tmpfs of `mib` MiB.
    pub fn tmpfs(mib: u64) -> Self {
        let holder = holder();
        let mount = mount_point(&holder);
        must("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"], &[&mount]);
        Self { holder, mount }
    }

    /// The device as it is now, mounted as a machine would after a power cut.
    pub fn power_cut(&self) -> Self {
        let holder = holder();
        let (from, to) = (self.holder.path().join("image"), holder.path().join("image"));
        must("cp", &["--sparse=always", "--reflink=auto"], &[&from, &to]);
        Self::mount_image(holder)
    }

    /// The folder where it is mounted.
    pub fn folder(&self) -> &Path {
        &self.mount
    }

    /// Makes it read-only.
    pub fn read_only(&self) {
        must("mount", &["-o", "remount,ro"], &[&self.mount]);
    }

    /// Writes a file of zeros until nothing more fits; removing it gives the space back.
    pub fn fill(&self) -> PathBuf {
        let path = self.mount.join("filler");
        let mut file = fs::File::create(&path).expect("create the filler");
        let block = vec![0; 64 << 10];
        for size in [block.len(), 512, 1] {
            while std::io::Write::write_all(&mut file, &block[..size]).is_ok() {}
        }
        path
    }

    fn mount_image(holder: TempDir) -> Self {
        let (image, mount) = (holder.path().join("image"), mount_point(&holder));
        must("mount", &["-o", "loop,commit=600,noauto_da_alloc"], &[&image, &mount]);
        Self { holder, mount }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted =
            || Command::new("umount").arg(&self.mount).output().is_ok_and(|done| done.status.success());
        if std::thread::panicking() {
            // A process of the failed test may hold it: let go of the name at least.
            let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
        } else {
            wait::holds("the file system is unmounted", unmounted);
        }
    }
}

fn holder() -> TempDir {
    tempfile::Builder::new().prefix("taskq-disk-").tempdir().expect("a temporary folder")
}

fn mount_point(holder: &TempDir) -> PathBuf {
    let mount = holder.path().join("mount");
    fs::create_dir(&mount).expect("create a mount point");
    mount
}

fn must(program: &str, flags: &[&str], paths: &[&Path]) {
    let done = Command::new(program).args(flags).args(paths).output();
    let done = done.unwrap_or_else(|cause| panic!("cannot run {program}: {cause}"));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {flags:?} {paths:?}: {said}");
}
