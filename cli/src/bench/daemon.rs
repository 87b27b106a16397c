//! One process of a stage: started on a leash, logged to a file, stopped with its stage.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use tokio::net::unix::pipe::Receiver;

use crate::exit::{Exit, Failure};

use super::{leash, usage};

/// A daemon that was told to end and has not by then is killed: what runs here takes milliseconds.
const GRACE: Duration = Duration::from_secs(5);
/// Lines of a log that a message repeats.
const LINES: usize = 8;

/// Starts this program once more and waits for its end. It is killed if nobody waits any more.
pub(super) async fn run(name: &str, furnish: impl FnOnce(&mut Command)) -> anyhow::Result<ExitStatus> {
    let failed = |cause: &std::io::Error| Failure::io(format!("cannot run {name}"), cause);
    let mut command = Command::new("/proc/self/exe");
    forget_settings(&mut command);
    furnish(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running(command.spawn().map_err(|cause| failed(&cause))?);
    let end = End::of(&mut running.0).map_err(|cause| failed(&cause))?;
    end.come().await.map_err(|cause| failed(&cause))?;
    running.0.wait().map_err(|cause| failed(&cause))
}

/// A child that does not outlive its owner.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // If it has ended, or can not be looked at, there is nothing left to do.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Knows when a process has ended: it alone holds the other end of its standard output.
#[derive(Debug)]
struct End(Receiver);

impl End {
    fn of(child: &mut Child) -> std::io::Result<End> {
        let stdout = child.stdout.take().ok_or_else(|| std::io::Error::other("it has no standard output"))?;
        Receiver::from_owned_fd(stdout.into()).map(End)
    }

    /// Waits for it; whatever the process says meanwhile is of no interest. Cancel-safe.
    async fn come(&self) -> std::io::Result<()> {
        let mut said = [0; 4_096];
        loop {
            self.0.readable().await?;
            match self.0.try_read(&mut said) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(cause) if cause.kind() == ErrorKind::WouldBlock => {}
                Err(cause) => return Err(cause),
            }
        }
    }
}

/// A coordinator or a worker.
#[derive(Debug)]
pub(super) struct Daemon {
    name: String,
    child: Child,
    end: End,
    /// The same for who blocks: readable once the process has ended.
    process: OwnedFd,
    log: PathBuf,
}

impl Daemon {
    /// Starts `program`. From the main thread: see [`leash::leashed`].
    pub(super) fn start(
        name: &str,
        program: &Path,
        furnish: impl FnOnce(&mut Command),
        log: PathBuf,
    ) -> anyhow::Result<Daemon> {
        let failed = |cause: &std::io::Error| {
            Failure::because(
                Exit::InputOutput,
                format!("cannot start {name} ({}): {cause}", program.display()),
            )
        };
        let file = File::create(&log).map_err(|cause| failed(&cause))?;
        let mut command = leash::leashed(program);
        forget_settings(&mut command);
        furnish(&mut command);
        // A Ctrl-C is for this process, which then stops them in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
        let mut child = command.spawn().map_err(|cause| failed(&cause))?;
        let opened = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).map_err(std::io::Error::from);
        match opened.and_then(|process| Ok((process, End::of(&mut child)?))) {
            Ok((process, end)) => Ok(Daemon { name: name.to_owned(), child, end, process, log }),
            Err(cause) => {
                // Nobody would look after it.
                child.kill().and_then(|()| child.wait()).map_err(|cause| failed(&cause))?;
                Err(failed(&cause))
            }
        }
    }

    /// Its number.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends, with what to tell of it, when the process does so by itself. Cancel-safe.
    pub(super) async fn ended(&self) -> anyhow::Error {
        match self.end.come().await {
            Ok(()) => part_ended(&self.name),
            Err(cause) => Failure::io(format!("cannot watch {}", self.name), &cause),
        }
    }

    /// Tells it to end, and does not wait for that.
    pub(super) fn terminate(&self) -> anyhow::Result<()> {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM)
            .map_err(|cause| Failure::io(format!("cannot stop {}", self.name), &cause.into()))
    }

    /// Tells it to end, waits, and complains if it did not end well.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        self.terminate()?;
        let status = self.wait_or_kill();
        let status = status.map_err(|cause| Failure::io(format!("cannot stop {}", self.name), &cause))?;
        if status.success() {
            return Ok(());
        }
        let said = self.said();
        Err(Failure::because(
            Exit::TasksFailed,
            format!("{} did not stop in good order ({status}){said}", self.name),
        ))
    }

    fn wait_or_kill(&mut self) -> std::io::Result<ExitStatus> {
        if !ends_soon(&self.process)? {
            self.child.kill()?;
        }
        self.child.wait()
    }

    /// The last lines of its log, to be put after a message; empty if there are none.
    pub(super) fn said(&self) -> String {
        let log = match std::fs::read_to_string(&self.log) {
            Ok(log) => log,
            Err(cause) => format!("its log cannot be read: {cause}"),
        };
        let lines: Vec<&str> = log.lines().collect();
        if lines.is_empty() {
            return String::new();
        }
        let last = lines[lines.len().saturating_sub(LINES)..].join("\n  ");
        format!("\nthe last lines of {}:\n  {last}", self.name)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After `stop` the child has been reaped, and both do nothing. If they fail, the leash is still on.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.terminate();
            let _ = self.wait_or_kill();
        }
    }
}

/// What to tell of a part of a stage that has ended by itself.
pub(super) fn part_ended(name: &str) -> anyhow::Error {
    Failure::because(Exit::TasksFailed, format!("{name} ended while it was needed"))
}

/// From here on, what daemons leave behind when they die becomes a child of this process.
pub(super) fn adopt_orphans() -> anyhow::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|cause| Failure::io("cannot adopt orphans", &cause.into()))
}

/// Waits until this process has no living child but one: the spawner of a worker that was killed is about to end, with
/// all that it has started.
pub(super) fn await_orphans(other_than: &Daemon) -> std::io::Result<()> {
    for pid in usage::children(std::process::id())? {
        if pid == other_than.pid() {
            continue;
        }
        let child = Pid::from_raw(pid.cast_signed()).expect("from /proc, and so no 0");
        match pidfd_open(child, PidfdFlags::empty()) {
            Ok(child) => _ = ends_soon(&child)?,
            Err(rustix::io::Errno::SRCH) => {}
            Err(cause) => return Err(cause.into()),
        }
    }
    Ok(())
}

/// Whether a process ends within the grace; blocks for so long.
fn ends_soon(process: &OwnedFd) -> std::io::Result<bool> {
    let patience = Timespec { tv_sec: GRACE.as_secs().cast_signed(), tv_nsec: 0 };
    let mut ends = [PollFd::new(process, PollFlags::IN)];
    Ok(rustix::io::retry_on_intr(|| poll(&mut ends, Some(&patience)))? > 0)
}

/// The user's settings for taskq do not reach what is measured: runs are to be comparable.
fn forget_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TASKQ_") {
            command.env_remove(name);
        }
    }
}
