//! Arguments and values that are too long for a message.

use bytes::Bytes;
use pb::failure::Cause;
use pb::outcome::Kind;
use pb::report::Event;
use taskq_proto::v1 as pb;

use crate::coordinator::{Coordinator, Session, Worker, call, key};

const LARGE: usize = 1_000_000;

async fn troubled(args: &[&str]) -> (Coordinator, Worker, Session) {
    let mut coordinator = Coordinator::start().await;
    let worker = Worker::start_example(&coordinator, "troubled", args);
    let session = coordinator.session().await;
    (coordinator, worker, session)
}

/// A text of so many letters, in JSON.
fn text(letters: usize) -> Bytes {
    format!("\"{}\"", "x".repeat(letters)).into()
}

#[tokio::test]
async fn a_long_value_is_stored_before_its_end_is_told() {
    let (coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    for (job, function) in [(1, "large"), (2, "child.large")] {
        let outcome = session.call(job, function, &LARGE.to_string()).await.outcome;
        assert_eq!((outcome.kind(), outcome.value.len()), (Kind::Completed, 0));
        let blob = outcome.value_blob.expect("it is stored");
        assert_eq!(blob.size_bytes, LARGE as u64 + 2);
        assert_eq!(coordinator.blobs.get(&blob), Some(text(LARGE)));
    }
    let short = session.call(3, "large", "32766").await.outcome;
    assert_eq!((short.value.len(), short.value_blob), (32 << 10, None));
    assert!(session.call(4, "large", "32767").await.outcome.value_blob.is_some());
}

#[tokio::test]
async fn a_value_of_64_mib_comes_whole() {
    let (coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    let outcome = session.call(1, "large", &(64 << 20).to_string()).await.outcome;
    let blob = outcome.value_blob.expect("it is stored");
    assert_eq!(coordinator.blobs.get(&blob).map(|bytes| bytes.len()), Some((64 << 20) + 2));
}

#[tokio::test]
async fn a_value_that_is_too_long_is_a_fatal_failure() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    let outcome = session.call(1, "large", &(256 << 20).to_string()).await.outcome;
    let failure = outcome.failure.as_ref().expect("it failed");
    assert_eq!((outcome.kind(), failure.cause(), failure.fatal), (Kind::Failed, Cause::Result, true));
    assert!(failure.message.contains("is 268435458 bytes long"), "{failure:?}");
}

#[tokio::test]
async fn storing_is_tried_again_and_the_slot_waits() {
    let (coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    coordinator.blobs.refuse(2);
    session.assign(call(1, "large", &LARGE.to_string()), 1);
    session.assign(call(2, "echo", "1"), 1);
    let mut order = Vec::new();
    while order.len() < 2 {
        let report = session.report().await;
        if let Some(Event::Outcome(outcome)) = report.event {
            assert_eq!(outcome.kind(), Kind::Completed);
            order.push(report.key.expect("a key").job_id);
        }
    }
    assert_eq!(order, [1, 2], "the second had to wait for the slot");
    assert_eq!(coordinator.blobs.uploads(), 1);
}

#[tokio::test]
async fn a_value_that_was_not_confirmed_is_stored_again_in_the_next_session() {
    let (coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    session.assign(call(1, "large", &LARGE.to_string()), 1);
    let told = |report: &pb::Report| matches!(report.event, Some(Event::Outcome(_)));
    while !told(&session.report().await) {}
    let addr = coordinator.vanish();
    drop(session);
    // A coordinator that has lost the bytes.
    let mut coordinator = Coordinator::start_at(addr).await;
    let mut session = coordinator.session().await;
    assert_eq!(session.hello.held, [key(1, 0)]);
    let blob = session.ended(0).await.outcome.value_blob.expect("it is stored");
    assert_eq!((coordinator.blobs.get(&blob), coordinator.blobs.uploads()), (Some(text(LARGE)), 1));
    // Confirmed by now: nothing is held, nothing is told again.
    assert_eq!(session.call(2, "echo", "1").await.outcome.value, "1");
}

/// The worker says of a call that its value waits.
async fn says_that_it_waits(session: &mut Session) {
    loop {
        if let Some(Event::Progress(progress)) = session.report().await.event {
            assert!(progress.note.contains("its value cannot be stored yet"), "{progress:?}");
            return;
        }
    }
}

#[tokio::test]
async fn a_value_that_waits_is_told_and_does_not_hold_up_a_worker_that_is_stopped() {
    let (coordinator, worker, mut session) = troubled(&["--slots", "1"]).await;
    coordinator.blobs.refuse(u32::MAX);
    session.assign(call(1, "large", &LARGE.to_string()), 1);
    says_that_it_waits(&mut session).await;
    worker.signal(libc::SIGTERM);
    session.heard().await;
    worker.signal(libc::SIGTERM);
    let (status, said) = worker.exit().await;
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(said.matches("its value cannot be stored yet").count(), 1, "said once: {said}");
}

#[tokio::test]
async fn a_call_whose_value_waits_can_be_cancelled() {
    let (coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    coordinator.blobs.refuse(u32::MAX);
    session.assign(call(1, "large", &LARGE.to_string()), 1);
    says_that_it_waits(&mut session).await;
    session.stop(&[key(1, 0)], pb::stop::Why::Cancelled);
    assert_eq!(session.ended(0).await.outcome.kind(), Kind::Cancelled);
    assert_eq!(session.call(2, "echo", "1").await.outcome.value, "1", "its slot is free");
}

fn with_blob(job: u64, function: &str, blob: pb::Blob) -> pb::Template {
    let mut template = call(job, function, "");
    template.call.as_mut().expect("a call").argument_blob = Some(blob);
    template
}

#[tokio::test]
async fn a_long_argument_is_fetched_first() {
    let (coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    let blob = coordinator.blobs.put(&text(LARGE));
    coordinator.blobs.refuse(2);
    for (job, function) in [(1, "echo"), (2, "async.echo"), (3, "child.echo")] {
        session.assign(with_blob(job, function, blob.clone()), 1);
        let outcome = session.ended(0).await.outcome;
        assert_eq!(outcome.value_blob, Some(blob.clone()), "{function}: {outcome:?}");
    }
}

#[tokio::test]
async fn an_argument_that_is_gone_is_told() {
    let (_coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    let blob = pb::Blob { sha256: vec![7; 32].into(), size_bytes: 9 };
    session.assign(with_blob(1, "echo", blob), 1);
    let outcome = session.ended(0).await.outcome;
    let failure = outcome.failure.as_ref().expect("it failed");
    assert_eq!((failure.cause(), failure.fatal), (Cause::Argument, true));
    assert!(
        outcome.message.contains("the argument of function echo, 9 bytes, is not at the coordinator"),
        "{}",
        outcome.message
    );
}

#[tokio::test]
async fn a_call_that_waits_for_its_argument_can_be_cancelled() {
    let (coordinator, _worker, mut session) = troubled(&["--slots", "1"]).await;
    let blob = coordinator.blobs.put(&text(LARGE));
    coordinator.blobs.refuse(u32::MAX);
    session.assign(with_blob(1, "echo", blob), 1);
    session.heard().await;
    session.stop(&[key(1, 0)], pb::stop::Why::Cancelled);
    assert_eq!(session.ended(0).await.outcome.kind(), Kind::Cancelled);
    assert_eq!(session.call(2, "echo", "1").await.outcome.value, "1");
}
