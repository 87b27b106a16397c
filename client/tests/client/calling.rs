//! Calls: what travels, what comes back, and why there is nothing.

use crate::world::{World, ended_as, failed, value};
use serde::Deserialize;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use taskq_client::model::{Failure, LogChunk, Outcome, Progress, Stream, failure, outcome};
use taskq_client::{Codec, Echo, Ending, Error, JobBuilder, JobHandle, JobId, Kind, Raw};

#[tokio::test]
async fn a_call_is_its_value() {
    let world = World::doubling();
    let server = world.serve();
    let client = server.client();
    let n: u64 = client.call("double", 21).await.unwrap();
    assert_eq!(n, 42);
    // With all that can be said of a job.
    let mut handle: JobHandle<u64> = client
        .call("double", 4)
        .queue("fast")
        .retries(2)
        .priority(7)
        .timeout(Duration::from_secs(3))
        .kill_grace(Duration::from_millis(200))
        .idempotency_key("k")
        .name("n")
        .submit()
        .await
        .unwrap();
    assert_eq!(handle.id(), JobId(2));
    assert_eq!((&mut handle).await.unwrap(), 8);
    assert_eq!(handle.await.unwrap(), 8, "however often");
    let spec = world.spec(2);
    assert_eq!((spec.queue.as_str(), spec.name.as_str(), spec.idempotency_key.as_str()), ("fast", "n", "k"));
    assert_eq!((spec.priority, spec.timeout_ms, spec.kill_grace_ms), (7, 3_000, 200));
    assert_eq!(spec.retry.unwrap().max_attempts, 3);
    let call = spec.call.unwrap();
    assert_eq!(
        (call.function.as_str(), call.codec.as_str(), &call.argument[..]),
        ("double", "json", &b"4"[..])
    );
    assert!(spec.command.is_none());
}

#[tokio::test]
async fn the_codec_is_the_callers_choice() {
    let world = World::new(|_, argument| Some(value(argument.to_vec())));
    let server = world.serve();
    let client = server.client();
    let bytes = Raw(vec![0, 255, 7].into());
    assert_eq!(client.call::<Raw>("same", &bytes).codec(Codec::Raw).await.unwrap(), bytes);
    let pair: (String, Option<f64>) =
        client.call("same", ("a", Some(0.5))).codec(Codec::Msgpack).await.unwrap();
    assert_eq!(pair, ("a".to_owned(), Some(0.5)));
    assert_eq!(world.spec(1).call.unwrap().codec, "raw");
    assert_eq!(world.arguments(1), [bytes.0]);
    assert_eq!(world.spec(2).call.unwrap().codec, "msgpack");
}

#[tokio::test]
async fn large_arguments_and_values_travel_as_blobs() {
    let world = World::new(|_, _| None);
    let server = world.serve();
    let client = server.client();
    let text = "ä".repeat(100_000);
    let handle = client.call::<String>("f", &text).submit().await.unwrap();
    assert!(world.spec(1).call.unwrap().argument.is_empty());
    assert_eq!(world.arguments(1)[0], serde_json::to_vec(&text).unwrap());
    let blob = world.store(serde_json::to_vec(&text).unwrap());
    world.end(1, 0, Outcome { value_blob: Some(blob), ..value("") });
    // The first download breaks off in the middle.
    assert_eq!(handle.await.unwrap(), text);
}

#[tokio::test]
async fn damaged_and_missing_blobs_are_told() {
    let world = World::new(|_, _| None);
    let server = world.serve();
    let client = server.client();
    let mut blob = world.store("\"some value\"");
    assert_eq!(client.download(&blob).await.unwrap(), "\"some value\"");
    blob.size_bytes -= 1;
    let error = client.download(&blob).await.unwrap_err();
    assert!(error.kind() == Kind::Internal && error.to_string().contains("longer"), "{error}");
    blob.sha256 = vec![0; 32].into();
    assert_eq!(client.download(&blob).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn other_bytes_than_were_stored_are_not_taken() {
    use taskq_proto::v1::{Blob, DownloadChunk};
    let download = |_, _, out: crate::fake::Out<DownloadChunk>| {
        out.try_send(Ok(DownloadChunk { data: vec![1; 3].into() })).unwrap();
    };
    let script = crate::fake::Script { download: Some(Box::new(download)), ..Default::default() };
    let server = crate::fake::Server::start(script);
    let blob = Blob { sha256: vec![7; 32].into(), size_bytes: 3 };
    let error = server.client().download(&blob).await.unwrap_err();
    assert!(error.to_string().contains("another digest"), "{error}");
}

#[derive(Debug, PartialEq, Deserialize)]
struct Broken {
    code: u8,
}

#[tokio::test]
async fn an_error_comes_back_with_its_type_chain_and_place() {
    let world = World::new(|_, _| Some(failed("no route", r#"{"code": 7}"#)));
    let server = world.serve();
    let error = server.client().call::<u64>("reach", 1).await.unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (Kind::Failed, 1));
    let text = error.to_string();
    let expected = "reach returned an error: no route (my::Error)\n  caused by: the disk\n  caused by: the cable\n  \
                    at src/f.rs:7:9\n  value: {\"code\": 7}\n  job 1, task 0, attempt 2, worker w1";
    assert_eq!(text, expected);
    let Error::Call(call) = error else { panic!("{text}") };
    assert_eq!((call.job, call.index, call.attempt, call.worker.as_str()), (JobId(1), 0, 2, "w1"));
    assert_eq!((&call.ended, call.fatal), (&Ending::Error, true));
    assert_eq!(call.typed::<Broken>(), Some(Ok(Broken { code: 7 })));
    let mismatch = call.typed::<u64>().unwrap().unwrap_err();
    assert!(mismatch.to_string().contains("expected u64 as json"), "{mismatch}");
}

#[tokio::test]
async fn each_ending_is_told_apart() {
    let by_cause_saying = |cause: failure::Cause, message: &str| {
        let failure = Failure { cause: cause.into(), message: message.into(), ..Default::default() };
        Outcome { failure: Some(failure), ..ended_as(outcome::Kind::Failed) }
    };
    let by_cause = |cause| by_cause_saying(cause, "m");
    let cases = [
        (by_cause(failure::Cause::Panic), Ending::Panicked, "f panicked: m\n"),
        (by_cause(failure::Cause::Argument), Ending::Argument, "f could not read its argument: m\n"),
        (
            by_cause_saying(failure::Cause::Argument, "the argument of function f: expected u64"),
            Ending::Argument,
            "f could not read its argument: expected u64\n",
        ),
        (by_cause(failure::Cause::Result), Ending::Unencodable, "f returned what cannot be written: m\n"),
        (by_cause(failure::Cause::Function), Ending::NoFunction, "f failed: m\n"),
        (
            by_cause_saying(failure::Cause::Function, "f: its child process exited with code 0"),
            Ending::NoFunction,
            "f failed: its child process exited with code 0\n",
        ),
        (
            Outcome { stderr_bytes: 1, ..by_cause(failure::Cause::Panic) },
            Ending::Panicked,
            "; its output: taskq logs ",
        ),
        (
            Outcome { signal: 9, out_of_memory: true, ..ended_as(outcome::Kind::Signaled) },
            Ending::Killed { signal: 9, out_of_memory: true },
            "killed by signal 9, out of memory",
        ),
        (Outcome { exit_code: 3, ..ended_as(outcome::Kind::Exited) }, Ending::Exited { code: 3 }, "status 3"),
        (ended_as(outcome::Kind::TimedOut), Ending::TimedOut, "longer than its timeout"),
        (ended_as(outcome::Kind::Cancelled), Ending::Cancelled, "taskq retry"),
        (ended_as(outcome::Kind::Skipped), Ending::Skipped, "was skipped"),
        (
            Outcome { message: "lost it 3 times".into(), ..ended_as(outcome::Kind::WorkerLost) },
            Ending::WorkerLost,
            "f lost its worker: lost it 3 times",
        ),
    ];
    let outcomes: Vec<Outcome> = cases.iter().map(|case| case.0.clone()).collect();
    let world = World::new(move |_, argument| {
        Some(outcomes[std::str::from_utf8(argument).unwrap().parse::<usize>().unwrap()].clone())
    });
    let server = world.serve();
    let client = server.client();
    for (number, (_, ending, words)) in cases.iter().enumerate() {
        let error = client.call::<u64>("f", number).await.unwrap_err();
        let Error::Call(call) = &error else { panic!("{error}") };
        assert_eq!(&call.ended, ending);
        assert!(error.to_string().contains(words), "{error}");
        assert!(call.typed::<u64>().is_none());
    }
}

#[tokio::test]
async fn a_value_of_another_type_says_what_was_expected() {
    let world = World::new(|_, _| Some(value(r#"{"code": "seven"}"#)));
    let server = world.serve();
    let error = server.client().call::<Broken>("f", ()).await.unwrap_err();
    let Error::Call(call) = &error else { panic!("{error}") };
    assert!(matches!(&call.ended, Ending::Undecodable(mismatch) if mismatch.place == "code"), "{error}");
    assert!(error.to_string().contains("f returned what cannot be read here: expected "), "{error}");
    assert!(error.to_string().contains("taskq result 1.0"), "{error}");
}

#[tokio::test]
async fn wrong_calls_never_travel() {
    let server = World::idle().serve();
    let client = server.client();
    let keys = std::collections::BTreeMap::from([((1, 2), 3)]);
    for (call, word) in [
        (client.call::<u64>("", 1), "function's name"),
        (client.call("7up", 1), "function's name"),
        (client.call("f", &keys), "key must be a string"),
        (client.call("f", 1).codec(Codec::Raw), "neither bytes nor text"),
        (client.call("f", 1).queue("two words"), "queue"),
    ] {
        let error = call.await.unwrap_err();
        assert!(error.kind() == Kind::Usage && error.to_string().contains(word), "{error}");
    }
    let elements = |items: &[&str]| taskq_client::Elements::new().arguments(items);
    for (job, word) in [
        (JobBuilder::call("f", Codec::Json, &1).elements(elements(&["1"])), "either"),
        (JobBuilder::call("f", Codec::Json, &1).env("A", "b"), "variables"),
        (JobBuilder::call("f", Codec::Json, &1).stdin("x"), "standard input"),
        (JobBuilder::call_encoded("f", "json", "").elements(elements(&["1"]).range(1, 1, 2)), "one argument"),
        (JobBuilder::call_encoded("f", "json", vec![0; (256 << 20) + 1]), "256 MiB"),
        (JobBuilder::command(["echo", "{}"]).elements(elements(&["1"])), "command"),
    ] {
        let error = client.submit(job).await.unwrap_err();
        assert!(error.kind() == Kind::Usage && error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn another_process_picks_a_call_up() {
    let world = World::idle();
    let server = world.serve();
    let id = server.client().call::<u64>("f", 1).submit().await.unwrap().id();
    let client = server.client();
    let mut picked: JobHandle<u64> = client.pick_up(id).await.unwrap();
    let untyped = client.attach(id);
    assert!(futures_pending(&mut picked).await, "it has not ended");
    world.end(1, 0, value("5"));
    assert_eq!(picked.await.unwrap(), 5);
    assert_eq!(untyped.typed::<u64>().await.unwrap(), 5);
    assert_eq!(client.pick_up::<u64>(9).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(client.attach(9).typed::<u64>().await.unwrap_err().kind(), Kind::NotFound);
}

/// Whether a future is not done yet when polled once.
async fn futures_pending(future: &mut (impl Future + Unpin)) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending()))
        .await
}

#[tokio::test]
async fn a_handle_cancels_and_tells_progress() {
    let world = World::idle();
    let server = world.serve();
    let handle: JobHandle<u64> = server.client().call("f", 1).submit().await.unwrap();
    let mut progress = handle.progress();
    for (fraction, note) in [(0.25, "a quarter"), (0.5, "half")] {
        world.progress(1, Progress { index: 0, fraction, note: note.into() });
        let said = progress.next().await.unwrap().unwrap();
        assert_eq!((said.fraction, said.note.as_str()), (fraction, note));
    }
    assert_eq!(handle.cancel().await.unwrap().tasks, 1);
    assert!(progress.next().await.is_none());
    let Error::Call(call) = handle.await.unwrap_err() else { panic!("no call error") };
    assert_eq!(call.ended, Ending::Cancelled);
}

fn chunk(stream: Stream, offset: u64, text: &str) -> LogChunk {
    LogChunk {
        attempt: 1,
        stream: stream.into(),
        offset,
        data: text.as_bytes().to_vec().into(),
        cursor: offset + 1,
        ..Default::default()
    }
}

#[tokio::test]
async fn what_a_call_prints_is_here_before_its_value() {
    let world = World::idle();
    let server = world.serve();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (lines, arrived) = (seen.clone(), tokio::sync::watch::Sender::new(0));
    let mut arrivals = arrived.subscribe();
    let echo = Echo::to(move |stream, bytes| {
        lines.lock().unwrap().push((stream, String::from_utf8(bytes.to_vec()).unwrap()));
        arrived.send_modify(|n| *n += 1);
        Ok(())
    });
    let mut handle: JobHandle<u64> = server.client().call("f", 1).echo_to(echo).submit().await.unwrap();
    assert!(futures_pending(&mut handle).await);
    world.say(1, chunk(Stream::Stdout, 0, "one\ntw"));
    arrivals.wait_for(|n| *n == 1).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [(Stream::Stdout, "one\n".to_owned())], "live, by whole lines");
    assert!(futures_pending(&mut handle).await);
    world.mute(true);
    world.say(1, chunk(Stream::Stderr, 0, "oops\n"));
    world.say(1, chunk(Stream::Stdout, 6, "o\nthree"));
    world.end(1, 0, value("3"));
    assert!(futures_pending(&mut handle).await);
    // The end of another, told after this one's over the same stream, has come.
    let other: JobHandle<u64> = handle.client().call("f", 2).submit().await.unwrap();
    world.end(2, 0, value("4"));
    assert_eq!(other.await.unwrap(), 4);
    assert!(futures_pending(&mut handle).await, "its output is not here");
    world.mute(false);
    assert_eq!(handle.await.unwrap(), 3);
    let rest = [(Stream::Stderr, "oops\n"), (Stream::Stdout, "two\n"), (Stream::Stdout, "three")];
    assert_eq!(seen.lock().unwrap()[1..], rest.map(|(stream, text)| (stream, text.to_owned())));
}

#[tokio::test]
async fn output_that_cannot_be_written_is_told_once_and_costs_no_value() {
    let world = World::idle();
    let server = world.serve();
    let echo = Echo::to(|_, _| Err(std::io::Error::other("the pipe is closed")));
    let mut handle: JobHandle<u64> = server.client().call("f", 1).echo_to(echo).submit().await.unwrap();
    world.say(1, chunk(Stream::Stdout, 0, "one\n"));
    world.end(1, 0, value("3"));
    let error = (&mut handle).await.unwrap_err();
    assert!(
        error.to_string().contains("the pipe is closed") && error.to_string().contains("taskq logs 1"),
        "{error}"
    );
    assert_eq!(handle.await.unwrap(), 3);
}
