//! Nothing that a task starts outlives it, whatever it does, and whoever is killed.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use pb::outcome::Kind;
use pb::stop::Why;
use taskq_proto::v1 as pb;

use crate::coordinator::{Coordinator, Gate, Worker, gone, key, lives, shell};

/// A background child, one in another session, and one that was forked twice; their numbers on standard output.
const FAMILY: &str = "sleep 600 & echo $!
setsid sh -c 'echo $$; sleep 600' &
(setsid sh -c 'echo $$; sleep 600' &)
while [ ! -e /proc/self/never ]; do sleep 600; done";

async fn family(session: &mut crate::coordinator::Session) -> Vec<String> {
    let mut pids = String::new();
    while pids.lines().count() < 3 {
        pids += &session.output().await;
    }
    let pids: Vec<String> = pids.lines().map(str::to_owned).collect();
    assert!(pids.iter().all(|pid| lives(pid)), "{pids:?}");
    pids
}

/// The end is told when the tree is empty, not before.
fn all_gone(pids: &[String]) {
    for pid in pids {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(!lives(pid), "of {pids:?} this one lives: {stat}");
    }
}

#[tokio::test]
async fn a_cancelled_task_goes_with_its_whole_tree() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &[]);
    let mut session = coordinator.session().await;
    session.assign(shell(1, FAMILY), 1);
    let pids = family(&mut session).await;
    session.stop(&[key(1, 0)], Why::Cancelled);
    let outcome = session.ended(0).await.outcome;
    assert_eq!(outcome.kind(), Kind::Cancelled);
    all_gone(&pids);
}

#[tokio::test]
async fn who_ignores_term_is_killed_after_the_grace() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &[]);
    let mut session = coordinator.session().await;
    let mut template = shell(1, "trap '' TERM; echo $$; sleep 600; sleep 600");
    template.timeout_ms = 100;
    session.assign(template, 1);
    let pid = session.output().await;
    let outcome = session.ended(0).await.outcome;
    assert_eq!(outcome.kind(), Kind::TimedOut, "{outcome:?}");
    assert!(outcome.usage.is_some_and(|usage| usage.wall_us >= 400_000), "timeout and grace have passed");
    assert!(!lives(&pid));
}

#[tokio::test]
async fn who_ends_on_term_may_tidy_up() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &[]);
    let mut session = coordinator.session().await;
    let mut template = shell(1, "trap 'echo tidy; exit 0' TERM; echo ready; while :; do sleep 0.01; done");
    template.kill_grace_ms = 600_000;
    session.assign(template, 1);
    assert_eq!(session.output().await, "ready\n");
    session.stop(&[key(1, 0)], Why::Cancelled);
    let run = session.ended(0).await;
    assert_eq!(run.outcome.kind(), Kind::Cancelled);
    assert_eq!(run.stdout(), "tidy\n");
}

#[tokio::test]
async fn a_stopped_process_does_not_escape_its_timeout() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &[]);
    let mut session = coordinator.session().await;
    let mut template = shell(1, "kill -STOP $$");
    template.timeout_ms = 50;
    session.assign(template, 1);
    assert_eq!(session.ended(0).await.outcome.kind(), Kind::TimedOut);
}

#[tokio::test]
async fn what_a_task_leaves_behind_goes_with_it() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &[]);
    let mut session = coordinator.session().await;
    // All of them hold the pipes, and those that say their number themselves say when they have.
    let gate = Gate::new();
    let script = FAMILY.replace("sleep 600'", "echo >&3; sleep 600'");
    let script = script.replace("while", "read a <&3; read b <&3; exit 5; while");
    let run = session.run(1, &format!("exec 3<>{}\n{script}", gate.path())).await;
    assert_eq!((run.outcome.kind(), run.outcome.exit_code), (Kind::Exited, 5));
    let text = run.stdout();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.lines().all(|pid| !lives(pid)));
}

#[tokio::test]
async fn a_daemon_that_hides_lives_no_longer_than_who_may_have_started_it() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &["--slots", "2"]);
    let mut session = coordinator.session().await;
    let gate = Gate::new();
    let daemon = "(env -i setsid sh -c 'echo $$; echo >&3; sleep 600' &); read word <&3";
    let run = session.run(1, &format!("exec 3<>{}; {daemon}", gate.path())).await;
    assert!(!run.stdout().is_empty() && !lives(&run.stdout()));
}

#[tokio::test]
async fn a_task_without_pipes_ends_like_others() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &[]);
    let mut session = coordinator.session().await;
    let run = session.run(1, "exec >&- 2>&- <&-; exit 4").await;
    assert_eq!((run.outcome.kind(), run.outcome.exit_code), (Kind::Exited, 4));
}

#[tokio::test]
async fn a_killed_worker_leaves_nothing_and_is_buried() {
    let mut coordinator = Coordinator::start().await;
    let worker = Worker::start(&coordinator, &[]);
    let mut session = coordinator.session().await;
    session.assign(shell(1, FAMILY), 1);
    let pids = family(&mut session).await;
    worker.signal(9);
    let burial = coordinator.burial().await;
    assert_eq!(burial.incarnation, session.hello.incarnation);
    all_gone(&pids);
}

#[tokio::test]
async fn a_killed_spawner_costs_what_it_ran_and_no_more() {
    let mut coordinator = Coordinator::start().await;
    let worker = Worker::start(&coordinator, &["--slots", "2"]);
    let mut session = coordinator.session().await;
    session.assign(shell(1, FAMILY), 1);
    let pids = family(&mut session).await;
    let spawner = worker.spawner();
    // `kill -9 $PPID` of a task hits the spawner.
    session.assign(shell(2, "kill -9 $PPID; sleep 600"), 1);
    let outcomes = [session.ended(0).await.outcome, session.ended(0).await.outcome];
    assert!(outcomes.iter().all(|outcome| outcome.kind() == Kind::WorkerLost), "{outcomes:?}");
    all_gone(&pids);
    let run = session.run(3, "echo fine").await;
    assert_eq!(run.stdout(), "fine\n");
    assert_ne!(worker.spawner(), spawner);
}

#[tokio::test]
async fn a_killed_spawner_is_replaced_in_a_container_too() {
    let mut coordinator = Coordinator::start().await;
    let Some(_worker) = Worker::start_contained(&coordinator, &["--slots", "2"]) else { return };
    let mut session = coordinator.session().await;
    // Process ids say nothing across the border; a pipe ends when nobody is left who holds it.
    let gate = Gate::new();
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut held =
        std::fs::OpenOptions::new().read(true).custom_flags(flags).open(gate.path()).expect("a fifo");
    session
        .assign(shell(1, &format!("exec 3> {}; setsid sh -c 'echo up; sleep 600' & wait", gate.path())), 1);
    assert_eq!(session.output().await, "up\n");
    session.assign(shell(2, "kill -9 $PPID; sleep 600"), 1);
    let outcomes = [session.ended(0).await.outcome, session.ended(0).await.outcome];
    assert!(outcomes.iter().all(|outcome| outcome.kind() == Kind::WorkerLost), "{outcomes:?}");
    assert_eq!(held.read(&mut [0]).ok(), Some(0), "somebody holds the pipe");
    assert_eq!(session.run(3, "echo fine").await.stdout(), "fine\n");
}

#[tokio::test]
async fn tasks_do_not_outlive_a_spawner_that_nobody_replaces() {
    let mut coordinator = Coordinator::start().await;
    let worker = Worker::start(&coordinator, &[]);
    let mut session = coordinator.session().await;
    session.assign(shell(1, "trap '' TERM HUP; echo $$; while :; do sleep 600; done"), 1);
    let pid = session.output().await;
    let spawner = rustix::process::Pid::from_raw(worker.spawner()).expect("a number");
    worker.signal(19);
    rustix::process::kill_process(spawner, rustix::process::Signal::KILL).expect("it lives");
    gone(&pid).await;
}
