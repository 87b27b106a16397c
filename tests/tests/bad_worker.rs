//! Workers that lie, babble and forge: what they say changes nothing but their own session.

use std::time::Duration;
use taskq_proto::v1 as pb;
use taskq_proto::v1::coordinator_message::Body;
use taskq_proto::v1::outcome::Kind;
use taskq_proto::v1::worker_message::Body as Said;
use taskq_tests::{Api, Cluster, Daemon, FakeWorker, Setup, binaries, daemon, fake_worker, spec, wait};
use tonic::Code;

fn hello(name: &str) -> pb::Hello {
    pb::Hello {
        incarnation: 1,
        name: name.to_owned(),
        protocol: 1,
        slots: 1,
        window: 1,
        ..Default::default()
    }
}

fn coordinator() -> (Cluster, Api) {
    let cluster = Setup::new().tolerate("worker").tolerate("session").start();
    let api = cluster.api();
    (cluster, api)
}

/// How a session that must be refused is refused.
fn refused(api: &Api, cluster: &Cluster, first: Option<Said>) -> tonic::Status {
    let access = cluster.access();
    api.block_on(async {
        let mut worker = FakeWorker::open(&access, first).await?;
        match tokio::time::timeout(Duration::from_secs(30), worker.hear()).await {
            Ok(Ok(heard)) => panic!("the session was taken: {heard:?}"),
            Ok(Err(status)) => Err::<(), _>(status),
            Err(_) => panic!("no answer"),
        }
    })
    .expect_err("only errors come out")
}

#[test]
fn a_session_must_begin_with_a_sound_hello() {
    let (cluster, api) = coordinator();
    let mut wrong: Vec<(&str, pb::Hello)> = vec![
        ("an empty hello", pb::Hello::default()),
        ("no incarnation", pb::Hello { incarnation: 0, ..hello("w") }),
        ("no slots", pb::Hello { slots: 0, ..hello("w") }),
        ("2^32 - 1 slots", pb::Hello { slots: u32::MAX, window: u32::MAX, ..hello("w") }),
        ("a window below the slots", pb::Hello { slots: 4, window: 1, ..hello("w") }),
        ("another protocol", pb::Hello { protocol: 99, ..hello("w") }),
    ];
    for name in ["", "-dash", "../../etc", "\u{202e}rtl", "a\u{1b}[31m", "🦀"] {
        wrong.push(("a bad name", hello(name)));
    }
    let long = "x".repeat(65);
    wrong.push(("a long name", hello(&long)));
    for (what, hello) in wrong {
        let status = refused(&api, &cluster, Some(Said::Hello(hello)));
        let expected = [Code::InvalidArgument, Code::FailedPrecondition];
        assert!(expected.contains(&status.code()), "{what}: {status}");
        assert!(!status.message().is_empty(), "{what} is told why");
    }
    for (what, first) in [
        ("nothing at all", None),
        ("a heartbeat", Some(Said::Heartbeat(pb::Heartbeat::default()))),
        ("a report", Some(Said::Reports(pb::Reports::default()))),
        ("a goodbye", Some(Said::Goodbye(pb::Goodbye {}))),
    ] {
        let status = refused(&api, &cluster, first);
        let expected = [Code::InvalidArgument, Code::FailedPrecondition];
        assert!(expected.contains(&status.code()), "{what}: {status}");
    }
    assert_eq!(api.workers().expect("workers").len(), 0, "none of them is a worker");
}

#[test]
fn a_second_worker_of_the_same_name_is_refused() {
    let (mut cluster, api) = coordinator();
    cluster.worker(1);
    let status = refused(&api, &cluster, Some(Said::Hello(hello("w0"))));
    assert_eq!(status.code(), Code::AlreadyExists, "{status}");
    assert!(
        status.message().contains("w0") && status.message().contains("--name"),
        "says what to do: {status}"
    );
    assert_eq!(cluster.taskq(&["run", "--", "echo", "on"]).ok().out(), "on", "the first one works on");
}

#[test]
fn forged_reports_change_nothing() {
    let (cluster, api) = coordinator();
    let access = cluster.access();
    let ended = api.submit_one(spec::command(&["true"]));
    let failure = pb::Outcome { kind: Kind::Exited as i32, exit_code: 66, ..Default::default() };
    api.block_on(async {
        let (mut worker, welcome) = FakeWorker::join(&access, "honest", 1, 1).await.expect("join");
        let keys = worker.assigned().await.expect("an assignment");
        assert!(worker.report(&keys, &fake_worker::success()).await);
        loop {
            if let Some(Body::Committed(_)) = worker.hear().await.expect("the session goes on") {
                break;
            }
        }
        assert_eq!((keys[0].job_id, keys[0].epoch), (ended, welcome.epoch));
        assert!(worker.say(Said::Goodbye(pb::Goodbye {})).await);
    });
    // Otherwise the next task might be given to it.
    wait::holds("the first worker has left", || {
        api.workers().is_ok_and(|workers| workers.iter().all(|worker| worker.status != 1))
    });
    let running = api.submit_one(spec::command(&["true"]));
    let before = (api.ends(ended).expect("ends"), api.stats().expect("stats").stale_reports);
    let honest = api.block_on(async {
        let (mut honest, _) = FakeWorker::join(&access, "honest-2", 1, 1).await.expect("join");
        let keys = honest.assigned().await.expect("an assignment");
        let real = keys[0];
        assert_eq!(real.job_id, running);
        let (mut forger, _) = FakeWorker::join(&access, "forger", 1, 1).await.expect("join");
        let forged = [
            pb::AttemptKey { job_id: ended, index: 0, attempt: 1, epoch: real.epoch },
            pb::AttemptKey { job_id: 999_999, index: 0, attempt: 1, epoch: real.epoch },
            pb::AttemptKey { job_id: u64::MAX, index: u32::MAX, attempt: u32::MAX, epoch: u64::MAX },
            pb::AttemptKey { index: 7, ..real },
            pb::AttemptKey { attempt: real.attempt + 1, ..real },
            pb::AttemptKey { epoch: real.epoch + 1, ..real },
            // The right numbers from the wrong worker.
            real,
        ];
        for key in forged {
            assert!(forger.report(&[key], &failure).await);
        }
        // What may still run is to be killed; an end is only refused, as there is nothing left to kill.
        let started = pb::report::Event::Started(pb::Started::default());
        let report = pb::Report { key: Some(real), event: Some(started) };
        assert!(forger.say(Said::Reports(pb::Reports { reports: vec![report] })).await);
        let stop = forger.told_to_stop().await.expect("an answer");
        assert_eq!((stop.why, stop.attempts), (pb::stop::Why::Stale as i32, vec![real]));
        let counted = before.1 + forged.len() as u64 + 1;
        (honest, keys, counted)
    });
    assert_eq!(api.ends(ended).expect("ends"), before.0, "the ended job is as it was");
    assert!(!spec::is_terminal(api.get(running).expect("get").state), "the running task still runs");
    assert_eq!(api.stats().expect("stats").stale_reports, honest.2, "each refusal is counted");

    // The honest report counts, and only once.
    let (mut honest, keys, _) = honest;
    api.block_on(async {
        assert!(honest.report(&keys, &fake_worker::success()).await);
        // The same end again, and again, from two sides.
        for _ in 0..1_000 {
            assert!(honest.report(&keys, &failure).await);
        }
    });
    assert_eq!(api.ended(running).state, pb::State::Succeeded as i32);
    assert_eq!(api.ends(running).expect("ends").len(), 1);
}

#[test]
fn reports_without_sense_do_not_harm_others() {
    let (mut cluster, api) = coordinator();
    cluster.worker(1);
    let access = cluster.access();
    let nonsense = |key: Option<pb::AttemptKey>, event| pb::Report { key, event };
    let key = Some(pb::AttemptKey { job_id: 1, index: 0, attempt: 1, epoch: 1 });
    let output = |offset, data: Vec<u8>| {
        let output = pb::Output { stream: 9, offset, data: data.into() };
        Some(pb::report::Event::Output(output))
    };
    let outcome = |outcome| Some(pb::report::Event::Outcome(outcome));
    let reports = [
        nonsense(None, None),
        nonsense(key, None),
        nonsense(None, outcome(fake_worker::success())),
        nonsense(key, output(u64::MAX, vec![0xff; 100])),
        nonsense(key, output(1 << 40, vec![0; 60 << 10])),
        nonsense(key, outcome(pb::Outcome { kind: -1, ..Default::default() })),
        nonsense(key, outcome(pb::Outcome { kind: i32::MAX, exit_code: i32::MIN, ..Default::default() })),
    ];
    for (number, report) in reports.into_iter().enumerate() {
        api.block_on(async {
            let name = format!("babbler-{number}");
            let (mut babbler, _) = FakeWorker::join(&access, &name, 1, 1).await.expect("join");
            assert!(babbler.say(Said::Reports(pb::Reports { reports: vec![report] })).await);
            assert!(babbler.say(Said::Hello(hello("again"))).await, "a second hello");
            // The coordinator ends such a session or passes over it.
            let _ = tokio::time::timeout(Duration::from_millis(500), babbler.hear()).await;
        });
    }
    assert_eq!(cluster.taskq(&["run", "--", "echo", "unharmed"]).ok().out(), "unharmed");
    let jobs = api.list(pb::Filter::default()).expect("list");
    assert_eq!(jobs.len(), 1, "{jobs:?}");
}

#[test]
fn output_may_come_in_any_shape() {
    let (cluster, api) = coordinator();
    let access = cluster.access();
    let id = api.submit_one(spec::command(&["true"]));
    let piece = |key, offset, data: &[u8]| pb::Report {
        key: Some(key),
        event: Some(pb::report::Event::Output(pb::Output { stream: 0, offset, data: data.to_vec().into() })),
    };
    api.block_on(async {
        let (mut worker, _) = FakeWorker::join(&access, "shapes", 1, 1).await.expect("join");
        let key = worker.assigned().await.expect("an assignment")[0];
        // A gap, an overlap, the past, no UTF-8, NULs.
        let reports = vec![
            piece(key, 0, b"one"),
            piece(key, 100, b"gap"),
            piece(key, 1, b"overlap"),
            piece(key, 103, &[0, 0xff, 0xfe, 0]),
        ];
        assert!(worker.say(Said::Reports(pb::Reports { reports })).await);
        let outcome = pb::Outcome { stdout_offset: 107, stdout_bytes: 107, ..fake_worker::success() };
        assert!(worker.report(&[key], &outcome).await);
        loop {
            if let Some(Body::Committed(committed)) = worker.hear().await.expect("the session goes on")
                && committed.seq >= 3
            {
                break;
            }
        }
    });
    assert_eq!(api.ended(id).state, pb::State::Succeeded as i32);
    let logs = cluster.taskq(&["logs", &id.to_string()]).code(74);
    assert!(logs.stdout.starts_with(b"one"), "{logs}");
}

#[test]
fn an_address_that_cannot_be_one_ends_the_worker_at_once() {
    let cluster = Cluster::start();
    for address in
        ["bogus", "127.0.0.1:", "127.0.0.1:http", "no host:1", "https://127.0.0.1:7733", "1.2.3:7733"]
    {
        let mut command = daemon::leashed(&binaries::worker());
        taskq_tests::cluster::clean(&mut command, cluster.folder());
        command.args(["--name", "w9", "--addr", address]).env("TASKQ_TOKEN", "tq_x");
        let log = cluster.folder().join("bad-address");
        let mut worker = Daemon::start("a worker without an address", &log, command);
        assert_eq!(worker.end().code(), Some(78), "{address}: {}", worker.log());
        let said = worker.log();
        assert!(said.contains("write HOST:PORT") && said.contains("from --addr"), "{address}: {said}");
    }
}

#[test]
fn an_address_where_nobody_is_is_tried_again_and_told_once() {
    let cluster = Setup::new().tolerate("no coordinator").start();
    for address in
        [format!("127.0.0.1:{}", taskq_tests::cluster::free_port()), "nosuch.invalid:7733".to_owned()]
    {
        let mut command = daemon::leashed(&binaries::worker());
        taskq_tests::cluster::clean(&mut command, cluster.folder());
        command.args(["--name", "w9", "--addr", &address]);
        command.env("TASKQ_TOKEN", "tq_x").env("TASKQ_LOG", "taskq_worker=debug");
        let worker = Daemon::start("a lonely worker", &cluster.folder().join("lonely.log"), command);
        let count = |text: &str| worker.log().matches(text).count();
        wait::holds("it tries again and again", || count("still no coordinator") >= 3);
        assert_eq!(count("trying again until it is there"), 1, "{address}: {}", worker.log());
    }
}

#[test]
fn a_worker_with_a_taken_name_says_so() {
    let mut cluster = Setup::new().tolerate("does not take this worker").start();
    cluster.worker(1);
    let access = cluster.access_file();
    let mut command = daemon::leashed(&binaries::worker());
    taskq_tests::cluster::clean(&mut command, cluster.folder());
    command.args(["--name", "w0"]).env("TASKQ_ACCESS", access);
    let mut second = Daemon::start("a second w0", &cluster.folder().join("second.log"), command);
    wait::holds("the second says why it cannot join", || {
        second.log().contains("give this one another --name")
    });
    let said = second.log();
    assert!(!said.contains("no coordinator"), "{said}");
    assert!(second.ended().is_none(), "the name may become free: {said}");
    // The first one leaves, and the second takes its place.
    cluster.worker_at(0).kill();
    wait::holds("the second joins", || second.log().contains("connected to the coordinator"));
    assert_eq!(second.log().matches("does not take this worker").count(), 1, "{}", second.log());
}
