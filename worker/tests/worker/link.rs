//! The link to the coordinator: lost, refused, found again; drained and stopped.

use pb::outcome::Kind;
use pb::report::Event;
use pb::stop::Why;
use taskq_proto::v1 as pb;

use crate::coordinator::{Coordinator, Gate, TOKEN, Worker, argv, gone, key, lives, shell};

#[tokio::test]
async fn a_worker_introduces_itself() {
    let mut coordinator = Coordinator::start().await;
    let args = ["--slots", "3", "--label", "zone=a", "--resource", "gpu=2"];
    let _worker = Worker::start(&coordinator, &args);
    let hello = coordinator.hello().await.hello;
    assert_eq!((hello.name.as_str(), hello.slots, hello.protocol), ("w1", 3, 1));
    assert!(hello.incarnation != 0 && hello.window >= hello.slots && hello.held.is_empty());
    assert_eq!(hello.labels["zone"], "a");
    assert_eq!(hello.named["gpu"], 2);
}

#[tokio::test]
async fn a_worker_connects_from_the_address_that_it_is_given() {
    let mut coordinator = Coordinator::start().await;
    let _one = Worker::start(&coordinator, &["--source-address", "127.0.0.2"]);
    assert_eq!(coordinator.hello().await.from.to_string(), "127.0.0.2");
}

#[tokio::test]
async fn the_coordinator_may_come_later() {
    let addr = Coordinator::start().await.vanish();
    let _worker = Worker::start_at(addr, TOKEN, &[]);
    let mut coordinator = Coordinator::start_at(addr).await;
    let run = coordinator.session().await.run(1, "exit 0").await;
    assert_eq!(run.outcome.kind(), Kind::Exited);
}

#[tokio::test]
async fn a_wrong_token_is_an_end_with_its_own_code() {
    let coordinator = Coordinator::start().await;
    let worker = Worker::start_at(coordinator.addr, "tq_wrong", &[]);
    let (status, log) = worker.exit().await;
    assert_eq!(status.code(), Some(77), "{log}");
    assert!(log.contains("token") && !log.contains("tq_wrong"), "{log}");
}

#[tokio::test]
async fn what_was_not_confirmed_is_reported_again_and_what_runs_goes_on() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &["--slots", "2"]);
    let mut session = coordinator.session().await;
    let fifo = tempfile::tempdir().expect("a directory");
    let path = fifo.path().join("fifo");
    let path = path.to_str().expect("plain");
    session.assign(shell(1, "echo once"), 1);
    session.assign(shell(2, &format!("mkfifo {path}; echo ready; read word < {path}; echo $word")), 1);
    let mut told = (false, false);
    while told != (true, true) {
        match session.report().await.event {
            Some(Event::Outcome(outcome)) => told.0 = outcome.stdout == "once\n",
            Some(Event::Output(output)) => told.1 = output.data == "ready\n",
            _ => {}
        }
    }
    let incarnation = session.hello.incarnation;
    let addr = coordinator.vanish();
    drop(session);
    let mut coordinator = Coordinator::start_at(addr).await;
    let mut session = coordinator.session().await;
    assert_eq!(session.hello.incarnation, incarnation);
    let mut held = session.hello.held.clone();
    held.sort_by_key(|key| key.job_id);
    assert_eq!(held, [key(1, 0), key(2, 0)]);
    let again = loop {
        let report = session.report().await;
        if let Some(Event::Outcome(outcome)) = report.event {
            break (report.key, outcome.stdout);
        }
    };
    assert_eq!(again, (Some(key(1, 0)), "once\n".into()));
    session.commit();
    std::fs::write(path, "on\n").expect("the task reads");
    assert!(session.ended(0).await.stdout().ends_with("on\n"));
}

#[tokio::test]
async fn what_belongs_to_somebody_else_is_killed_without_a_word() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &["--slots", "2"]);
    let mut session = coordinator.session().await;
    let mut template = shell(1, "trap '' TERM; echo $$; while :; do sleep 600; done");
    template.kill_grace_ms = 600_000;
    session.assign(template.clone(), 1);
    let first = session.output().await;
    session.stop(&[key(1, 0)], Why::Stale);
    // Its slot is free once it is gone, so that this one, which needs both, starts after it.
    let mut both = shell(2, "true");
    both.resources = Some(pb::Resources { slots: 2, ..Default::default() });
    session.assign(both, 1);
    let mut reports = Vec::new();
    while !reports.iter().any(|report: &pb::Report| matches!(report.event, Some(Event::Outcome(_)))) {
        reports.push(session.report().await);
    }
    assert!(reports.iter().all(|report| report.key.is_some_and(|key| key.job_id == 2)), "{reports:?}");
    assert!(!lives(&first));
    session.commit();

    session.assign_more(1, 1, 1);
    let second = session.output().await;
    let addr = coordinator.vanish();
    drop(session);
    let mut coordinator = Coordinator::start_at(addr).await;
    let mut session = coordinator.hello().await;
    assert_eq!(session.hello.held, [key(1, 1)]);
    session.welcome(&[key(1, 1)]);
    let mut both = shell(3, "true");
    both.resources = Some(pb::Resources { slots: 2, ..Default::default() });
    session.assign(both, 1);
    let report = session.report().await;
    assert_eq!(report.key.map(|key| key.job_id), Some(3));
    assert!(!lives(&second));
}

#[tokio::test]
async fn tasks_start_by_priority_then_as_they_came() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &["--slots", "1"]);
    let mut session = coordinator.session().await;
    let gate = Gate::new();
    session.assign(shell(9, &format!("echo running; read word < {}", gate.path())), 1);
    assert_eq!(session.output().await, "running\n");
    let mut urgent = argv(8, &["true"]);
    urgent.priority = 5;
    session.assign(argv(5, &["true"]), 2);
    session.assign(argv(4, &["true"]), 1);
    session.assign(urgent, 1);
    session.heard().await;
    gate.open().await;
    let mut order = Vec::new();
    while order.len() < 5 {
        let report = session.report().await;
        if let (Some(Event::Outcome(_)), Some(key)) = (report.event, report.key) {
            order.push((key.job_id, key.index));
        }
    }
    assert_eq!(order, [(9, 0), (8, 0), (5, 0), (5, 1), (4, 0)]);
}

#[tokio::test]
async fn a_task_that_waits_long_is_given_back() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &["--slots", "1"]);
    let mut session = coordinator.session().await;
    session.assign(shell(1, "sleep 600"), 2);
    loop {
        let report = session.report().await;
        match report.event {
            Some(Event::Returned(_)) => return assert_eq!(report.key, Some(key(1, 1))),
            Some(Event::Started(_)) => assert_eq!(report.key, Some(key(1, 0))),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_waiting_task_can_be_cancelled() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &["--slots", "1"]);
    let mut session = coordinator.session().await;
    session.assign(shell(1, "sleep 600"), 2);
    session.stop(&[key(1, 1)], Why::Cancelled);
    assert_eq!(session.ended(1).await.outcome.kind(), Kind::Cancelled);
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_gives_back_the_rest() {
    let mut coordinator = Coordinator::start().await;
    let worker = Worker::start(&coordinator, &["--slots", "1"]);
    let mut session = coordinator.session().await;
    let gate = Gate::new();
    session.assign(shell(1, &format!("echo running; read word < {}; exit 3", gate.path())), 3);
    assert_eq!(session.output().await, "running\n");
    worker.signal(15);
    let mut returned = Vec::new();
    while returned.len() < 2 {
        let report = session.report().await;
        if let Some(Event::Returned(_)) = report.event {
            returned.push(report.key.expect("a key").index);
        }
    }
    assert_eq!(returned, [1, 2]);
    session.assign_more(1, 3, 1);
    let returned = session.report().await;
    assert!(matches!(returned.event, Some(Event::Returned(_))), "nothing new is taken: {returned:?}");
    gate.open().await;
    let run = session.ended(0).await;
    assert_eq!(run.outcome.exit_code, 3);
    assert!(!session.goodbye);
    session.commit();
    assert!(session.next().await.is_none() && session.goodbye);
    let (status, log) = worker.exit().await;
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test]
async fn a_second_signal_stops_what_runs() {
    let mut coordinator = Coordinator::start().await;
    let worker = Worker::start(&coordinator, &["--slots", "1"]);
    let mut session = coordinator.session().await;
    session.assign(shell(1, "trap '' TERM; echo $$; while :; do sleep 600; done"), 1);
    let pid = session.output().await;
    worker.signal(15);
    worker.signal(2);
    let outcome = session.ended(0).await.outcome;
    assert_eq!(outcome.kind(), Kind::Rejected, "{outcome:?}");
    assert!(!lives(&pid));
    assert!(session.next().await.is_none() && session.goodbye);
    let (status, log) = worker.exit().await;
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test]
async fn nonsense_from_the_coordinator_harms_nobody() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &["--slots", "1"]);
    let mut session = coordinator.session().await;
    let say = pb::coordinator_message::Body::Committed(pb::Committed { seq: u64::MAX });
    session.say(say);
    session.stop(&[key(77, 7)], Why::Cancelled);
    session.stop(&[key(77, 7)], Why::Stale);
    session.say(pb::coordinator_message::Body::Assign(pb::Assign::default()));
    session.assign_more(55, 0, 1);
    let report = session.report().await;
    assert!(matches!(report.event, Some(Event::Returned(_))), "no template, no run: {report:?}");
    session.assign(pb::Template { job_id: 2, ..Default::default() }, 1);
    assert_eq!(session.ended(0).await.outcome.kind(), Kind::CannotExecute);
    let columns = vec!["somebody".to_owned()];
    session.assign(pb::Template { columns, ..argv(3, &["echo", "{nobody}"]) }, 1);
    assert_eq!(session.ended(0).await.outcome.kind(), Kind::CannotExecute);
    session.assign(shell(4, "echo fine"), 1);
    session.assign_more(4, 0, 1);
    assert_eq!(session.ended(0).await.stdout(), "fine\n");
}

const STUBBORN: &str = "trap '' TERM; echo $$; while :; do sleep 600; done";

#[tokio::test]
async fn a_worker_that_is_not_answered_kills_what_others_may_run() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &["--slots", "1", "--on-lease-lost", "kill"]);
    let mut session = coordinator.hello().await;
    session.welcome_briefly();
    session.assign(shell(1, STUBBORN), 1);
    let pid = session.output().await;
    // Longer than a lease, 200 ms each.
    session.answer(20).await;
    assert!(lives(&pid), "who is answered goes on");
    // The connection is there, but nobody says anything.
    gone(&pid).await;
    let run = session.ended(0).await;
    assert_eq!(run.outcome.kind(), Kind::Rejected, "it costs no attempt: {:?}", run.outcome);
    let run = session.run(2, "echo fine").await;
    assert_eq!(run.stdout(), "fine\n");
}

#[tokio::test]
async fn the_tasks_of_a_stopped_worker_end_with_its_lease() {
    let mut coordinator = Coordinator::start().await;
    let worker = Worker::start(&coordinator, &["--slots", "1", "--on-lease-lost", "kill"]);
    let mut session = coordinator.hello().await;
    session.welcome_briefly();
    session.assign(shell(1, STUBBORN), 1);
    let pid = session.output().await;
    worker.signal(19);
    gone(&pid).await;
    worker.signal(18);
    let outcome = session.ended(0).await.outcome;
    assert_eq!(outcome.kind(), Kind::Rejected, "{outcome:?}");
}
