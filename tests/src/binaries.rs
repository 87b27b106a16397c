//! Where the programs under test are: beside the test executable, or where `TASKQ_BIN_DIR` says.
//!
//! Nothing is built here; `make test` builds the workspace first.

use std::path::{Path, PathBuf};

/// The coordinator's program.
pub fn server() -> PathBuf {
    binary("taskq-server")
}

/// The worker's program.
pub fn worker() -> PathBuf {
    binary("taskq-worker")
}

/// The command line's program.
pub fn taskq() -> PathBuf {
    binary("taskq")
}

/// A program that is an example of one of the crates: a worker with functions, a client.
pub fn example(name: &str) -> PathBuf {
    binary(&format!("examples/{name}"))
}

/// The folder of the programs under test.
pub fn folder() -> PathBuf {
    if let Some(named) = std::env::var_os("TASKQ_BIN_DIR") {
        let named = PathBuf::from(named);
        return if named.is_absolute() { named } else { workspace().join(named) };
    }
    let test = std::env::current_exe().expect("the path of this test executable");
    let deps = test.parent().expect("a test executable lies in target/<profile>/deps");
    deps.parent().expect("deps lies in target/<profile>").to_owned()
}

/// The workspace's root folder.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

fn binary(name: &str) -> PathBuf {
    let path = folder().join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `make test`, or `cargo build --workspace --bins --examples` with this test's profile first",
        path.display()
    );
    path
}
