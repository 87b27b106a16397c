//! The rules of the house that a compiler does not know: who may import whom, where sled and tonic may be named, files
//! that introduce themselves and stay short, and paths in the documents that exist.

use std::fs;
use std::path::{Path, PathBuf};
use taskq_tests::binaries::workspace;

/// For each crate, the crates of ours that it may depend on.
const LAYERS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("core", &[]),
    ("template", &[]),
    ("client", &["taskq-proto", "taskq-template"]),
    ("server", &["taskq-core", "taskq-proto", "taskq-template"]),
    ("worker", &["taskq-client", "taskq-proto", "taskq-template"]),
    ("cli", &["taskq-client", "taskq-server", "taskq-template", "taskq-worker"]),
    ("tests", &["taskq-proto"]),
];

/// What the scheduler's crate may use: nothing that waits, reads a clock, draws a random number or touches the world.
const CORE_MAY_USE: &[&str] = &["bytes", "roaring", "rustc-hash", "thiserror"];

/// Where tonic may be named outside of `tests` and `proto`.
const TONIC: &[&str] = &["server/src/api/", "server/src/dial.rs", "worker/src/session", "client/src/"];

/// Single files elsewhere that pass tonic's errors on.
const TONIC_ERRORS: &[&str] = &["server/src/lib.rs"];

/// Where the compiler must take our word.
const UNSAFE: &[&str] = &["worker/src/sys.rs", "worker/src/sys/stdout.rs"];

const LONGEST_FILE: usize = 600;

#[test]
fn crates_depend_on_what_they_may() {
    for (folder, allowed) in LAYERS {
        let manifest = read(&workspace().join(folder).join("Cargo.toml"));
        for name in dependencies(&manifest) {
            if name.starts_with("taskq-") {
                assert!(allowed.contains(&name.as_str()), "{folder} must not depend on {name}");
            }
            if *folder == "core" {
                assert!(CORE_MAY_USE.contains(&name.as_str()), "core must stay pure: {name}");
            }
            assert!(name != "sled" || *folder == "server", "{folder} must not know sled");
        }
    }
    let members = read(&workspace().join("Cargo.toml"));
    for (folder, _) in LAYERS {
        assert!(members.contains(&format!("\"{folder}\"")), "{folder} is a member of the workspace");
    }
}

#[test]
fn sled_is_named_in_one_file() {
    let named: Vec<PathBuf> = ours()
        .into_iter()
        // This file's own words.
        .filter(|path| !path.ends_with("tests/tidy.rs") && code(path).any(|line| names_sled(&line)))
        .collect();
    assert_eq!(named.len(), 1, "{named:?}");
    assert!(named[0].starts_with(workspace().join("server/src/store")), "{named:?}");
}

/// True for code that reaches for the crate `sled`, not for our module of that name.
fn names_sled(line: &str) -> bool {
    let items = ["Config", "Db", "Tree", "IVec", "Batch", "Error", "Mode", "open"];
    line.contains("::sled::") && !line.contains("store::sled::")
        || line.contains("use sled")
        || items.iter().any(|item| line.contains(&format!("sled::{item}")))
}

#[test]
fn tonic_is_named_at_the_edges() {
    for path in ours() {
        let relative = relative(&path);
        let edge =
            TONIC.iter().any(|edge| relative.starts_with(edge)) || TONIC_ERRORS.contains(&relative.as_str());
        let home = relative.starts_with("tests/") || relative.starts_with("proto/");
        if edge || home || relative.contains("/tests/") {
            continue;
        }
        let named = code(&path).find(|line| line.contains("tonic::"));
        assert_eq!(named, None, "{relative} names tonic");
    }
}

#[test]
fn every_file_introduces_itself_and_is_one_thought() {
    for path in ours() {
        let text = read(&path);
        let relative = relative(&path);
        assert!(text.starts_with("//!"), "{relative} does not open with what it is (`//!`)");
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "{relative} has {lines} lines: split it by event or noun");
        for word in ["TODO", "FIXME", "XXX", "unimplemented!", "todo!("] {
            // This list itself.
            let found = text.contains(word) && !relative.ends_with("tests/tidy.rs");
            assert!(!found, "{relative} contains {word}");
        }
    }
}

#[test]
fn unsafe_code_is_in_one_place() {
    for path in ours() {
        let relative = relative(&path);
        let found = code(&path).find(|line| {
            ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "#[unsafe("]
                .iter()
                .any(|word| line.contains(word))
        });
        assert!(
            found.is_none() || UNSAFE.contains(&relative.as_str()) || relative.ends_with("tests/tidy.rs"),
            "{relative}: {found:?}"
        );
    }
}

#[test]
fn paths_in_the_documents_exist() {
    let mut documents = vec![workspace().join("README.md"), workspace().join("CONTRIBUTING.md")];
    documents.extend(below(&workspace().join("docs"), "md"));
    assert!(
        documents.iter().any(|path| path.ends_with("docs/ARCHITECTURE.md")),
        "docs/ARCHITECTURE.md exists"
    );
    for document in documents {
        let text = read(&document);
        for path in paths(&text) {
            let near = document.parent().expect("a document lies in a folder").join(&path);
            let exists = workspace().join(&path).exists() || near.exists() || in_a_crate(&path);
            assert!(exists, "{} names {path}, which does not exist", relative(&document));
        }
    }
}

/// Paths in a document: link targets, and words in backquotes that begin with one of our folders.
fn paths(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for link in text.split("](").skip(1) {
        let target = link.split(')').next().unwrap_or_default().split('#').next().unwrap_or_default();
        if !target.is_empty() && !target.contains("://") {
            found.push(target.to_owned());
        }
    }
    for quoted in text.split('`').skip(1).step_by(2) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        let folder = quoted.split('/').next().unwrap_or_default();
        let ours =
            LAYERS.iter().any(|(name, _)| *name == folder) || ["docs", "scripts", "deploy"].contains(&folder);
        if ours && quoted.contains('/') && quoted.chars().all(plain) {
            found.push(quoted.trim_end_matches('.').to_owned());
        }
    }
    found
}

/// `core/step/cancel.rs` is short for `core/src/step/cancel.rs`.
fn in_a_crate(path: &str) -> bool {
    let Some((folder, rest)) = path.split_once('/') else { return false };
    workspace().join(folder).join("src").join(rest).exists()
}

/// Names in the dependency tables of a manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut wanted = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            // What only the tests of a crate need is free.
            wanted = line.ends_with("dependencies]") && !line.contains("dev-");
        } else if wanted && let Some((name, _)) = line.split_once(['.', '=', ' ']) {
            names.push(name.trim().to_owned());
        }
    }
    names.retain(|name| !name.is_empty() && !name.starts_with('#'));
    names
}

/// Every Rust file of the workspace.
fn ours() -> Vec<PathBuf> {
    let files: Vec<PathBuf> =
        LAYERS.iter().flat_map(|(folder, _)| below(&workspace().join(folder), "rs")).collect();
    assert!(files.len() > 50, "the workspace has files: {}", files.len());
    files
}

fn below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the workspace") {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(below(&path, extension));
        } else if path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The lines of a file without its comments.
fn code(path: &Path) -> impl Iterator<Item = String> {
    let text = read(path);
    let lines: Vec<String> =
        text.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned()).collect();
    lines.into_iter().filter(|line| !line.trim().is_empty())
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()))
}

fn relative(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap_or(path).display().to_string()
}
