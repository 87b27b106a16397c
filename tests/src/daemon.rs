//! One server or worker process: started on a leash, logged to a file, ended with its test.

use crate::wait;
use rustix::process::{Pid, Signal};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};
use std::thread;

/// A running (or ended) daemon.
pub struct Daemon {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    log: PathBuf,
    log_start: u64,
}

impl Daemon {
    /// Starts `command` with standard output and error appended to `log`.
    pub fn start(name: &str, log: &Path, mut command: Command) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(log).expect("open a daemon's log");
        let log_start = file.metadata().expect("size of a daemon's log").len();
        command.stdin(Stdio::null());
        command.stdout(file.try_clone().expect("share a daemon's log"));
        command.stderr(file);
        let child = spawn(command);
        Self { name: name.to_owned(), child, ended: None, log: log.to_owned(), log_start }
    }

    /// The process id; valid until the end was seen.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        assert!(self.ended().is_none(), "{} has ended already:\n{}", self.name, self.log());
        let pid = Pid::from_raw(self.pid() as i32).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("send a signal to a daemon");
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            self.child.kill().expect("kill a daemon");
            self.ended = Some(self.child.wait().expect("reap a daemon"));
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("look after a daemon");
        }
        self.ended
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let what = format!("{} ends", self.name);
        wait::until(&what, || self.ended())
    }

    /// What this process wrote.
    pub fn log(&self) -> String {
        let mut file = File::open(&self.log).expect("open a daemon's log");
        file.seek(SeekFrom::Start(self.log_start)).expect("seek in a daemon's log");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("read a daemon's log");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // It may have ended by itself; either way it must be gone now.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A command whose process is killed by the kernel when this test process ends, however it ends.
pub fn leashed(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Spawns from a thread that lives as long as the process: the kernel's leash is tied to the spawning thread.
pub fn spawn(command: Command) -> Child {
    type Order = (Command, Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                // A test that has failed meanwhile does not wait for its child.
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let program = format!("{command:?}");
    let (reply, answer) = mpsc::channel();
    spawner.send((command, reply)).expect("the spawner lives as long as the process");
    answer
        .recv()
        .expect("the spawner answers")
        .unwrap_or_else(|cause| panic!("cannot start {program}: {cause}"))
}
