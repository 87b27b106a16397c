//! Calls that panic, abort, overflow the stack, leak, hear nothing, run too long or return a lot: the right outcome, the
//! other calls unharmed, the slot back. Cancel and timeouts reach every runtime.

use taskq_proto::v1 as pb;
use taskq_proto::v1::failure::Cause;
use taskq_proto::v1::outcome::Kind;
use taskq_tests::{Api, Cluster, Setup, binaries, spec, wait};

const ECHOES: [&str; 3] = ["echo", "async.echo", "child.echo"];

fn troubled() -> (Cluster, Api) {
    // The worker says what its children do.
    let mut cluster = Setup::new().tolerate("child").tolerate("memory allocation").start();
    cluster.worker_of(&binaries::example("troubled"), 2, &[]);
    let api = cluster.api();
    (cluster, api)
}

/// Healthy calls that go on beside the troubled one.
struct Beside(Vec<u64>);

impl Beside {
    fn start(api: &Api) -> Beside {
        let numbers: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
        Beside(ECHOES.iter().map(|echo| api.submit_one(spec::calls(echo, &numbers))).collect())
    }

    fn assert_unharmed(&self, api: &Api) {
        for id in &self.0 {
            assert_eq!(api.ended(*id).state, pb::State::Succeeded as i32);
            for end in api.ends(*id).expect("results") {
                assert_eq!(end.attempt, 1, "{end:?}");
                let outcome = end.outcome.expect("ended");
                assert_eq!(outcome.value, end.index.to_string(), "the value of {}", end.index);
            }
        }
    }
}

fn worker(api: &Api) -> pb::Worker {
    api.workers().expect("workers").into_iter().next().expect("a worker")
}

/// Every slot can be used again: nothing runs, nothing is busy, and two calls run at once.
fn assert_slots_are_back(api: &Api) {
    wait::holds("all slots are free", || {
        let worker = worker(api);
        (worker.running, worker.waiting, worker.busy) == (0, 0, 0)
    });
    let both = api.submit_one(spec::calls("patient", &["null", "null"]));
    wait::holds("two calls run at once", || {
        api.get(both).is_ok_and(|job| job.counts.is_some_and(|counts| counts.running == 2))
    });
    api.cancel(&[both]).expect("a cancel");
    assert_eq!(api.ended(both).state, pb::State::Cancelled as i32);
}

fn outcome(api: &Api, id: u64) -> pb::Outcome {
    api.ended(id);
    api.task(id, 0).outcome.expect("it has ended")
}

#[test]
fn a_panic_fails_its_attempt_with_its_words_and_place() {
    let (_cluster, api) = troubled();
    for (function, argument) in
        [("panic", "\"no way\""), ("async.panic", "null"), ("child.panic", "\"no way\"")]
    {
        let beside = Beside::start(&api);
        let mut job = spec::call(function, argument);
        job.retry = Some(pb::Retry { max_attempts: 2, backoff_ms: 1, ..Default::default() });
        let id = api.submit_one(job);
        let outcome = outcome(&api, id);
        assert_eq!(outcome.kind(), Kind::Failed, "{function}: {outcome:?}");
        let failure = outcome.failure.clone().expect("a failure");
        assert_eq!((failure.cause(), failure.message.as_str()), (Cause::Panic, "no way"), "{outcome:?}");
        assert!(failure.place.contains("troubled.rs:"), "{outcome:?}");
        assert_eq!(api.task(id, 0).attempt, 2, "a panic may pass: it is tried again");
        beside.assert_unharmed(&api);
    }
    assert_slots_are_back(&api);
}

#[test]
fn what_kills_a_child_kills_one_call() {
    let (_cluster, api) = troubled();
    for (function, argument, kind, number) in [
        ("child.abort", "null", Kind::Signaled, 6),
        ("child.overflow", "null", Kind::Signaled, 6),
        ("child.leak", "null", Kind::Signaled, 6),
        ("child.exit", "3", Kind::Exited, 3),
        ("child.exit", "0", Kind::Failed, 0),
    ] {
        let beside = Beside::start(&api);
        let id = api.submit_one(spec::call(function, argument));
        let outcome = outcome(&api, id);
        assert_eq!(api.ended(id).state, pb::State::Failed as i32, "{function}: {outcome:?}");
        assert_eq!(outcome.kind(), kind, "{function}: {outcome:?}");
        let said = if kind == Kind::Signaled { outcome.signal } else { outcome.exit_code };
        assert_eq!(said, number, "{function}: {outcome:?}");
        assert!(outcome.message.contains(function), "{function} is named: {outcome:?}");
        assert_eq!(outcome.out_of_memory, function == "child.leak", "{outcome:?}");
        if outcome.out_of_memory {
            assert!(outcome.message.contains("512 MiB"), "the limit is named: {outcome:?}");
        }
        beside.assert_unharmed(&api);
    }
    assert_slots_are_back(&api);
}

#[test]
fn a_value_of_64_mib_comes_back_whole_from_every_runtime() {
    let (_cluster, api) = troubled();
    let beside = Beside::start(&api);
    let bytes = 64 << 20;
    for function in ["large", "child.large"] {
        let id = api.submit_one(spec::call(function, &bytes.to_string()));
        let outcome = outcome(&api, id);
        assert_eq!(outcome.kind(), Kind::Completed, "{function}");
        let value = api.download(&outcome.value_blob.expect("a blob")).expect("the value");
        assert_eq!(value.len(), bytes + 2, "the text in its quotes");
        assert!(value[1..=bytes].iter().all(|byte| *byte == b'x'));
    }
    let too_much = api.submit_one(spec::call("large", &(300_u64 << 20).to_string()));
    let failure = outcome(&api, too_much).failure.expect("a failure");
    assert_eq!((failure.cause(), failure.fatal), (Cause::Result, true), "{failure:?}");
    beside.assert_unharmed(&api);
    assert_slots_are_back(&api);
}

#[test]
fn an_argument_that_does_not_fit_is_told_and_not_tried_again() {
    let (_cluster, api) = troubled();
    for function in ["nap", "async.nap", "child.nap"] {
        let mut job = spec::call(function, "\"long\"");
        job.retry = Some(pb::Retry { max_attempts: 5, backoff_ms: 1, ..Default::default() });
        let id = api.submit_one(job);
        let outcome = outcome(&api, id);
        let failure = outcome.failure.clone().expect("a failure");
        assert_eq!((failure.cause(), failure.fatal), (Cause::Argument, true), "{outcome:?}");
        assert!(outcome.message.contains(function), "{outcome:?}");
        assert!(failure.message.contains("u64") && failure.message.contains("column"), "{failure:?}");
        assert_eq!(api.task(id, 0).attempt, 1);
    }
    let unknown = cluster_error(&api);
    assert!(unknown.contains("no_function"), "{unknown}");
}

fn cluster_error(api: &Api) -> String {
    let id = api.submit_one(spec::call("nobody.has.this", "1"));
    let request = pb::ExplainRequest { job_id: id, index: None };
    let why = api.call(|mut jobs| async move { jobs.explain(request).await }).expect("reasons");
    why.reasons.into_iter().map(|reason| reason.code).collect()
}

/// The job runs, and has said so.
fn await_running(api: &Api, id: u64) {
    wait::holds("the call runs", || worker(api).running > 0 && api.running(id).attempt == 1);
}

#[test]
fn cancel_reaches_threads_by_a_token_futures_by_dropping_and_children_by_killing() {
    let (_cluster, api) = troubled();
    let minute = "60000";
    for (function, argument) in [
        ("patient", "null"),
        ("async.patient", "null"),
        ("child.patient", "null"),
        ("async.nap", minute),
        ("child.nap", minute),
        ("child.deaf", minute),
    ] {
        let mut job = spec::call(function, argument);
        job.kill_grace_ms = 300;
        let id = api.submit_one(job);
        await_running(&api, id);
        api.cancel(&[id]).expect("a cancel");
        assert_eq!(api.ended(id).state, pb::State::Cancelled as i32, "{function}");
        assert_eq!(outcome(&api, id).kind(), Kind::Cancelled, "{function}");
    }
    assert_slots_are_back(&api);
}

#[test]
fn a_timeout_reaches_every_runtime_and_names_itself() {
    let (_cluster, api) = troubled();
    for (function, argument) in [
        ("patient", "null"),
        ("async.patient", "null"),
        ("child.patient", "null"),
        ("async.nap", "60000"),
        ("child.deaf", "60000"),
    ] {
        let beside = Beside::start(&api);
        let mut job = spec::call(function, argument);
        (job.timeout_ms, job.kill_grace_ms) = (200, 200);
        let id = api.submit_one(job);
        let outcome = outcome(&api, id);
        assert_eq!(outcome.kind(), Kind::TimedOut, "{function}: {outcome:?}");
        assert!(outcome.message.contains("200ms"), "{function}: {outcome:?}");
        beside.assert_unharmed(&api);
    }
    assert_slots_are_back(&api);
}

#[test]
fn a_thread_that_hears_nothing_loses_its_task_and_keeps_its_slot_until_it_returns() {
    let (_cluster, api) = troubled();
    // Long enough to be seen, and over within the test.
    let mut job = spec::call("deaf", "4000");
    job.kill_grace_ms = 100;
    let cancelled = api.submit_one(job.clone());
    await_running(&api, cancelled);
    api.cancel(&[cancelled]).expect("a cancel");
    assert_eq!(outcome(&api, cancelled).kind(), Kind::Cancelled);
    (job.timeout_ms, job.name) = (100, "late".to_owned());
    let late = api.submit_one(job);
    assert_eq!(outcome(&api, late).kind(), Kind::TimedOut);
    assert_eq!((worker(&api).busy, worker(&api).running), (2, 0), "both threads go on without a task");
    let waits = api.submit_one(spec::call("echo", "1"));
    let request = pb::ExplainRequest { job_id: waits, index: None };
    let why = api.call(|mut jobs| async move { jobs.explain(request).await }).expect("reasons");
    assert!(why.reasons.iter().any(|reason| reason.code == "slots_busy"), "{why:?}");
    let other = api.submit_one(spec::call("async.echo", "1"));
    assert_eq!(api.ended(other).state, pb::State::Succeeded as i32, "async slots are not in the way");
    assert_eq!(api.ended(waits).state, pb::State::Succeeded as i32, "and it runs once a thread is back");
    assert_slots_are_back(&api);
}

#[test]
fn progress_is_seen_while_a_call_runs() {
    let (cluster, api) = troubled();
    for function in ["steps", "child.steps"] {
        let id = api.submit_one(spec::call(function, "4"));
        wait::holds("its last step is seen", || {
            let progress = api.get(id).ok().and_then(|job| job.progress);
            progress.is_some_and(|at| (at.fraction, at.note.as_str()) == (1.0, "step 4"))
        });
        api.cancel(&[id]).expect("a cancel");
        assert_eq!(api.ended(id).state, pb::State::Cancelled as i32);
        let said = cluster.taskq(&["logs", &id.to_string()]).out();
        assert!(said.contains("waiting") && said.contains("told: "), "{function}: {said}");
    }
}

#[test]
fn what_a_call_prints_and_logs_is_its_output() {
    let (cluster, api) = troubled();
    for function in ["says", "async.says", "child.says"] {
        let id = api.submit_one(spec::call(function, "\"hello\""));
        assert_eq!(api.ended(id).state, pb::State::Succeeded as i32, "{function}");
        let run = cluster.taskq(&["logs", &id.to_string()]);
        let all = format!("{}{}", run.out(), run.stderr);
        for line in ["printed hello", "written hello", "complained hello", "logged hello"] {
            assert!(all.contains(line), "{function}: {line:?} in {all}");
        }
    }
}

#[test]
fn the_worker_drains_with_calls_as_with_commands() {
    let (mut cluster, api) = troubled();
    let id = api.submit_one(spec::calls("child.nap", &["600", "600", "600", "600"]));
    await_running(&api, id);
    cluster.worker_at(0).signal(rustix::process::Signal::TERM);
    assert_eq!(cluster.worker_at(0).end().code(), Some(0), "it finishes what runs and leaves");
    let counts = api.get(id).expect("the job").counts.expect("counts");
    assert_eq!((counts.succeeded + counts.queued, counts.failed), (4, 0), "{counts:?}");
    assert!(counts.succeeded >= 1, "{counts:?}");
    cluster.restart_worker_of(0, &binaries::example("troubled"), 2, &[]);
    assert_eq!(api.ended(id).state, pb::State::Succeeded as i32);
}
