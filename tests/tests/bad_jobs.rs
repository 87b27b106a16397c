//! Programs that misbehave: they are ended wholly, their output is bounded, and the worker works on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use taskq_proto::v1 as pb;
use taskq_proto::v1::outcome::Kind;
use taskq_tests::{Api, Cluster, Setup, need, procs, spec, wait};

/// Environment mark of these tasks; the value is the test's own.
const MARK: &str = "TEST_OF_BAD_JOBS";

fn cluster() -> (Cluster, Api) {
    let mut cluster = Setup::new().tolerate("worker").tolerate("spawner").start();
    cluster.worker(2);
    let api = cluster.api();
    (cluster, api)
}

fn marked(mut job: pb::JobSpec, value: &str) -> pb::JobSpec {
    let value = format!("{value}-{}", std::process::id());
    job.command.as_mut().expect("a command").env.insert(MARK.to_owned(), value);
    job
}

#[track_caller]
fn nothing_left(value: &str) {
    let value = format!("{value}-{}", std::process::id());
    wait::holds("no process of the task is left", || procs::marked(MARK, &value).is_empty());
}

#[track_caller]
fn works_on(cluster: &Cluster) {
    assert_eq!(cluster.taskq(&["run", "--", "echo", "well"]).ok().out(), "well", "the worker works on");
}

#[test]
fn a_task_that_kills_its_parent_fails_alone() {
    let (mut cluster, api) = cluster();
    let mut job = marked(spec::shell("kill -9 $PPID; exec sleep 600"), "parent");
    job.crash_limit = 2;
    let id = api.submit_one(job);
    let ended = api.ended(id);
    assert_eq!(ended.state, pb::State::Failed as i32, "{:?}", api.task(id, 0));
    nothing_left("parent");
    if cluster.worker_at(0).ended().is_some() {
        cluster.restart_worker(0, 2, &[]);
    }
    works_on(&cluster);
}

#[test]
fn a_daemon_that_detached_twice_ends_with_its_task() {
    let (cluster, api) = cluster();
    let script = "setsid sh -c 'setsid sleep 600 & echo $! ' & wait; exit 0";
    let id = api.submit_one(marked(spec::shell(script), "daemon"));
    assert_eq!(api.ended(id).state, pb::State::Succeeded as i32);
    nothing_left("daemon");
    works_on(&cluster);
}

#[test]
fn cancel_ends_what_ignores_term() {
    let (cluster, api) = cluster();
    let mut job = marked(spec::shell("trap '' TERM; echo up; while :; do sleep 600; done"), "stubborn");
    job.kill_grace_ms = 300;
    let id = api.submit_one(job);
    api.running(id);
    api.cancel(&[id]).expect("cancel");
    assert_eq!(api.ended(id).state, pb::State::Cancelled as i32);
    // CANCELLED is recorded once the tree is empty.
    let value = format!("stubborn-{}", std::process::id());
    assert_eq!(procs::marked(MARK, &value), []);
    works_on(&cluster);
}

#[test]
fn a_timeout_ends_the_whole_tree() {
    let (cluster, api) = cluster();
    let mut job = marked(spec::shell("sleep 600 & (sleep 600; :) & wait"), "timeout");
    job.timeout_ms = 300;
    let id = api.submit_one(job);
    api.ended(id);
    let outcome = api.task(id, 0).outcome.expect("an outcome");
    assert_eq!(outcome.kind, Kind::TimedOut as i32, "{outcome:?}");
    nothing_left("timeout");
    works_on(&cluster);
}

#[test]
fn a_pipe_held_after_the_end_does_not_hold_the_task() {
    let (cluster, api) = cluster();
    let script = "echo before; setsid sleep 600 & exit 0";
    let id = api.submit_one(marked(spec::shell(script), "pipe"));
    assert_eq!(api.ended(id).state, pb::State::Succeeded as i32);
    assert_eq!(&api.task(id, 0).outcome.expect("an outcome").stdout[..], b"before\n");
    nothing_left("pipe");
    let closes = api.submit_one(spec::shell("exec >&- 2>&- <&-; exit 6"));
    api.ended(closes);
    assert_eq!(api.task(closes, 0).outcome.expect("an outcome").exit_code, 6);
    works_on(&cluster);
}

#[test]
fn every_code_and_every_signal_is_told() {
    let (mut cluster, api) = cluster();
    cluster.worker(4);
    let codes = api.submit_one(spec::array(spec::shell("exit $TASKQ_TASK"), 256));
    // Stop signals and CHLD, CONT, URG, WINCH do not end a process.
    let fatal: Vec<i32> = (1..=31).filter(|n| ![17, 18, 19, 20, 21, 22, 23, 28].contains(n)).collect();
    let shot: Vec<(i32, u64)> = fatal
        .iter()
        .map(|n| (*n, api.submit_one(spec::shell(&format!("ulimit -c 0; kill -{n} $$; sleep 600")))))
        .collect();
    api.ended(codes);
    for end in api.ends(codes).expect("ends") {
        let outcome = end.outcome.expect("an outcome");
        assert_eq!((outcome.kind, outcome.exit_code), (Kind::Exited as i32, end.index as i32));
    }
    for (signal, id) in shot {
        api.ended(id);
        let outcome = api.task(id, 0).outcome.expect("an outcome");
        assert_eq!((outcome.kind, outcome.signal), (Kind::Signaled as i32, signal), "{outcome:?}");
    }
}

#[test]
fn a_flood_of_output_is_bounded_and_its_tail_is_kept() {
    let (mut cluster, api) = cluster();
    let worker = cluster.worker_at(0).pid();
    // 10 GiB take this long only if they are read at the pace of a disk; they are not kept.
    let gib = if std::env::var("TASKQ_SOAK").as_deref() == Ok("full") { 10 } else { 1 };
    let script = format!("head -c {gib}G /dev/zero | tr '\\0' x; echo the end");
    let id = api.submit_one(marked(spec::shell(&script), "flood"));
    let mut most = 0;
    wait::until_within(Duration::from_secs(300), "the flood ends", || {
        most = most.max(procs::resident_bytes(worker).unwrap_or(0));
        most = most.max(procs::resident_bytes(cluster.server_pid()).unwrap_or(0));
        spec::is_terminal(api.get(id).ok()?.state).then_some(())
    });
    let outcome = api.task(id, 0).outcome.expect("an outcome");
    assert_eq!(outcome.exit_code, 0, "{}", outcome.message);
    assert_eq!(outcome.stdout_bytes, (gib << 30) + 8, "all of it was counted");
    assert!(most < 150 << 20, "memory stays bounded: {most} bytes");
    let logs = cluster.taskq(&["logs", &id.to_string()]).code(74);
    assert!(logs.stdout.len() < 4 << 20, "what is kept is bounded: {} bytes", logs.stdout.len());
    assert!(logs.out().ends_with("the end"), "the tail is kept");
    assert!(procs::disk_bytes(&cluster.data()) < 200 << 20, "the disk stays bounded");
    works_on(&cluster);
}

/// A control group of 32 MiB, version 1 or 2, for processes that enter it themselves; gone with the value.
struct Cramped(PathBuf);

impl Cramped {
    /// `None`, said aloud, where there is none to be had.
    fn make() -> Option<Cramped> {
        let root = Path::new("/sys/fs/cgroup");
        let (parent, limit) = match root.join("memory").exists() {
            true => (root.join("memory"), "memory.limit_in_bytes"),
            false => (root.to_owned(), "memory.max"),
        };
        let folder = parent.join(format!("taskq-test-{}", std::process::id()));
        let made = fs::create_dir(&folder).and_then(|()| fs::write(folder.join(limit), "32M"));
        need::given(made.is_ok(), "it needs a control group for memory").then_some(Cramped(folder))
    }
}

impl Drop for Cramped {
    fn drop(&mut self) {
        wait::holds("the control group is empty", || fs::remove_dir(&self.0).is_ok());
    }
}

#[test]
fn who_runs_out_of_memory_is_told_so() {
    if !need::root_and(&[]) {
        return;
    }
    let Some(cramped) = Cramped::make() else { return };
    let (cluster, api) = cluster();
    let enter = format!("echo $$ > {}/cgroup.procs", cramped.0.display());
    // A line without end is held in memory.
    let run = cluster.taskq(&["run", "-c", &format!("{enter}; exec tail /dev/zero")]).code(137);
    run.says(&["oom", "memory"]);
    let killed = api.submit_one(spec::shell("kill -9 $$"));
    api.ended(killed);
    let outcome = api.task(killed, 0).outcome.expect("an outcome");
    assert_eq!((outcome.signal, outcome.out_of_memory), (9, false), "killed by somebody else: {outcome:?}");
    works_on(&cluster);
}

#[test]
fn a_line_without_end_and_bytes_of_all_kinds_come_through() {
    let (cluster, _) = cluster();
    let all: Vec<u8> = (0..=255).cycle().take(50_000).collect();
    let run = cluster.cli(&["run", "--stdin", "-", "--", "cat"]).stdin(all.clone()).run().ok();
    assert_eq!(run.stdout, all, "bytes are not touched");
}
