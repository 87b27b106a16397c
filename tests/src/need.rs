//! What some tests need of their machine. An ordinary user's run says loudly what it skipped; with `CI=true` a skip
//! is a failure.

use std::io::Write;
use std::process::{Command, Stdio};

/// True if the test may go on: the run has root's rights and the named tools.
pub fn root_and(tools: &[&str]) -> bool {
    if !rustix::process::geteuid().is_root() {
        return skip("it needs root (loop devices, mounts, network namespaces)");
    }
    tools_present(tools)
}

/// True if the named tools are installed.
pub fn tools_present(tools: &[&str]) -> bool {
    for tool in tools {
        let found =
            Command::new("sh").args(["-c", &format!("command -v {tool}")]).stdout(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            return skip(&format!("it needs the program {tool} (`make tools` as root installs it)"));
        }
    }
    true
}

/// True if something that the test looked for is there; `reason` says what.
pub fn given(there: bool, reason: &str) -> bool {
    there || skip(reason)
}

fn skip(reason: &str) -> bool {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} cannot be skipped with CI=true: {reason}");
    // Straight to the file descriptor: the test runner must not swallow it.
    let line = format!("\n======== SKIPPED {test}: {reason} ========\n");
    std::io::stderr().write_all(line.as_bytes()).expect("write to standard error");
    false
}
