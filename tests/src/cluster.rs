//! A coordinator with its workers, as separate processes on this machine, ended with the test.
//!
//! When a test fails, the logs of its daemons are printed. When it passes, a WARN or ERROR line that it did not
//! announce with [`Setup::tolerate`] fails it.

use crate::{Api, Daemon, Host, Taskq, binaries, daemon, procs, wait};
use rustix::process::Signal;
use std::ffi::OsStr;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How a coordinator is reached: what its `access.toml` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// `host:port`.
    pub address: String,
    /// The bearer token.
    pub token: String,
}

impl Access {
    /// Reads `access.toml`; None while it is absent or half there.
    pub fn read(file: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(file).ok()?;
        let field = |name: &str| {
            let line =
                text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))?;
            Some(line.trim().trim_matches('"').to_owned())
        };
        Some(Self { address: field("addr")?, token: field("token")? })
    }
}

/// What a cluster is started with.
#[derive(Clone, Default)]
pub struct Setup {
    data: Option<PathBuf>,
    listen: Option<String>,
    arguments: Vec<String>,
    wrapper: Vec<String>,
    environment: Vec<(String, String)>,
    server_environment: Vec<(String, String)>,
    tolerated: Vec<String>,
}

impl Setup {
    /// The defaults: a fresh data directory, no further flags.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses this data directory, which the test owns.
    pub fn data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_owned());
        self
    }

    /// Listens here rather than on a free port of 127.0.0.1.
    pub fn listen(mut self, address: &str) -> Self {
        self.listen = Some(address.to_owned());
        self
    }

    /// Further flags of `taskq-server`.
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Starts the coordinator under another program, such as strace with its flags.
    pub fn under<S: AsRef<str>>(mut self, wrapper: &[S]) -> Self {
        self.wrapper = wrapper.iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// An environment variable of the coordinator and its workers.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// An environment variable of the coordinator alone.
    pub fn server_env(mut self, name: &str, value: &str) -> Self {
        self.server_environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Announces WARN and ERROR lines that contain `text`.
    pub fn tolerate(mut self, text: &str) -> Self {
        self.tolerated.push(text.to_owned());
        self
    }

    /// Starts the coordinator and waits until it answers.
    #[track_caller]
    pub fn start(self) -> Cluster {
        let mut cluster = Cluster::prepare(self);
        cluster.start_server();
        cluster
    }

    /// Starts the coordinator without waiting for anything.
    pub fn launch(self) -> Cluster {
        let mut cluster = Cluster::prepare(self);
        cluster.launch_server();
        cluster
    }

    /// Starts a coordinator that must refuse to serve: its exit code and what it said.
    #[track_caller]
    pub fn refused(self) -> (i32, String) {
        let cluster = Cluster::prepare(self);
        let mut server = cluster.spawn_server();
        let status = server.end();
        let said = server.log();
        (status.code().unwrap_or_else(|| panic!("ended by a signal: {status}\n{said}")), said)
    }
}

/// A running coordinator, its workers and its folder.
pub struct Cluster {
    server: Option<Daemon>,
    workers: Vec<Option<Daemon>>,
    setup: Setup,
    address: String,
    folder: TempDir,
}

impl Cluster {
    /// A coordinator with all defaults on a fresh data directory.
    #[track_caller]
    pub fn start() -> Self {
        Setup::new().start()
    }

    fn prepare(setup: Setup) -> Self {
        let folder = tempfile::Builder::new().prefix("taskq-test-").tempdir().expect("a temporary folder");
        let address = setup.listen.clone().unwrap_or_else(|| format!("127.0.0.1:{}", free_port()));
        Self { server: None, workers: Vec::new(), setup, address, folder }
    }

    /// A folder for the test's own files; removed with the cluster.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The coordinator's data directory.
    pub fn data(&self) -> PathBuf {
        self.setup.data.clone().unwrap_or_else(|| self.folder().join("data"))
    }

    /// The path of the coordinator's access file.
    pub fn access_file(&self) -> PathBuf {
        self.data().join("access.toml")
    }

    /// Address and token of the coordinator.
    pub fn access(&self) -> Access {
        Access::read(&self.access_file()).expect("an access file with addr and token")
    }

    /// A fresh gRPC connection.
    pub fn api(&self) -> Api {
        Api::connect(&self.access())
    }

    /// A connection, if the coordinator answers by now.
    pub fn api_if_ready(&self) -> Option<Api> {
        let access = Access::read(&self.access_file()).filter(|access| access.address == self.address)?;
        TcpStream::connect(&self.address).ok()?;
        let api = Api::connect(&access);
        api.stats().is_ok().then_some(api)
    }

    // ── the coordinator ──────────────────────────────────────────────────────

    /// The coordinator's process id.
    pub fn server_pid(&self) -> u32 {
        let pid = self.server.as_ref().expect("the coordinator runs").pid();
        // Under a tracer the coordinator is the tracer's child.
        if self.setup.wrapper.is_empty() {
            pid
        } else {
            procs::descendants(pid).iter().map(|p| p.pid).min().unwrap_or(pid)
        }
    }

    /// The coordinator itself, for signals and its end.
    pub fn server(&mut self) -> &mut Daemon {
        self.server.as_mut().expect("the coordinator was started")
    }

    /// SIGKILL to the coordinator.
    pub fn kill_server(&mut self) {
        self.server().kill();
    }

    /// From its next start on the coordinator listens here.
    pub fn move_server(&mut self, address: &str) {
        address.clone_into(&mut self.address);
    }

    /// SIGTERM to the coordinator; the time until it was gone.
    pub fn stop_server(&mut self) -> Duration {
        let start = Instant::now();
        self.server().signal(Signal::TERM);
        let status = self.server().end();
        assert_eq!(status.code(), Some(0), "a stopped coordinator exits with 0:\n{}", self.server().log());
        start.elapsed()
    }

    /// Starts the coordinator (again) on its address and waits until it answers.
    #[track_caller]
    pub fn start_server(&mut self) {
        self.launch_server();
        wait::holds("the coordinator answers", || {
            let server = self.server();
            if let Some(status) = server.ended() {
                panic!("the coordinator ended: {status}\n{}", server.log());
            }
            self.api_if_ready().is_some()
        });
    }

    /// Starts the coordinator without waiting for anything.
    pub fn launch_server(&mut self) {
        self.server = None;
        self.server = Some(self.spawn_server());
    }

    fn spawn_server(&self) -> Daemon {
        let binary = binaries::server();
        let mut command = match self.setup.wrapper.split_first() {
            None => daemon::leashed(&binary),
            Some((tracer, flags)) => {
                let mut command = daemon::leashed(Path::new(tracer));
                command.args(flags).args(["setpriv", "--pdeathsig", "KILL", "--"]).arg(&binary);
                command
            }
        };
        command.arg("--data").arg(self.data()).args(&self.setup.arguments);
        if !self.setup.arguments.iter().any(|flag| flag == "--listen") {
            command.arg("--listen").arg(&self.address);
        }
        self.surroundings(&mut command);
        command.envs(self.setup.server_environment.iter().map(|(name, value)| (name, value)));
        Daemon::start("taskq-server", &self.folder().join("server.log"), command)
    }

    /// Kills the coordinator's tracer's child too, so that nothing holds the data directory.
    pub fn kill_traced_server(&mut self) {
        let tracer = self.server().pid();
        let below = procs::descendants(tracer);
        self.server().kill();
        wait::holds("the traced coordinator is gone", || below.iter().all(|process| !process.lives()));
    }

    // ── workers ──────────────────────────────────────────────────────────────

    /// Starts one more worker named `w0`, `w1`, ... and waits until the coordinator knows it.
    #[track_caller]
    pub fn worker(&mut self, slots: u32) -> usize {
        self.worker_with(slots, &[])
    }

    /// The same with further flags.
    #[track_caller]
    pub fn worker_with(&mut self, slots: u32, flags: &[&str]) -> usize {
        self.worker_of(&binaries::worker(), slots, flags)
    }

    /// The same of another program that is a worker.
    #[track_caller]
    pub fn worker_of(&mut self, program: &Path, slots: u32, flags: &[&str]) -> usize {
        let number = self.workers.len();
        self.workers.push(None);
        self.restart_worker_of(number, program, slots, flags);
        number
    }

    /// Starts a worker (again) under its name and waits until the coordinator sees this very process.
    #[track_caller]
    pub fn restart_worker(&mut self, number: usize, slots: u32, flags: &[&str]) {
        self.restart_worker_of(number, &binaries::worker(), slots, flags);
    }

    /// The same of another program that is a worker.
    #[track_caller]
    pub fn restart_worker_of(&mut self, number: usize, program: &Path, slots: u32, flags: &[&str]) {
        self.launch_worker_of(number, program, slots, flags);
        let api = self.api();
        let name = format!("w{number}");
        let seen = |worker: &taskq_proto::v1::Worker| worker.name == name && worker.status == 1;
        wait::holds("the worker is online", || {
            api.workers().is_ok_and(|workers| workers.iter().any(seen)) || self.worker_ended(number)
        });
        assert!(!self.worker_ended(number), "worker {number} ended:\n{}", self.worker_at(number).log());
    }

    /// Starts a worker without waiting for anything.
    pub fn launch_worker(&mut self, number: usize, slots: u32, flags: &[&str]) {
        self.launch_worker_of(number, &binaries::worker(), slots, flags);
    }

    /// The same of another program that is a worker.
    pub fn launch_worker_of(&mut self, number: usize, program: &Path, slots: u32, flags: &[&str]) {
        let file = self.access_file();
        let mut command = daemon::leashed(program);
        command.args(["--name", &format!("w{number}"), "--slots", &slots.to_string()]).args(flags);
        self.surroundings(&mut command);
        command.env("TASKQ_ACCESS", file);
        self.keep_worker(number, command);
    }

    /// Starts a worker that reaches the coordinator at another address, such as a [`Proxy`](crate::Proxy)'s.
    pub fn launch_worker_at(&mut self, number: usize, slots: u32, address: &str) {
        self.launch_worker_by(daemon::leashed(&binaries::worker()), number, slots, &["--addr", address]);
    }

    /// Starts a worker on another host; the flags say where it finds the coordinator.
    pub fn launch_worker_on(&mut self, host: &Host, number: usize, slots: u32, flags: &[&str]) {
        self.launch_worker_by(host.command(&binaries::worker()), number, slots, flags);
    }

    fn launch_worker_by(&mut self, mut command: Command, number: usize, slots: u32, flags: &[&str]) {
        command.args(["--name", &format!("w{number}"), "--slots", &slots.to_string()]).args(flags);
        self.surroundings(&mut command);
        command.env("TASKQ_TOKEN", self.access().token);
        self.keep_worker(number, command);
    }

    /// Starts a worker as an ordinary user, whose processes and threads together may be `processes`. Needs root. The
    /// cluster's folder is open to that user from then on.
    pub fn launch_worker_with_few_processes(&mut self, number: usize, slots: u32, processes: u32) {
        let program = self.folder().join("taskq-worker");
        std::fs::copy(binaries::worker(), &program).expect("copy the worker to where its user may read");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.folder(), open).expect("open the test's folder");
        let user = 700_000 + std::process::id() % 100_000;
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()]);
        command.args(["--", "prlimit", &format!("--nproc={processes}"), "--"]);
        // A change of the user takes off the leash, so it comes last.
        command.args(["setpriv", "--pdeathsig", "KILL", "--"]).arg(program);
        let Access { address, token } = self.access();
        command.args(["--name", &format!("w{number}"), "--slots", &slots.to_string(), "--addr", &address]);
        self.surroundings(&mut command);
        command.env("TASKQ_TOKEN", token);
        self.keep_worker(number, command);
    }

    fn keep_worker(&mut self, number: usize, command: Command) {
        let log = self.folder().join(format!("worker-{number}.log"));
        while self.workers.len() <= number {
            self.workers.push(None);
        }
        self.workers[number] = Some(Daemon::start(&format!("worker {number}"), &log, command));
    }

    /// A worker, for signals and its end.
    pub fn worker_at(&mut self, number: usize) -> &mut Daemon {
        self.workers[number].as_mut().expect("this worker was started")
    }

    /// The process ids of the workers that were started, those that have ended included.
    pub fn worker_pids(&self) -> Vec<u32> {
        self.workers.iter().flatten().map(Daemon::pid).collect()
    }

    fn worker_ended(&mut self, number: usize) -> bool {
        self.worker_at(number).ended().is_some()
    }

    // ── the command line ─────────────────────────────────────────────────────

    /// Runs `taskq` with these arguments, as a user of this coordinator, to its end.
    #[track_caller]
    pub fn taskq<S: AsRef<OsStr>>(&self, arguments: &[S]) -> crate::Run {
        self.cli(arguments).run()
    }

    /// The same, to be furnished further before it runs.
    pub fn cli<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Taskq {
        Taskq::new(self.folder(), arguments).env("TASKQ_ACCESS", self.access_file())
    }

    // ── surroundings and logs ────────────────────────────────────────────────

    fn surroundings(&self, command: &mut Command) {
        clean(command, self.folder());
        command.envs(self.setup.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.folder());
    }

    /// Announces WARN and ERROR lines that contain `text`.
    pub fn tolerate(&mut self, text: &str) {
        self.setup.tolerated.push(text.to_owned());
    }

    /// Everything that the daemons wrote, by file.
    pub fn logs(&self) -> Vec<(String, String)> {
        let entries = std::fs::read_dir(self.folder()).expect("list the test's folder");
        let mut logs: Vec<(String, String)> = entries
            .filter_map(|entry| entry.ok())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.ends_with(".log"))
            .map(|name| {
                let bytes = std::fs::read(self.folder().join(&name)).expect("read a log");
                (name, String::from_utf8_lossy(&bytes).into_owned())
            })
            .collect();
        logs.sort();
        logs
    }

    fn unexpected_lines(&self) -> Vec<String> {
        let mut unexpected = Vec::new();
        for (name, text) in self.logs() {
            let loud = |line: &&str| {
                let panicked = line.contains("panicked at");
                let level = line.contains(" WARN ") || line.contains(" ERROR ");
                panicked || (level && !self.setup.tolerated.iter().any(|text| line.contains(text.as_str())))
            };
            unexpected.extend(text.lines().filter(loud).map(|line| format!("{name}: {line}")));
        }
        unexpected
    }

    fn print_logs(&self) {
        for (name, text) in self.logs() {
            let lines: Vec<&str> = text.lines().collect();
            let shown = &lines[lines.len().saturating_sub(60)..];
            println!("──── {name} (last {} of {} lines)\n{}", shown.len(), lines.len(), shown.join("\n"));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.workers.clear();
        self.server = None;
        if std::thread::panicking() {
            self.print_logs();
            return;
        }
        let unexpected = self.unexpected_lines();
        if !unexpected.is_empty() {
            self.print_logs();
            panic!("unexpected log lines:\n{}", unexpected.join("\n"));
        }
    }
}

/// Gives a process a user's plain surroundings: its own home, no colours, nothing of taskq inherited.
pub fn clean(command: &mut Command, home: &Path) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TASKQ_") || name.to_string_lossy().starts_with("XDG_") {
            command.env_remove(name);
        }
    }
    command.env("HOME", home).env("NO_COLOR", "1").env("LANG", "C.UTF-8").env_remove("RUST_LOG");
}

/// A port that nobody listens on, below the range from which the kernel takes the local ends of connections: a
/// client that tries to reach a dead coordinator must never connect to itself.
pub fn free_port() -> u16 {
    loop {
        let port = rand::random_range(15_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
