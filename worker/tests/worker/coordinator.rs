//! A coordinator without a mind: hands each session to the test, word by word.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use taskq_proto::v1 as pb;
use taskq_proto::v1::coordinator_message::Body;
use taskq_proto::v1::workers_server::{Workers, WorkersServer};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::blobs::Blobs;

pub(crate) const TOKEN: &str = "tq_the-secret-of-this-test";

/// Nothing here takes this long unless it never comes.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it comes within 30 s")
}

pub(crate) struct Coordinator {
    pub addr: SocketAddr,
    sessions: mpsc::UnboundedReceiver<Session>,
    burials: mpsc::UnboundedReceiver<pb::BuryRequest>,
    pub blobs: Blobs,
    /// Of its own, so that connections end with it.
    runtime: Option<Runtime>,
}

impl Coordinator {
    pub(crate) async fn start() -> Coordinator {
        Coordinator::start_at("127.0.0.1:0".parse().expect("an address")).await
    }

    pub(crate) async fn start_at(addr: SocketAddr) -> Coordinator {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = soon(runtime.spawn(async move {
            loop {
                // A former coordinator may not be gone quite yet.
                match TcpListener::bind(addr).await {
                    Ok(listener) => return listener,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        }));
        let listener = listener.await.expect("no panic");
        let addr = listener.local_addr().expect("bound");
        let (new_sessions, sessions) = mpsc::unbounded_channel();
        let (new_burials, burials) = mpsc::unbounded_channel();
        let service =
            WorkersServer::with_interceptor(Service { new_sessions, new_burials }, |request: Request<()>| {
                let expected = format!("Bearer {TOKEN}");
                match request.metadata().get("authorization") {
                    Some(given) if given.as_bytes() == expected.as_bytes() => Ok(request),
                    Some(_) | None => Err(Status::unauthenticated("wrong token")),
                }
            });
        let blobs = Blobs::default();
        let jobs = blobs.service();
        runtime.spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service).add_service(jobs);
            server
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .expect("the test's server runs");
        });
        Coordinator { addr, sessions, burials, blobs, runtime: Some(runtime) }
    }

    /// The next session, after its Hello.
    pub(crate) async fn hello(&mut self) -> Session {
        soon(self.sessions.recv()).await.expect("the server lives")
    }

    /// The next session, welcomed.
    pub(crate) async fn session(&mut self) -> Session {
        let session = self.hello().await;
        session.welcome(&[]);
        session
    }

    pub(crate) async fn burial(&mut self) -> pb::BuryRequest {
        soon(self.burials.recv()).await.expect("the server lives")
    }

    /// As if the process were killed: connections break, the port is free.
    pub(crate) fn vanish(self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.runtime.take().expect("dropped once").shutdown_background();
    }
}

struct Service {
    new_sessions: mpsc::UnboundedSender<Session>,
    new_burials: mpsc::UnboundedSender<pb::BuryRequest>,
}

#[tonic::async_trait]
impl Workers for Service {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<pb::CoordinatorMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let from = request.remote_addr().map(|addr| addr.ip());
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.and_then(|message| message.body);
        let Some(pb::worker_message::Body::Hello(hello)) = first else {
            return Err(Status::invalid_argument("Hello comes first"));
        };
        let (outgoing, messages) = mpsc::unbounded_channel();
        let from = from.expect("a TCP connection");
        let session = Session {
            from,
            hello,
            outgoing,
            incoming,
            reports: VecDeque::new(),
            goodbye: false,
            last_seq: 1,
            busy: (0, 0),
        };
        self.new_sessions.send(session).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(messages))))
    }

    async fn bury(&self, request: Request<pb::BuryRequest>) -> Result<Response<pb::BuryReply>, Status> {
        self.new_burials.send(request.into_inner()).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(pb::BuryReply { tasks: 0 }))
    }
}

pub(crate) struct Session {
    pub hello: pb::Hello,
    /// Where it came from.
    pub from: std::net::IpAddr,
    outgoing: mpsc::UnboundedSender<Result<pb::CoordinatorMessage, Status>>,
    incoming: Streaming<pb::WorkerMessage>,
    reports: VecDeque<pb::Report>,
    pub goodbye: bool,
    pub last_seq: u64,
    /// As the last message said.
    pub busy: (u32, u32),
}

/// All that an attempt reported up to its end.
pub(crate) struct Run {
    pub outcome: pb::Outcome,
    pub stdout: Vec<(u64, Vec<u8>)>,
    /// What the message said that had the outcome: busy slots, busy asynchronous ones.
    pub busy: (u32, u32),
}

impl Run {
    /// Standard output as far as it was kept.
    pub(crate) fn stdout(&self) -> String {
        let kept: Vec<u8> = self.stdout.iter().flat_map(|(_, data)| data).copied().collect();
        String::from_utf8(kept).expect("text in this test")
    }

    pub(crate) fn kept_bytes(&self) -> usize {
        self.stdout.iter().map(|(_, data)| data.len()).sum()
    }
}

impl Session {
    pub(crate) fn say(&self, body: Body) {
        let _ = self.outgoing.send(Ok(pb::CoordinatorMessage { body: Some(body) }));
    }

    pub(crate) fn welcome(&self, abandon: &[pb::AttemptKey]) {
        let coordinator = "test".to_owned();
        let abandon = abandon.to_vec();
        self.say(Body::Welcome(pb::Welcome {
            epoch: 1,
            lease_ms: 15_000,
            heartbeat_ms: 200,
            abandon,
            coordinator,
        }));
    }

    /// A welcome with a lease that tests can wait for.
    pub(crate) fn welcome_briefly(&self) {
        let coordinator = "test".to_owned();
        let (epoch, lease_ms, heartbeat_ms, abandon) = (1, 3_000, 200, vec![]);
        self.say(Body::Welcome(pb::Welcome { epoch, lease_ms, heartbeat_ms, abandon, coordinator }));
    }

    /// Answers this many messages; none may be a report.
    pub(crate) async fn answer(&mut self, count: u64) {
        let mut received = 0;
        for _ in 0..count {
            self.next_messages_until(self.last_seq + 1, &mut received).await;
            self.commit();
        }
        assert_eq!(self.reports.len(), 0);
    }

    /// Assigns the tasks 0 to `count - 1` of a job.
    pub(crate) fn assign(&self, template: pb::Template, count: u32) {
        let unit = unit(template.job_id, 0, count);
        self.say(Body::Assign(pb::Assign { templates: vec![template], units: vec![unit], forget: vec![] }));
    }

    /// Assigns more of a job whose template was sent.
    pub(crate) fn assign_more(&self, job: u64, first: u32, count: u32) {
        let units = vec![unit(job, first, count)];
        self.say(Body::Assign(pb::Assign { templates: vec![], units, forget: vec![] }));
    }

    /// Waits until the worker has heard all that was said: it gives back what it cannot know. Nothing else may be
    /// reported meanwhile.
    pub(crate) async fn heard(&mut self) {
        self.assign_more(999_999, 0, 1);
        let report = self.report().await;
        assert_eq!(report.key.map(|key| key.job_id), Some(999_999), "{report:?}");
    }

    pub(crate) fn stop(&self, keys: &[pb::AttemptKey], why: pb::stop::Why) {
        self.say(Body::Stop(pb::Stop { attempts: keys.to_vec(), why: why.into() }));
    }

    pub(crate) fn commit(&self) {
        self.say(Body::Committed(pb::Committed { seq: self.last_seq }));
    }

    /// The next report; None if the stream ended.
    pub(crate) async fn next(&mut self) -> Option<pb::Report> {
        loop {
            if let Some(report) = self.reports.pop_front() {
                return Some(report);
            }
            let message = soon(self.incoming.message()).await.ok()??;
            assert_eq!(message.seq, self.last_seq + 1, "numbers rise by one");
            self.last_seq = message.seq;
            self.busy = (message.busy_slots, message.busy_async);
            match message.body {
                Some(pb::worker_message::Body::Reports(reports)) => self.reports.extend(reports.reports),
                Some(pb::worker_message::Body::Goodbye(_)) => {
                    self.goodbye = true;
                    // Ends the stream once what was said is sent.
                    self.outgoing = mpsc::unbounded_channel().0;
                }
                Some(pb::worker_message::Body::Heartbeat(_)) => {}
                Some(pb::worker_message::Body::Hello(_)) | None => panic!("unexpected message"),
            }
        }
    }

    pub(crate) async fn report(&mut self) -> pb::Report {
        soon(self.next()).await.expect("the worker is there")
    }

    /// Waits for the first live piece of standard output.
    pub(crate) async fn output(&mut self) -> String {
        loop {
            if let Some(pb::report::Event::Output(output)) = self.report().await.event {
                return String::from_utf8(output.data.to_vec()).expect("text in this test");
            }
        }
    }

    /// Waits until the given task has ended; reports of others are passed over. Everything is confirmed at once.
    pub(crate) async fn ended(&mut self, index: u32) -> Run {
        let mut stdout = Vec::new();
        loop {
            let report = self.report().await;
            self.commit();
            if report.key.is_none_or(|key| key.index != index) {
                continue;
            }
            match report.event {
                Some(pb::report::Event::Output(output)) => {
                    if output.stream() == pb::Stream::Stdout {
                        stdout.push((output.offset, output.data.to_vec()));
                    }
                }
                Some(pb::report::Event::Outcome(outcome)) => {
                    stdout.push((outcome.stdout_offset, outcome.stdout.to_vec()));
                    return Run { outcome, stdout, busy: self.busy };
                }
                Some(pb::report::Event::Started(_) | pb::report::Event::Progress(_)) => {}
                Some(pb::report::Event::Returned(_)) | None => panic!("given back: {report:?}"),
            }
        }
    }

    /// Calls a function, as a job of one task.
    pub(crate) async fn call(&mut self, job: u64, function: &str, argument: &str) -> Run {
        self.assign(call(job, function, argument), 1);
        self.ended(0).await
    }

    /// Runs one script to its end.
    pub(crate) async fn run(&mut self, job: u64, script: &str) -> Run {
        self.assign(shell(job, script), 1);
        self.ended(0).await
    }
}

fn unit(job_id: u64, first: u32, count: u32) -> pb::Unit {
    pb::Unit { job_id, attempt: 1, epoch: 1, indices: vec![pb::Span { first, count }], rows: vec![] }
}

pub(crate) fn key(job_id: u64, index: u32) -> pb::AttemptKey {
    pb::AttemptKey { job_id, index, attempt: 1, epoch: 1 }
}

pub(crate) fn argv(job_id: u64, argv: &[&str]) -> pb::Template {
    let argv = argv.iter().map(|arg| (*arg).to_owned()).collect();
    let command = Some(pb::Command { argv, ..Default::default() });
    pb::Template { job_id, command, kill_grace_ms: 300, ..Default::default() }
}

/// A function, called with JSON.
pub(crate) fn call(job_id: u64, function: &str, argument: &str) -> pb::Template {
    let argument = argument.to_owned().into();
    let call = pb::Call { function: function.to_owned(), argument, ..Default::default() };
    pb::Template { job_id, call: Some(call), kill_grace_ms: 300, ..Default::default() }
}

/// A script without placeholders: braces are its own.
pub(crate) fn shell(job: u64, script: &str) -> pb::Template {
    let script = script.replace('{', "{{").replace('}', "}}");
    argv(job, &["/bin/sh", "-c", &script])
}

/// The real thing.
pub(crate) struct Worker {
    pub child: Child,
    log: Arc<Mutex<String>>,
    /// Ends when nobody can write to the log any more.
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Worker {
    pub(crate) fn start(coordinator: &Coordinator, args: &[&str]) -> Worker {
        Worker::start_at(coordinator.addr, TOKEN, args)
    }

    pub(crate) fn start_at(addr: SocketAddr, token: &str, args: &[&str]) -> Worker {
        let mut program = Command::new(env!("CARGO_BIN_EXE_taskq-worker"));
        program.env("RUST_BACKTRACE", "0");
        Worker::start_by(program, addr, token, args)
    }

    /// In a container of its own: it is process 1 there, and the leader of its session is nowhere to be seen. `None`,
    /// and loudly so, where no container can be had; with `CI=true` that is a failure.
    pub(crate) fn start_contained(coordinator: &Coordinator, args: &[&str]) -> Option<Worker> {
        let contained = |program: &str| {
            let mut unshare = Command::new("unshare");
            if !rustix::process::geteuid().is_root() {
                unshare.args(["--user", "--map-root-user"]);
            }
            unshare.args(["--pid", "--fork", "--kill-child", "--mount-proc", program]);
            unshare
        };
        if !contained("true").status().is_ok_and(|status| status.success()) {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "no container: unshare failed");
            eprintln!("======== SKIPPED: no container can be had here (unshare) ========");
            return None;
        }
        let mut worker = contained(env!("CARGO_BIN_EXE_taskq-worker"));
        worker.env("RUST_BACKTRACE", "0");
        Some(Worker::start_by(worker, coordinator.addr, TOKEN, args))
    }

    /// A worker with functions: one of the examples.
    pub(crate) fn start_example(coordinator: &Coordinator, name: &str, args: &[&str]) -> Worker {
        let mut program = Worker::example(name);
        program.env("RUST_BACKTRACE", "0");
        Worker::start_by(program, coordinator.addr, TOKEN, args)
    }

    pub(crate) fn example(name: &str) -> Command {
        Command::new(examples().join(name))
    }

    pub(crate) fn start_by(mut program: Command, addr: SocketAddr, token: &str, args: &[&str]) -> Worker {
        let mut child = program
            .args(["--addr", &addr.to_string(), "--name", "w1", "--nice", "0"])
            .args(args)
            .env("TASKQ_TOKEN", token)
            .env("SECRET_OF_THE_WORKER", "x")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the worker starts");
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let kept = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().expect("no panic").push_str(&(line + "\n"));
            }
        });
        Worker { child, log, reader: Some(reader) }
    }

    pub(crate) fn signal(&self, signal: i32) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let signal = rustix::process::Signal::from_named_raw(signal).expect("a signal");
        rustix::process::kill_process(pid, signal).expect("the worker is there");
    }

    /// Waits until these words are in the log.
    pub(crate) async fn logged(&self, words: &str) {
        let seen = || self.log.lock().expect("no panic").contains(words);
        soon(async {
            while !seen() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    pub(crate) async fn exit(mut self) -> (ExitStatus, String) {
        let child = std::mem::replace(&mut self.child, Command::new("true").spawn().expect("true starts"));
        let reader = self.reader.take().expect("asked once");
        let status = soon(tokio::task::spawn_blocking(move || {
            let mut child = child;
            let status = child.wait();
            reader.join().expect("no panic");
            status
        }));
        let status = status.await.expect("no panic").expect("own child");
        let log = self.log.lock().expect("no panic").clone();
        (status, log)
    }

    /// The spawner: the worker's only child.
    pub(crate) fn spawner(&self) -> i32 {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it lives");
        children.split_whitespace().next().expect("one child").parse().expect("a number")
    }
}

/// Where the examples are. They are built first: `cargo test NAME` does not, and would test those of yesterday.
fn examples() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let test = std::env::current_exe().expect("the test is a file");
        // TARGET/PROFILE/deps/TEST
        let [profile, target] = [2, 3].map(|up| test.ancestors().nth(up).expect("in cargo's target folder"));
        if let Some(cargo) = std::env::var_os("CARGO") {
            let name = profile.file_name().and_then(|name| name.to_str()).expect("a profile");
            let name = if name == "debug" { "dev" } else { name };
            let built = Command::new(cargo)
                .args([
                    "build",
                    "--quiet",
                    "--locked",
                    "--offline",
                    "--examples",
                    "--package",
                    "taskq-worker",
                ])
                .args(["--profile", name, "--target-dir"])
                .arg(target)
                .status();
            assert!(built.expect("cargo runs").success(), "the examples are built");
        }
        profile.join("examples")
    };
    BUILT.get_or_init(build).clone()
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("── worker ──\n{}", self.log.lock().map(|log| log.clone()).unwrap_or_default());
        }
    }
}

/// Whether the process exists, other than as a zombie.
pub(crate) fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A task that waits for the test: its script says `read word < PATH`.
pub(crate) struct Gate {
    dir: tempfile::TempDir,
}

impl Gate {
    pub(crate) fn new() -> Gate {
        let dir = tempfile::tempdir().expect("a directory");
        let gate = Gate { dir };
        let made = Command::new("mkfifo").arg(gate.path()).status().expect("mkfifo runs");
        assert!(made.success());
        gate
    }

    pub(crate) fn path(&self) -> String {
        self.dir.path().join("gate").to_str().expect("plain").to_owned()
    }

    /// Lets the task go on, as soon as it waits.
    pub(crate) async fn open(&self) {
        let path = self.path();
        let opened = tokio::task::spawn_blocking(move || std::fs::write(path, "go on\n"));
        soon(opened).await.expect("no panic").expect("a fifo");
    }
}

/// Waits until the process has ended.
pub(crate) async fn gone(pid: &str) {
    let pid = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw).expect("a number");
    let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return };
    let ended = tokio::task::spawn_blocking(move || {
        let limit = rustix::time::Timespec { tv_sec: 30, tv_nsec: 0 };
        let mut waiting = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut waiting, Some(&limit)).expect("own descriptor")
    });
    assert_eq!(ended.await.expect("no panic"), 1, "{pid:?} still lives");
}

impl Session {
    /// Reads messages up to a number, and counts the output in them.
    pub(crate) async fn next_messages_until(&mut self, seq: u64, received: &mut u64) {
        let output = |report: pb::Report| match report.event {
            Some(pb::report::Event::Output(output)) => output.data.len() as u64,
            _ => 0,
        };
        *received += self.reports.drain(..).map(output).sum::<u64>();
        while self.last_seq < seq {
            let message = soon(self.incoming.message()).await.expect("a stream").expect("a message");
            self.last_seq = message.seq;
            self.busy = (message.busy_slots, message.busy_async);
            if let Some(pb::worker_message::Body::Reports(reports)) = message.body {
                *received += reports.reports.into_iter().map(output).sum::<u64>();
            }
        }
    }
}
