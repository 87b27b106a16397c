//! Calls of functions that run in the worker itself: on threads, and on the event loop.

use pb::failure::Cause;
use pb::outcome::Kind;
use pb::report::Event;
use pb::stop::Why;
use taskq_proto::v1 as pb;

use crate::coordinator::{Coordinator, Run, Session, Worker, call, key};

async fn troubled(args: &[&str]) -> (Coordinator, Worker, Session) {
    let mut coordinator = Coordinator::start().await;
    let worker = Worker::start_example(&coordinator, "troubled", args);
    let session = coordinator.session().await;
    (coordinator, worker, session)
}

fn failure(run: &Run) -> &pb::Failure {
    assert_eq!(run.outcome.kind(), Kind::Failed, "{:?}", run.outcome);
    run.outcome.failure.as_ref().expect("a failed call says why")
}

fn stderr(run: &Run) -> String {
    String::from_utf8(run.outcome.stderr.to_vec()).expect("text in this test")
}

/// An element for each task.
async fn map(session: &mut Session, job: u64, function: &str, elements: &[&str]) {
    let count = u32::try_from(elements.len()).expect("few");
    let rows = elements.iter().map(|element| pb::Row { fields: vec![(*element).to_owned().into()] });
    let indices = vec![pb::Span { first: 0, count }];
    let unit = pb::Unit { job_id: job, attempt: 1, epoch: 1, indices, rows: rows.collect() };
    let template = pb::Template { columns: vec![String::new()], ..call(job, function, "") };
    let assign = pb::Assign { templates: vec![template], units: vec![unit], forget: vec![] };
    session.say(pb::coordinator_message::Body::Assign(assign));
}

#[tokio::test]
async fn a_worker_says_which_functions_it_has() {
    let mut coordinator = Coordinator::start().await;
    let args = ["--slots", "2", "--async-slots", "50", "--no-commands"];
    let _worker = Worker::start_example(&coordinator, "handlers", &args);
    let session = coordinator.session().await;
    let hello = &session.hello;
    let functions: Vec<_> = hello.functions.iter().map(|f| (f.name.as_str(), f.runtime())).collect();
    use pb::function::Runtime::{Async, Process, Threads};
    assert_eq!(functions, [("fetch", Async), ("fragile", Process), ("primes", Threads), ("site", Async)]);
    assert_eq!((hello.async_slots, hello.no_commands, hello.window), (50, true, 8_194));
    session.assign(crate::coordinator::argv(1, &["true"]), 1);
    let mut session = session;
    let report = session.report().await;
    let Some(Event::Returned(returned)) = report.event else { panic!("{report:?}") };
    assert_eq!(returned.reason, "this worker runs functions only");
}

#[tokio::test]
async fn the_examples_do_what_they_say() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start_example(&coordinator, "handlers", &[]);
    let mut session = coordinator.session().await;
    let run = session.call(1, "primes", "1000").await;
    assert_eq!((run.outcome.kind(), &run.outcome.value[..]), (Kind::Completed, &b"168"[..]));
    assert_eq!(run.stdout(), "168 primes below 1000\n");
    let site = session.call(2, "site", "null").await.outcome.value;
    let site: String = serde_json::from_slice(&site).expect("a URL");
    let urls: Vec<String> = (0..100).map(|n| format!("{site}/{n}")).collect();
    let run = session.call(3, "fetch", &serde_json::to_string(&urls).expect("text")).await;
    let lengths: Vec<usize> = serde_json::from_slice(&run.outcome.value).expect("lengths");
    assert_eq!(lengths, (0..100).collect::<Vec<_>>());
    assert_eq!(session.call(4, "fragile", "12").await.outcome.value, "24");
    let crashed = session.call(5, "fragile", "13").await.outcome;
    assert_eq!((crashed.kind(), crashed.signal), (Kind::Signaled, libc::SIGABRT));
    assert!(crashed.message.starts_with("fragile: its child process was ended by signal 6"), "{crashed:?}");
    assert_eq!(session.call(6, "fragile", "14").await.outcome.value, "28");
}

#[tokio::test]
async fn elements_are_arguments_and_each_call_has_its_value() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "2"]).await;
    for (job, function) in [(1, "echo"), (2, "async.echo"), (3, "child.echo")] {
        map(&mut session, job, function, &["1", "[2]", "{\"a\":3}"]).await;
        let mut values = vec![String::new(); 3];
        for _ in 0..3 {
            let (key, outcome) = loop {
                let report = session.report().await;
                session.commit();
                if let Some(Event::Outcome(outcome)) = report.event {
                    break (report.key.expect("a key"), outcome);
                }
            };
            assert_eq!((key.job_id, outcome.kind()), (job, Kind::Completed), "{outcome:?}");
            values[key.index as usize] = String::from_utf8(outcome.value.to_vec()).expect("JSON");
        }
        assert_eq!(values, ["1", "[2]", "{\"a\":3}"], "{function}");
    }
}

#[tokio::test]
async fn numbers_of_a_range_are_arguments_in_the_codec_of_the_call() {
    let (_coordinator, _worker, mut session) = troubled(&[]).await;
    for (job, codec, value) in [(1, "json", &b"70"[..]), (2, "msgpack", &[70])] {
        let mut template = call(job, "echo", "");
        template.call.as_mut().expect("a call").codec = codec.to_owned();
        template.columns = vec![String::new()];
        template.range = Some(pb::Range { start: 50, step: 10, count: 3 });
        session.assign(template, 3);
        let outcome = session.ended(2).await.outcome;
        assert_eq!((outcome.kind(), &outcome.value[..]), (Kind::Completed, value), "{codec}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_call_knows_what_it_is() {
    let (_coordinator, _worker, mut session) = troubled(&[]).await;
    for (job, function) in [(7, "about"), (8, "child.about")] {
        let template = pb::Template { timeout_ms: 60_000, ..call(job, function, "null") };
        session.assign(template, 3);
        let value = session.ended(2).await.outcome.value;
        assert_eq!(value, format!("[{job},2,1,\"w1\",true]"));
    }
}

#[tokio::test]
async fn errors_say_their_type_place_and_chain() {
    let (_coordinator, _worker, mut session) = troubled(&[]).await;
    for (job, function) in [(10, "fails"), (20, "child.fails")] {
        let run = session.call(job, function, "\"abc\"").await;
        let told = failure(&run);
        assert_eq!((told.cause(), told.fatal), (Cause::Error, false));
        assert_eq!(told.r#type, "core::num::error::ParseIntError");
        assert_eq!(told.message, "invalid digit found in string");
        assert!(told.place.contains("troubled.rs:"), "{told:?}");
        assert_eq!(run.outcome.message, format!("{function}: ParseIntError: invalid digit found in string"));
        assert!(failure(&session.call(job + 1, function, "\"fatal\"").await).fatal);
        let typed = session.call(job + 2, function, "\"typed\"").await;
        assert_eq!(failure(&typed).value, "{\"tank\":3}");
        assert_eq!(failure(&typed).message, "tank 3 is empty");
    }
}

#[tokio::test]
async fn a_wrong_argument_says_what_was_expected_and_where() {
    let (_coordinator, _worker, mut session) = troubled(&[]).await;
    for (job, function) in [(1, "nap"), (2, "async.nap"), (3, "child.nap")] {
        let run = session.call(job, function, "\"long\"").await;
        let told = failure(&run);
        assert_eq!((told.cause(), told.fatal), (Cause::Argument, true));
        let words =
            format!("the argument of function {function}: expected u64 as json: invalid type: string");
        assert!(told.message.starts_with(&words) && told.message.contains("line 1 column 6"), "{told:?}");
    }
    let mut template = call(4, "nap", "1");
    template.call.as_mut().expect("a call").codec = "pickle".to_owned();
    session.assign(template, 1);
    let run = session.ended(0).await;
    assert_eq!((failure(&run).cause(), failure(&run).fatal), (Cause::Argument, true));
    assert!(failure(&run).message.contains("\"pickle\" is no codec"), "{:?}", failure(&run));
}

#[tokio::test]
async fn a_function_that_is_not_here_is_told_apart() {
    let (_coordinator, _worker, mut session) = troubled(&[]).await;
    let run = session.call(1, "nosuch", "1").await;
    assert_eq!(failure(&run).cause(), Cause::Function);
    assert!(
        run.outcome.message.contains("worker w1 has no function \"nosuch\"; it has about, "),
        "{run:?}",
        run = run.outcome
    );
}

#[tokio::test]
async fn a_panic_costs_its_call_and_nothing_else() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    for (job, function, argument) in
        [(1, "panic", "\"no way\""), (2, "async.panic", "null"), (3, "child.panic", "\"no way\"")]
    {
        let run = session.call(job, function, argument).await;
        let told = failure(&run);
        assert_eq!((told.cause(), told.fatal, told.message.as_str()), (Cause::Panic, false, "no way"));
        assert!(told.place.contains("troubled.rs:"), "{told:?}");
        assert!(stderr(&run).contains("panicked at") && stderr(&run).contains("no way"), "{}", stderr(&run));
        assert_eq!(run.busy, (0, 0));
    }
    assert_eq!(session.call(4, "echo", "5").await.outcome.value, "5");
    assert_eq!(session.call(5, "async.echo", "6").await.outcome.value, "6");
}

#[tokio::test]
async fn what_a_call_prints_and_logs_is_output_of_its_task() {
    let (_coordinator, worker, mut session) = troubled(&["--slots", "1"]).await;
    for (job, function) in [(1, "says"), (2, "async.says"), (3, "child.says")] {
        let run = session.call(job, function, "\"this\"").await;
        assert_eq!(run.outcome.kind(), Kind::Completed, "{:?}", run.outcome);
        assert_eq!(run.stdout(), "printed this\nwritten this\n", "{function}");
        let stderr = stderr(&run);
        assert!(stderr.starts_with("complained this\n") && stderr.contains("INFO logged this"), "{stderr}");
    }
    worker.signal(libc::SIGTERM);
    while session.next().await.is_some() {}
    let (_, log) = worker.exit().await;
    assert!(!log.contains("this\n"), "{log}");
}

#[tokio::test]
async fn progress_is_seen_while_the_call_runs() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    for (job, function) in [(1, "steps"), (2, "child.steps")] {
        session.assign(call(job, function, "10000"), 1);
        let mut told = Vec::new();
        while told.last().is_none_or(|progress: &pb::Progress| progress.fraction < 1.0) {
            if let Some(Event::Progress(progress)) = session.report().await.event {
                told.push(progress);
            }
        }
        let last = told.last().expect("the last one");
        assert_eq!((last.index, last.note.as_str()), (0, "step 10000"));
        assert!(told.len() < 100, "{} of 10,000 were sent", told.len());
        session.stop(&[key(job, 0)], Why::Cancelled);
        assert_eq!(session.ended(0).await.outcome.kind(), Kind::Cancelled);
    }
}

/// Waits until the call has said that it waits.
async fn waiting(session: &mut Session) {
    assert_eq!(session.output().await, "waiting\n");
}

#[tokio::test]
async fn a_cancelled_call_is_told_so_and_may_still_have_its_value() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    for (job, name) in [(1, "patient"), (3, "child.patient")] {
        session.assign(call(job, name, "null"), 1);
        waiting(&mut session).await;
        session.stop(&[key(job, 0)], Why::Cancelled);
        let run = session.ended(0).await;
        assert_eq!((run.outcome.kind(), run.busy), (Kind::Cancelled, (0, 0)), "{:?}", run.outcome);
        assert!(run.stdout().ends_with("told: Some(Cancelled)\n"), "{}", run.stdout());
    }
    for (job, name) in [(4, "late"), (5, "child.late")] {
        session.assign(call(job, name, "null"), 1);
        waiting(&mut session).await;
        session.stop(&[key(job, 0)], Why::Cancelled);
        let outcome = session.ended(0).await.outcome;
        assert_eq!((outcome.kind(), &outcome.value[..]), (Kind::Completed, &b"\"in time\""[..]));
    }
    session.assign(call(6, "async.patient", "null"), 1);
    let Some(Event::Started(_)) = session.report().await.event else { panic!("it starts") };
    session.stop(&[key(6, 0)], Why::Cancelled);
    assert_eq!(session.ended(0).await.outcome.kind(), Kind::Cancelled);
}

#[tokio::test]
async fn a_timeout_is_told_with_its_limit() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    for (job, name) in [(1, "patient"), (2, "async.patient"), (3, "child.patient")] {
        session.assign(pb::Template { timeout_ms: 80, ..call(job, name, "null") }, 1);
        let run = session.ended(0).await;
        assert_eq!((run.outcome.kind(), run.busy), (Kind::TimedOut, (0, 0)), "{:?}", run.outcome);
        assert!(run.outcome.message.contains("its timeout of 80ms"), "{}", run.outcome.message);
    }
}

#[tokio::test]
async fn a_future_that_does_not_end_is_dropped() {
    let (_coordinator, _worker, mut session) = troubled(&["--async-slots", "1"]).await;
    session.assign(pb::Template { timeout_ms: 50, kill_grace_ms: 100, ..call(1, "async.nap", "600000") }, 1);
    let run = session.ended(0).await;
    assert_eq!((run.outcome.kind(), run.busy), (Kind::TimedOut, (0, 0)), "{:?}", run.outcome);
    assert_eq!(session.call(2, "async.echo", "1").await.outcome.value, "1");
}

#[tokio::test]
async fn a_function_that_does_not_return_keeps_its_slot_busy() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1", "--async-slots", "1"]).await;
    for (job, name, busy, other) in [(1, "deaf", (1, 0), "echo"), (2, "async.deaf", (0, 1), "async.echo")] {
        let slow = pb::Template { timeout_ms: 50, kill_grace_ms: 50, ..call(job, name, "700") };
        session.assign(slow, 1);
        let run = session.ended(0).await;
        assert_eq!((run.outcome.kind(), run.busy), (Kind::TimedOut, busy), "{:?}", run.outcome);
        // It has to wait, though no task runs.
        session.assign(call(job + 10, other, "1"), 1);
        let run = session.ended(0).await;
        assert_eq!((run.outcome.kind(), run.busy), (Kind::Completed, (0, 0)), "{:?}", run.outcome);
        assert!(run.outcome.started_unix_ms > 0);
    }
}

#[tokio::test]
async fn a_thousand_futures_wait_at_once() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    let began = std::time::Instant::now();
    session.assign(call(1, "async.nap", "300"), 1_000);
    let mut ended = 0;
    while ended < 1_000 {
        if let Some(Event::Outcome(outcome)) = session.report().await.event {
            assert_eq!(outcome.kind(), Kind::Completed);
            ended += 1;
        }
        session.commit();
    }
    // One after another they would take five minutes.
    assert!(began.elapsed() < std::time::Duration::from_secs(30), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_call_that_belongs_to_somebody_else_ends_without_a_word() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    session.assign(call(1, "patient", "null"), 1);
    waiting(&mut session).await;
    session.assign(call(2, "async.nap", "600000"), 1);
    session.stop(&[key(1, 0), key(2, 0)], Why::Stale);
    session.assign(call(3, "echo", "1"), 1);
    loop {
        let report = session.report().await;
        let job = report.key.map(|key| key.job_id);
        match report.event {
            Some(Event::Outcome(_)) => {
                assert_eq!(job, Some(3), "{report:?}");
                break;
            }
            Some(Event::Started(_)) => {}
            _ => assert_eq!(job, Some(3), "{report:?}"),
        }
    }
}

#[tokio::test]
async fn a_call_ends_before_its_lease_is_lost_if_that_is_wanted() {
    let mut coordinator = Coordinator::start().await;
    let args = ["--slots", "1", "--on-lease-lost", "kill"];
    let _worker = Worker::start_example(&coordinator, "troubled", &args);
    let mut session = coordinator.hello().await;
    session.welcome_briefly();
    let slow = pb::Template { kill_grace_ms: 600_000, ..call(1, "patient", "null") };
    session.assign(slow, 1);
    waiting(&mut session).await;
    // Nothing is confirmed: the lease runs out.
    let run = session.ended(0).await;
    assert_eq!(run.outcome.kind(), Kind::Rejected, "{:?}", run.outcome);
    assert_eq!(run.outcome.message, "worker w1 killed it, as its lease was about to end");
}

#[tokio::test]
async fn what_is_printed_waits_while_nobody_takes_it() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    const MIB: u64 = 1 << 20;
    let template = pb::Template { output_limit_bytes: Some(64 * MIB), ..call(1, "floods", "40") };
    session.assign(template, 1);
    let mut received = 0;
    while received < 16 * MIB - 60 * 1024 {
        if let Some(Event::Output(output)) = session.report().await.event {
            received += output.data.len() as u64;
        }
    }
    // Two heartbeats later no more than the room has come.
    let seq = session.last_seq + 2;
    session.next_messages_until(seq, &mut received).await;
    assert!(received <= 16 * MIB, "{received}");
    session.commit();
    let run = session.ended(0).await;
    assert_eq!(received + run.kept_bytes() as u64, 40 * MIB);
}

#[tokio::test]
async fn bytes_are_passed_as_they_are() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    for (job, function) in [(1, "reversed"), (2, "child.reversed")] {
        let mut template = call(job, function, "");
        let call = template.call.as_mut().expect("a call");
        (call.codec, call.argument) = ("raw".to_owned(), vec![0, 1, 255].into());
        session.assign(template, 1);
        assert_eq!(&session.ended(0).await.outcome.value[..], &[255, 1, 0]);
    }
}

#[tokio::test]
async fn a_stopping_worker_tells_its_calls_and_leaves_the_deaf() {
    let (_coordinator, worker, mut session) = troubled(&["--slots", "2"]).await;
    session.assign(call(1, "patient", "null"), 1);
    waiting(&mut session).await;
    session.assign(call(2, "deaf", "600000"), 1);
    loop {
        let report = session.report().await;
        if report.key.is_some_and(|key| key.job_id == 2) {
            break;
        }
    }
    // Two of the same kind might arrive as one.
    worker.signal(libc::SIGTERM);
    worker.signal(libc::SIGINT);
    let mut kinds = Vec::new();
    while let Some(report) = session.next().await {
        if let Some(Event::Outcome(outcome)) = report.event {
            kinds.push(outcome.kind());
        }
        session.commit();
    }
    assert_eq!(kinds, [Kind::Rejected, Kind::Rejected]);
    let (status, log) = worker.exit().await;
    assert!(status.success(), "{log}");
}

/// Teaches the worker that naps are short.
async fn short_naps(session: &mut Session, job: u64) {
    session.assign(call(job, "nap", "0"), 700);
    for _ in 0..700 {
        loop {
            let report = session.report().await;
            session.commit();
            if let Some(Event::Outcome(outcome)) = report.event {
                assert_eq!(outcome.kind(), Kind::Completed);
                break;
            }
        }
    }
}

#[tokio::test]
async fn ends_before_a_call_that_turns_out_long_are_told_while_it_runs() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    short_naps(&mut session, 1).await;
    map(&mut session, 2, "nap", &["0", "0", "600000"]).await;
    let (mut ended, mut started) = (Vec::new(), false);
    while ended.len() < 2 || !started {
        let report = session.report().await;
        match report.event {
            Some(Event::Outcome(outcome)) => {
                assert_eq!(outcome.kind(), Kind::Completed);
                ended.push(report.key.expect("a key"));
            }
            Some(Event::Started(_)) => started |= report.key == Some(key(2, 2)),
            _ => {}
        }
    }
    assert_eq!(ended, [key(2, 0), key(2, 1)]);
}

#[tokio::test]
async fn who_waits_behind_a_call_that_turns_out_long_is_cancelled_or_given_back() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    short_naps(&mut session, 1).await;
    map(&mut session, 2, "nap", &["600000", "0", "0", "0"]).await;
    loop {
        let report = session.report().await;
        if matches!(report.event, Some(Event::Started(_))) {
            assert_eq!(report.key, Some(key(2, 0)));
            break;
        }
    }
    session.stop(&[key(2, 2)], Why::Cancelled);
    let cancelled = session.ended(2).await.outcome;
    assert_eq!(cancelled.kind(), Kind::Cancelled);
    let mut back = Vec::new();
    while back.len() < 2 {
        let report = session.report().await;
        if let Some(Event::Returned(returned)) = report.event {
            assert_eq!(returned.reason, "it waited behind long tasks");
            back.push(report.key.expect("a key").index);
        }
    }
    back.sort_unstable();
    assert_eq!(back, [1, 3]);
}

#[tokio::test]
async fn who_waits_behind_a_call_that_does_not_return_is_given_back() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    short_naps(&mut session, 1).await;
    map(&mut session, 2, "nap", &["700", "0", "0"]).await;
    loop {
        if matches!(session.report().await.event, Some(Event::Started(_))) {
            break;
        }
    }
    session.stop(&[key(2, 0)], Why::Cancelled);
    let mut back = 0;
    let busy = loop {
        let report = session.report().await;
        match report.event {
            Some(Event::Returned(returned)) => {
                assert_eq!(returned.reason, "it waited behind a call that does not return");
                back += 1;
            }
            Some(Event::Outcome(outcome)) => {
                assert_eq!((report.key, outcome.kind()), (Some(key(2, 0)), Kind::Cancelled));
                break session.busy;
            }
            _ => {}
        }
    };
    assert_eq!((back, busy), (2, (1, 0)));
    session.commit();
    assert_eq!(session.call(3, "echo", "1").await.outcome.value, "1");
}
