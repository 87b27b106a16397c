//! What systemd is told of coordinator and worker: ready, how they are, that they stop; and no beat of the watchdog while
//! what it watches hangs.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use taskq_tests::{
    Cluster, Daemon, Disk, Manager, Setup, binaries, cluster, daemon, manager, need, spec, wait,
};

/// Beats come twice as often.
const WATCHDOG: Duration = Duration::from_secs(1);
/// Two beats would have come.
const SILENCE: Duration = Duration::from_millis(2_500);

#[test]
fn a_coordinator_is_ready_when_it_answers_and_says_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let manager = Manager::new(folder.path());
    let mut cluster =
        watched_server(&manager, &folder.path().join("data")).tolerate("no coordinator").launch();
    let ready = manager.hears("READY=1");
    assert!(cluster.api_if_ready().is_some(), "it was ready, and does not answer");
    assert!(manager::has(&ready, "STATUS=0 workers, 0 slots; 0 running, 0 waiting"), "{ready}");
    assert!(manager::has(&manager.hears("WATCHDOG=1"), "STATUS=…"));
    let beats = manager.for_a_while(SILENCE);
    assert!(beats.len() >= 3, "a beat each half of {WATCHDOG:?}: {beats:?}");

    cluster.worker_with(2, &[]);
    manager.hears("STATUS=1 worker, 2 slots; 0 running, 0 waiting");
    let job = cluster.api().submit_one(spec::command(&["sleep", "100"]));
    manager.hears("STATUS=1 worker, 2 slots; 1 running, 0 waiting");
    cluster.taskq(&["cancel", &job.to_string()]).ok();

    manager.forget();
    cluster.stop_server();
    manager.hears("STOPPING=1");
    assert_eq!(manager.for_a_while(Duration::from_millis(1)), Vec::<String>::new(), "that was the last word");
}

#[test]
fn a_disk_that_hangs_stops_the_beats_of_the_coordinator() {
    if !need::root_and(&["mount", "mkfs.ext4", "fsfreeze"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let manager = Manager::new(folder.path());
    let disk = Disk::ext4(96);
    let cluster = watched_server(&manager, &disk.folder().join("data")).tolerate("").start();
    manager.hears("WATCHDOG=1");

    let frozen = Frozen::new(disk.folder());
    let api = cluster.api();
    let submit = thread::spawn(move || api.submit(&spec::request(vec![spec::command(&["true"])])));
    wait::holds("the beats end", || !beats(&manager.for_a_while(WATCHDOG)));
    let said = manager.for_a_while(SILENCE);
    assert!(!beats(&said), "the disk hangs, and it beats: {said:?}");

    drop(frozen);
    manager.hears("WATCHDOG=1");
    submit.join().unwrap().expect("the disk was slow, and nothing else");
    drop(cluster);
}

#[test]
fn a_worker_is_ready_without_a_coordinator_and_stops_when_its_tasks_have_ended() {
    let mut cluster = Cluster::start();
    let manager = Manager::new(cluster.folder());
    cluster.stop_server();
    cluster.tolerate("no coordinator");
    let mut worker = watched_worker(&cluster, &manager, 2);
    let first = manager.hears("READY=1");
    assert_eq!(first.trim(), "READY=1");
    let address = cluster.access().address;
    manager.hears(&format!("STATUS=0 of 2 slots busy; no coordinator at {address}, trying again"));

    cluster.start_server();
    manager.hears("STATUS=0 of 2 slots busy");
    let gate = cluster.folder().join("gate");
    let script = format!("env; mkfifo {0}; cat {0}", gate.display());
    let job = cluster.api().submit_one(spec::shell(&script));
    manager.hears("STATUS=1 of 2 slots busy");
    worker.signal(Signal::TERM);
    manager.hears("STATUS=draining, 1 still running");
    let said = manager.for_a_while(SILENCE);
    assert!(beats(&said), "it beats while it drains: {said:?}");
    assert!(!said.iter().any(|message| manager::has(message, "STOPPING=1")), "something runs: {said:?}");
    std::fs::write(&gate, "go\n").unwrap();
    manager.hears("STOPPING=1");
    assert_eq!(worker.end().code(), Some(0));

    let environment = cluster.taskq(&["logs", &job.to_string()]).ok().out();
    assert!(environment.contains("TASKQ_JOB=") && environment.ends_with("go"), "{environment}");
    for private in ["NOTIFY_SOCKET", "WATCHDOG"] {
        assert!(!environment.contains(private), "a task could speak for its worker: {environment}");
    }
}

#[test]
fn a_worker_whose_loop_hangs_does_not_beat() {
    if !need::root_and(&["strace"]) {
        return;
    }
    let cluster = Cluster::start();
    let manager = Manager::new(cluster.folder());
    let worker = watched_worker(&cluster, &manager, 1);
    manager.hears("STATUS=0 of 1 slots busy");

    // Of this thread only, which is the loop's: its next wait does not begin for a minute.
    let mut command = daemon::leashed(Path::new("strace"));
    command.args(["-qq", "-e", "trace=epoll_wait,epoll_pwait,epoll_pwait2", "-e"]);
    command.args([
        "inject=epoll_wait,epoll_pwait,epoll_pwait2:delay_enter=60s",
        "-p",
        &worker.pid().to_string(),
    ]);
    let holder = Daemon::start("strace", &cluster.folder().join("strace.out"), command);
    wait::holds("the beats end", || !beats(&manager.for_a_while(WATCHDOG)));
    let said = manager.for_a_while(SILENCE);
    assert!(!beats(&said), "the loop hangs, and it beats: {said:?}");

    drop(holder);
    manager.hears("WATCHDOG=1");
}

fn beats(messages: &[String]) -> bool {
    messages.iter().any(|message| manager::has(message, "WATCHDOG=1"))
}

fn watchdog_usec() -> String {
    WATCHDOG.as_micros().to_string()
}

fn watched_server(manager: &Manager, data: &Path) -> Setup {
    Setup::new()
        .data(data)
        .server_env("NOTIFY_SOCKET", manager.path())
        .server_env("WATCHDOG_USEC", &watchdog_usec())
}

fn watched_worker(cluster: &Cluster, manager: &Manager, slots: u32) -> Daemon {
    let mut command = daemon::leashed(&binaries::worker());
    command.args(["--name", "watched", "--slots", &slots.to_string()]);
    cluster::clean(&mut command, cluster.folder());
    command.env("TASKQ_ACCESS", cluster.access_file()).current_dir(cluster.folder());
    command.env("NOTIFY_SOCKET", manager.path()).env("WATCHDOG_USEC", watchdog_usec());
    Daemon::start("the worker", &cluster.folder().join("watched.log"), command)
}

/// A file system on which every write waits, until this is dropped.
struct Frozen<'a>(&'a Path);

impl Frozen<'_> {
    fn new(folder: &Path) -> Frozen<'_> {
        let done = Command::new("fsfreeze").arg("--freeze").arg(folder).status().expect("fsfreeze");
        assert!(done.success(), "{} cannot be frozen", folder.display());
        Frozen(folder)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let done = Command::new("fsfreeze").arg("--unfreeze").arg(self.0).status();
        assert!(done.is_ok_and(|status| status.success()), "{} stays frozen", self.0.display());
    }
}
