//! Runs the real binary, in an environment that knows no coordinator and no terminal.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// `taskq` with these arguments, ready to run: an empty home, and an address where nobody listens.
pub(crate) fn taskq(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskq"));
    command.args(args).env_clear().stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", home).env("XDG_DATA_HOME", home.join("data"));
    // Port 1 of the loopback: nobody listens there.
    command.env("TASKQ_ADDR", "127.0.0.1:1").env("TASKQ_TOKEN", "tq_test");
    command
}

/// What it printed and how it ended.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs to the end.
pub(crate) fn said(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.output().expect("taskq starts");
    Said {
        code: status.code().expect("taskq exits by itself"),
        stdout: String::from_utf8(stdout).expect("UTF-8"),
        stderr: String::from_utf8(stderr).expect("UTF-8"),
    }
}
