//! Uploaded blobs: those that no job refers to go an hour after their upload, and no others.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};
use taskq_server::store::{LogStore, Options, Store};

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn file_of(dir: &Path, text: &str) -> PathBuf {
    let name: String = digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    dir.join("blobs-sha256").join(&name[..2]).join(&name[2..])
}

#[test]
fn blobs_go_when_they_are_old_and_unused() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(&Options::new(dir.path())).unwrap();
    let texts = ["old and used", "old", "young and used", "young"];
    for text in texts {
        store.put_blob(digest(text), text.as_bytes()).unwrap();
    }
    #[expect(clippy::disallowed_methods, reason = "the file's age is the test's own")]
    let two_hours_ago = SystemTime::now() - Duration::from_secs(7_200);
    for text in &texts[..2] {
        let file = fs::File::options().write(true).open(file_of(dir.path(), text)).unwrap();
        file.set_modified(two_hours_ago).unwrap();
    }
    let used = [digest(texts[0]), digest(texts[2])];
    assert_eq!(store.sweep_blobs(&|blob| used.contains(blob)).unwrap(), "old".len() as u64);
    let kept = texts.map(|text| store.blob(&digest(text)).unwrap().is_some());
    assert_eq!(kept, [true, false, true, true], "of {texts:?}");
    assert_eq!(store.sweep_blobs(&|blob| used.contains(blob)).unwrap(), 0, "nothing more is due");
}
