//! SIGKILL workers at random moments: every job ends, no process is left over, and attempts and reasons are right.
//! SIGSTOP one past its lease: its late result is refused.

use rustix::process::Signal;
use std::time::Duration;
use taskq_proto::v1 as pb;
use taskq_proto::v1::outcome::Kind;
use taskq_tests::load::Load;
use taskq_tests::{FakeWorker, Ledger, Seed, Setup, notes, procs, spec, wait};

const CYCLES: usize = 60;

/// Environment mark of this test's tasks.
const MARK: &str = "TEST_OF_KILLED_WORKERS";

#[test]
fn tasks_of_killed_workers_run_elsewhere_and_leave_nothing_behind() {
    let mut seed = Seed::new("kill_worker");
    let mark = std::process::id().to_string();
    let mut cluster = Setup::new().tolerate("worker").tolerate("coordinator").start();
    let ledger = Ledger::new(cluster.folder());
    // Each runs commands, and calls on every runtime.
    for _ in 0..3 {
        cluster.worker_of(&notes::program(), 4, &[]);
    }

    let (start, end) = (ledger.note("start"), ledger.note("end"));
    let folder = cluster.folder().display().to_string();
    let marked = mark.clone();
    // A task with a tree of processes, one of them in a session of its own. The lock is held by the whole tree: if a
    // former attempt were alive, the next one would exit with 99.
    let called = ledger.clone();
    let job = move |seed: &mut Seed| {
        if seed.once_in(2) {
            let mut calls = notes::job(Some(&called), seed.number(1, 400), 10, seed);
            calls.crash_limit = 1_000;
            return vec![calls];
        }
        let sleep = format!("0.{:03}", seed.number(1, 400));
        let script = format!(
            "flock -n -E 99 {folder}/lock.$TASKQ_JOB.$TASKQ_TASK sh -c \
             '{start}; setsid sleep {sleep} & (sleep {sleep} & wait) & sleep {sleep}; wait; {end}'"
        );
        let mut one = spec::shell(&script);
        one.crash_limit = 1_000;
        if let Some(command) = &mut one.command {
            command.env.insert(MARK.to_owned(), marked.clone());
        }
        vec![if seed.once_in(4) { spec::array(one, 3) } else { one }]
    };
    let load = Load::start(&cluster.access(), 2, &mut seed, 250, job);

    for _ in 0..CYCLES {
        wait::random_moment(seed.millis(1, 600));
        let victim = seed.number(0, 2) as usize;
        let pid = cluster.worker_at(victim).pid();
        let below = procs::descendants(pid);
        cluster.worker_at(victim).kill();
        wait::holds("nothing of the killed worker is left", || below.iter().all(|process| !process.lives()));
        cluster.restart_worker_of(victim, &notes::program(), 4, &[]);
    }

    let acked = load.stop();
    let api = cluster.api();
    let (mut losses, mut lost_calls) = (0, 0);
    for (id, tasks) in &acked {
        let job = api.ended(*id);
        assert_eq!(job.state, pb::State::Succeeded as i32, "{job:?}\n{:?}", api.tasks(*id));
        for index in 0..*tasks {
            let task = api.task(*id, index);
            let starts = ledger.attempts("start", *id, index);
            assert!(
                starts.is_sorted_by(|a, b| a < b),
                "each attempt of {id}.{index} starts once: {starts:?}"
            );
            assert_eq!(ledger.attempts("end", *id, index).last(), starts.last(), "the last start is the end");
            assert_eq!(starts.last(), Some(&task.attempt), "the attempt that ended is the one that ran last");
            for earlier in &task.earlier {
                assert_eq!(earlier.kind, Kind::WorkerLost as i32, "only losses come before: {task:?}");
                assert!(earlier.worker.starts_with('w'), "the loss names its worker: {earlier:?}");
            }
            if job.spec.as_ref().is_some_and(|spec| spec.call.is_some()) {
                notes::check(&api, &task, 10);
                lost_calls += task.earlier.len();
            }
            losses += task.earlier.len();
        }
    }
    wait::holds("no process of any task is left", || procs::marked(MARK, &mark).is_empty());
    println!("{CYCLES} kills, {} jobs, {losses} attempts lost, {lost_calls} of them calls", acked.len());
    assert!(losses > 10 && lost_calls > 5, "the kills struck running tasks: {losses} losses");
}

#[test]
fn a_task_that_kills_its_workers_is_convicted() {
    let mut cluster = Setup::new().tolerate("worker").tolerate("coordinator").start();
    for number in 0..2 {
        cluster.worker(1);
        assert_eq!(cluster.worker_at(number).ended(), None);
    }
    let api = cluster.api();
    let mut spec = spec::shell("echo up; exec sleep 600");
    spec.crash_limit = 2;
    let id = api.submit_one(spec);
    for attempt in 1..=2 {
        let task = wait::until("the next attempt runs", || {
            api.tasks(id)
                .ok()?
                .into_iter()
                .find(|task| task.attempt >= attempt && task.state == pb::State::Running as i32)
        });
        let number = if task.worker == "w0" { 0 } else { 1 };
        cluster.worker_at(number).kill();
    }
    let job = api.ended(id);
    assert_eq!(job.state, pb::State::Failed as i32, "{job:?}");
    let task = api.task(id, 0);
    let outcome = task.outcome.clone().unwrap();
    assert_eq!(outcome.kind, Kind::WorkerLost as i32, "{task:?}");
    assert_eq!(task.earlier.len(), 1, "{task:?}");
}

#[test]
fn a_worker_stopped_past_its_lease_is_refused() {
    let mut cluster = Setup::new()
        .flags(&["--lease", "2s"])
        .tolerate("worker")
        .tolerate("coordinator")
        .tolerate("lease")
        .start();
    let ledger = Ledger::new(cluster.folder());
    let gate = cluster.folder().join("gate");
    // The first attempt fails late; the second succeeds at once.
    let script = format!(
        "{}; if [ $TASKQ_ATTEMPT = 1 ]; then until [ -e {} ]; do sleep 0.02; done; {}; exit 7; fi",
        ledger.note("start"),
        gate.display(),
        ledger.note("late")
    );
    cluster.worker(2);
    let api = cluster.api();
    let id = api.submit_one(spec::shell(&script));
    let hang = format!("{}; if [ $TASKQ_ATTEMPT = 1 ]; then exec sleep 600; fi", ledger.note("start"));
    let stuck = api.submit_one(spec::shell(&hang));
    wait::holds("both first attempts run", || ledger.lines("start").len() == 2);
    cluster.worker_at(0).signal(Signal::STOP);
    cluster.worker(2);
    assert_eq!(api.ended(id).state, pb::State::Succeeded as i32, "another worker finished it");
    assert_eq!(api.ended(stuck).state, pb::State::Succeeded as i32);
    let told = api.ends(id).unwrap();

    std::fs::write(&gate, "").unwrap();
    wait::holds("the first attempt ends while its worker is stopped", || !ledger.lines("late").is_empty());
    cluster.worker_at(0).signal(Signal::CONT);
    wait::holds("the stopped worker is back", || {
        api.workers()
            .is_ok_and(|workers| workers.iter().any(|worker| worker.name == "w0" && worker.status == 1))
    });
    let pid = cluster.worker_at(0).pid();
    let name = |process: &procs::Process| std::fs::read_to_string(format!("/proc/{}/comm", process.pid));
    wait::holds("its runs are killed", || {
        !procs::descendants(pid).iter().any(|process| name(process).is_ok_and(|comm| comm.trim() == "sleep"))
    });
    // It works again, and whatever it had to say about the old attempts has been said.
    let fresh = api.submit_one(spec::array(spec::command(&["true"]), 20));
    assert_eq!(api.ended(fresh).state, pb::State::Succeeded as i32);
    assert_eq!(api.ends(id).unwrap(), told, "the late result changed nothing");
    let task = api.task(id, 0);
    assert_eq!(task.attempt, 2, "{task:?}");
    assert_eq!(task.earlier.len(), 1, "{task:?}");
    assert_eq!(task.earlier[0].kind, Kind::WorkerLost as i32, "{task:?}");
}

#[test]
fn a_late_result_is_refused_by_its_token() {
    let mut cluster = Setup::new()
        .flags(&["--lease", "2s"])
        .tolerate("worker")
        .tolerate("coordinator")
        .tolerate("stale")
        .start();
    let (api, access) = (cluster.api(), cluster.access());
    let id = api.submit_one(spec::command(&["true"]));
    let (mut silent, keys) = api.block_on(async {
        let (mut silent, _) = FakeWorker::join(&access, "silent", 1, 1).await.expect("join");
        let keys = silent.assigned().await.expect("an assignment");
        (silent, keys)
    });
    assert_eq!((keys.len(), keys[0].job_id, keys[0].attempt), (1, id, 1));
    cluster.worker(1);
    // No heartbeat: the lease runs out, and the other worker gets the task.
    assert_eq!(api.ended(id).state, pb::State::Succeeded as i32);
    let (told, before) = (api.ends(id).unwrap(), api.stats().unwrap());
    let late = pb::Outcome { kind: Kind::Exited as i32, exit_code: 7, ..Default::default() };
    // Its session is over: nothing that it says there is heard.
    api.block_on(async {
        silent.report(&keys, &late).await;
        let end = tokio::time::timeout(Duration::from_secs(20), async {
            while let Ok(Some(_)) = silent.hear().await {}
        });
        assert!(end.await.is_ok(), "the session of a worker that was given up is closed");
    });
    assert_eq!(api.ends(id).unwrap(), told, "the late result changed nothing");

    // A new session of the same worker that says it still holds the attempt is told to abandon it, and a report
    // outside its lease is counted.
    let hello = pb::Hello {
        incarnation: 77,
        name: "silent".to_owned(),
        protocol: 1,
        slots: 1,
        window: 1,
        held: keys.clone(),
        ..Default::default()
    };
    api.block_on(async {
        let (mut back, welcome) = FakeWorker::greet(&access, hello).await.expect("join again");
        assert_eq!(welcome.abandon, keys, "what it holds belongs to nobody any more");
        assert!(back.report(&keys, &late).await);
        let started = pb::report::Event::Started(pb::Started::default());
        let report = pb::Report { key: Some(keys[0]), event: Some(started) };
        let reports = pb::Reports { reports: vec![report] };
        assert!(back.say(pb::worker_message::Body::Reports(reports)).await);
        let stop = back.told_to_stop().await.expect("an answer");
        assert_eq!((stop.why, &stop.attempts), (pb::stop::Why::Stale as i32, &keys));
    });
    assert!(api.stats().unwrap().stale_reports >= before.stale_reports + 2, "each refusal is counted");
    assert_eq!(api.ends(id).unwrap(), told);
}
