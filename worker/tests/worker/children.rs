//! Calls in child processes: what breaks there breaks one call.

use pb::outcome::Kind;
use pb::stop::Why;
use taskq_proto::v1 as pb;

use crate::coordinator::{Coordinator, Session, TOKEN, Worker, call, gone, key, lives};

async fn troubled(args: &[&str]) -> (Coordinator, Worker, Session) {
    let mut coordinator = Coordinator::start().await;
    let worker = Worker::start_example(&coordinator, "troubled", args);
    let session = coordinator.session().await;
    (coordinator, worker, session)
}

async fn pid(session: &mut Session, job: u64) -> String {
    String::from_utf8(session.call(job, "child.pid", "null").await.outcome.value.to_vec()).expect("a number")
}

#[tokio::test]
async fn a_child_serves_one_call_after_another() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    let first = pid(&mut session, 1).await;
    assert!(lives(&first));
    assert_eq!(pid(&mut session, 2).await, first);
    assert_eq!(session.call(3, "child.panic", "\"x\"").await.outcome.kind(), Kind::Failed);
    assert_eq!(pid(&mut session, 4).await, first, "a panic does not cost the child");
    session.call(5, "child.abort", "null").await;
    assert_ne!(pid(&mut session, 6).await, first);
}

#[tokio::test]
async fn each_way_to_die_is_told() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    let aborted = session.call(1, "child.abort", "null").await.outcome;
    assert_eq!((aborted.kind(), aborted.signal), (Kind::Signaled, libc::SIGABRT));
    assert_eq!(
        aborted.message,
        "child.abort: its child process was ended by signal 6 (SIGABRT: it aborted) before it had answered"
    );
    let overflowed = session.call(2, "child.overflow", "null").await.outcome;
    assert_eq!(overflowed.kind(), Kind::Signaled);
    assert!(overflowed.message.ends_with(": it overflowed its stack"), "{overflowed:?}");
    let leaked = session.call(3, "child.leak", "null").await.outcome;
    assert_eq!((leaked.kind(), leaked.out_of_memory), (Kind::Signaled, true), "{leaked:?}");
    assert!(leaked.message.ends_with("at its memory limit of 512 MiB"), "{leaked:?}");
    let left = session.call(4, "child.exit", "3").await.outcome;
    assert_eq!((left.kind(), left.exit_code), (Kind::Exited, 3));
    assert!(left.message.contains("child.exit: its child process exited with code 3"), "{left:?}");
    let left = session.call(5, "child.exit", "0").await.outcome;
    assert_eq!(left.kind(), Kind::Failed, "to leave with 0 is no success: {left:?}");
    let failure = left.failure.as_ref().expect("it failed");
    assert_eq!((failure.cause(), failure.fatal), (pb::failure::Cause::Error, false), "{left:?}");
    assert!(failure.message.ends_with("exited with code 0 before it had answered"), "{left:?}");
    assert_eq!(session.call(6, "child.echo", "1").await.outcome.value, "1");
    assert_eq!(session.call(7, "echo", "2").await.outcome.value, "2");
}

#[tokio::test]
async fn memory_that_ran_out_is_told_however_much_was_said() {
    let mut coordinator = Coordinator::start().await;
    let mut program = Worker::example("troubled");
    // With a backtrace, the words that tell it are far from the last ones.
    program.env("RUST_BACKTRACE", "full");
    let _worker = Worker::start_by(program, coordinator.addr, TOKEN, &["--slots", "1"]);
    let mut session = coordinator.session().await;
    for (job, lines) in [(1, "0"), (2, "100000")] {
        let greedy = session.call(job, "child.greedy", lines).await.outcome;
        assert_eq!((greedy.kind(), greedy.out_of_memory), (Kind::Signaled, true), "{greedy:?}");
        assert!(greedy.message.ends_with("at its memory limit of 512 MiB"), "{greedy:?}");
    }
}

#[tokio::test]
async fn what_a_call_used_is_its_own() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    let (most, before) = (200 << 20, pid(&mut session, 1).await);
    let hungry = session.call(2, "child.hungry", "200").await.outcome;
    let used = hungry.usage.expect("figures");
    assert!(used.peak_rss_bytes > most && used.user_us + used.system_us > 0, "{hungry:?}");
    assert!(used.user_us + used.system_us < 60_000_000, "{used:?}");
    let failed = session.call(3, "child.fails", "\"x\"").await.outcome;
    let used = failed.usage.expect("figures");
    let can_forget = std::fs::write("/proc/self/clear_refs", "5").is_ok();
    assert!(used.peak_rss_bytes > 0 && (!can_forget || used.peak_rss_bytes < most), "{failed:?}");
    assert_eq!(pid(&mut session, 4).await, before, "it is the same child");
}

#[tokio::test]
async fn a_call_that_hears_nothing_is_killed_after_its_grace() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    let before = pid(&mut session, 1).await;
    session.assign(pb::Template { timeout_ms: 50, kill_grace_ms: 100, ..call(2, "child.deaf", "600000") }, 1);
    let run = session.ended(0).await;
    assert_eq!((run.outcome.kind(), run.busy), (Kind::TimedOut, (0, 0)), "{:?}", run.outcome);
    assert!(run.outcome.message.contains("its timeout of 50ms"), "{:?}", run.outcome);
    assert!(!lives(&before));
    assert_ne!(pid(&mut session, 3).await, before);
}

#[tokio::test]
async fn what_a_killed_child_has_started_goes_with_it() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    let mut template = call(1, "child.starts", "null");
    template.kill_grace_ms = 600_000;
    session.assign(template, 1);
    let mut said = String::new();
    while !said.contains("waiting\n") {
        said += &session.output().await;
    }
    let started = said.lines().next().expect("a number").to_owned();
    assert!(lives(&started));
    session.stop(&[key(1, 0)], Why::Stale);
    gone(&started).await;
    assert_eq!(session.call(2, "child.echo", "1").await.outcome.value, "1");
}

#[tokio::test]
async fn children_go_with_their_worker() {
    let (mut coordinator, worker, mut session) = troubled(&["--slots", "1"]).await;
    let child = pid(&mut session, 1).await;
    worker.signal(libc::SIGKILL);
    assert_eq!(coordinator.burial().await.incarnation, session.hello.incarnation);
    assert!(!lives(&child));
}

#[tokio::test]
async fn a_child_does_not_know_the_token() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    let child = pid(&mut session, 1).await;
    let script = format!("tr '\\0' '\\n' < /proc/{child}/environ; ls -l /proc/{child}/fd");
    let run = session.run(2, &script).await;
    assert!(!run.stdout().contains("TASKQ_TOKEN"), "{}", run.stdout());
}

#[tokio::test]
async fn a_killed_spawner_costs_the_calls_of_its_children_and_no_more() {
    let (_coordinator, worker, mut session) = troubled(&["--slots", "1"]).await;
    let before = pid(&mut session, 1).await;
    session.assign(call(2, "child.patient", "null"), 1);
    assert_eq!(session.output().await, "waiting\n");
    let spawner = rustix::process::Pid::from_raw(worker.spawner()).expect("a number");
    rustix::process::kill_process(spawner, rustix::process::Signal::KILL).expect("it lives");
    assert_eq!(session.ended(0).await.outcome.kind(), Kind::WorkerLost);
    assert!(!lives(&before));
    assert_ne!(pid(&mut session, 3).await, before);
}

/// The worker that everybody has, with functions in Python.
async fn python() -> (Coordinator, Worker, Session) {
    let mut coordinator = Coordinator::start().await;
    let script = concat!("exec python3 ", env!("CARGO_MANIFEST_DIR"), "/tests/child.py");
    let worker = Worker::start(&coordinator, &["--slots", "1", "--child", script]);
    let session = coordinator.session().await;
    (coordinator, worker, session)
}

#[tokio::test]
async fn a_child_may_be_a_program_in_another_language() {
    let (_coordinator, _worker, mut session) = python().await;
    let names: Vec<_> = session.hello.functions.iter().map(|f| (f.name.as_str(), f.runtime())).collect();
    let process = pb::function::Runtime::Process;
    assert_eq!(names, [("py.divide", process), ("py.greet", process), ("py.leave", process)]);
    let run = session.call(1, "py.greet", "\"you\"").await;
    assert_eq!((run.outcome.kind(), &run.outcome.value[..]), (Kind::Completed, &b"\"hello you\""[..]));
    assert_eq!(run.stdout(), "greeting you\n");
    let failed = session.call(2, "py.divide", "[1, 0]").await.outcome;
    let failure = failed.failure.as_ref().expect("it failed");
    assert_eq!((failed.kind(), failure.r#type.as_str()), (Kind::Failed, "ZeroDivisionError"));
    assert!(failure.place.contains("child.py:"), "{failure:?}");
    assert_eq!(failed.message, "py.divide: ZeroDivisionError: division by zero");
    let left = session.call(3, "py.leave", "7").await.outcome;
    assert_eq!((left.kind(), left.exit_code), (Kind::Exited, 7));
    assert_eq!(session.call(4, "py.divide", "[6, 2]").await.outcome.value, "3.0");
    assert_eq!(session.run(5, "echo commands too").await.stdout(), "commands too\n");
}

#[tokio::test]
async fn a_call_whose_child_does_not_start_goes_elsewhere() {
    let mut coordinator = Coordinator::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (broken, python) =
        (folder.path().join("broken"), concat!(env!("CARGO_MANIFEST_DIR"), "/tests/child.py"));
    // It begins well; the next one is broken, until somebody mends it.
    let script = format!(
        "test -e {0} && {{ echo no library >&2; exit 3; }}; touch {0}; exec python3 {python}",
        broken.display()
    );
    let _worker = Worker::start(&coordinator, &["--slots", "1", "--child", &script]);
    let mut session = coordinator.session().await;
    let rejected = session.call(1, "py.greet", "\"you\"").await.outcome;
    assert_eq!((rejected.kind(), &rejected.failure), (Kind::Rejected, &None), "{rejected:?}");
    let why = "its child process could not be started: it exited with code 3 before it said Hello; it wrote: no library";
    assert_eq!(rejected.message, format!("worker w1: py.greet: {why}"));
    std::fs::remove_file(&broken).expect("it is there");
    assert_eq!(session.call(2, "py.greet", "\"you\"").await.outcome.value, "\"hello you\"");
}

#[tokio::test]
async fn a_worker_that_waits_for_its_program_ends_when_it_is_told_to() {
    let coordinator = Coordinator::start().await;
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let worker = Worker::start(&coordinator, &["--child", "exec sleep 600"]);
        worker.logged("says which functions it has").await;
        worker.signal(signal);
        let (status, log) = worker.exit().await;
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("exec sleep 600"), "{log}");
    }
}

#[tokio::test]
async fn a_program_that_is_no_child_is_told_at_once() {
    let coordinator = Coordinator::start().await;
    let cases = [
        ("echo oops >&2; exit 3", "it exited with code 3 before it said Hello; it wrote: oops"),
        ("printf 'hello, world' >&0; exec sleep 600", "it does not keep to the protocol: "),
    ];
    for (command, words) in cases {
        let worker = Worker::start(&coordinator, &["--child", command]);
        let (status, log) = worker.exit().await;
        assert_eq!(status.code(), Some(78), "{command}: {log}");
        assert!(log.contains(words) && log.contains(command), "{command}: {log}");
    }
}
