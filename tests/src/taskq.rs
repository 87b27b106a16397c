//! Runs of the command line `taskq`, with everything that they said.

use crate::{binaries, cluster, daemon, wait};
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A `taskq` command line that is about to run.
pub struct Taskq {
    command: Command,
    words: Vec<String>,
    folder: PathBuf,
    stdin: Option<Vec<u8>>,
}

impl Taskq {
    /// `taskq` with these arguments, with `folder` as home and current directory. It knows no coordinator yet.
    pub fn new<S: AsRef<OsStr>>(folder: &Path, arguments: &[S]) -> Self {
        Self::of(&binaries::taskq(), folder, arguments)
    }

    /// The same of `taskq-server`: one of its subcommands.
    pub fn server<S: AsRef<OsStr>>(folder: &Path, arguments: &[S]) -> Self {
        Self::of(&binaries::server(), folder, arguments)
    }

    fn of<S: AsRef<OsStr>>(program: &Path, folder: &Path, arguments: &[S]) -> Self {
        let mut command = daemon::leashed(program);
        command.args(arguments).current_dir(folder);
        cluster::clean(&mut command, folder);
        let name = program.file_name().unwrap_or_default();
        let words = std::iter::once(name).chain(arguments.iter().map(AsRef::as_ref));
        let words = words.map(|word| word.to_string_lossy().into_owned()).collect();
        Self { command, words, folder: folder.to_owned(), stdin: None }
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes an environment variable.
    pub fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Sets the current directory.
    pub fn cwd(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Gives it this standard input; without, it is empty.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Run {
        self.start().end()
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = |what: &str| self.folder.join(format!(".taskq-{number}.{what}"));
        let (stdin, stdout, stderr) = (file("in"), file("out"), file("err"));
        fs::write(&stdin, self.stdin.unwrap_or_default()).expect("write standard input");
        self.command.stdin(File::open(stdin).expect("open standard input"));
        self.command.stdout(File::create(&stdout).expect("create standard output"));
        self.command.stderr(File::create(&stderr).expect("create standard error"));
        let child = daemon::spawn(self.command);
        Running { child, words: self.words, stdout, stderr, start: Instant::now(), ended: false }
    }

    /// The command itself, for tests that furnish standard input and output in their own way.
    pub fn into_command(mut self) -> Command {
        self.command.stdin(Stdio::null());
        self.command
    }
}

/// A `taskq` that runs.
pub struct Running {
    child: Child,
    words: Vec<String>,
    stdout: PathBuf,
    stderr: PathBuf,
    start: Instant,
    ended: bool,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).expect("read standard output")).into_owned()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).expect("read standard error")).into_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid() as i32).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("signal taskq");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(self) -> Run {
        self.end_within(wait::limit())
    }

    /// [`Running::end`] for runs that may take longer.
    #[track_caller]
    pub fn end_within(mut self, limit: Duration) -> Run {
        let what = format!("`{}` ends (it said: {})", self.words.join(" "), self.stderr());
        let status = wait::until_within(limit, &what, || self.child.try_wait().expect("look after taskq"));
        self.ended = true;
        Run {
            words: self.words.clone(),
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: fs::read(&self.stdout).expect("read standard output"),
            stderr: self.stderr(),
            wall: self.start.elapsed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What a run of `taskq` left.
pub struct Run {
    words: Vec<String>,
    /// Exit code; 128 + n if signal n ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// From start to end, give or take the waiting's step.
    pub wall: Duration,
}

impl Run {
    /// Fails the test unless it exited with `code`.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// Fails the test unless it exited with 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// Fails the test unless standard error contains each text.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "standard error should contain {text:?}\n{self}");
        }
        assert!(!self.stderr.contains("panicked"), "{self}");
        self
    }

    /// Standard output as text, without white space around it.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// The number on standard output, such as the id that `submit` prints.
    #[track_caller]
    pub fn number(&self) -> u64 {
        self.out().parse().unwrap_or_else(|_| panic!("standard output should be a number\n{self}"))
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|cause| panic!("no JSON: {cause}\n{self}"))
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}", self.words.join(" "))?;
        writeln!(f, "exit code {}", self.code)?;
        writeln!(f, "---- standard output\n{}", self.out())?;
        write!(f, "---- standard error\n{}", self.stderr)
    }
}
