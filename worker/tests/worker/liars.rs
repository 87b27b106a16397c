//! Children that break their protocol, or die and start at the wrong moment: one call is hurt at the most, and it is told
//! what happened.

use std::path::Path;
use std::time::Duration;

use pb::outcome::Kind;
use taskq_proto::v1 as pb;

use crate::coordinator::{Coordinator, Session, Worker, call, key};

/// A worker with one slot and a child that lies; while the file exists, no other child comes up.
async fn liar(gate: &Path) -> (Coordinator, Worker, Session) {
    let mut coordinator = Coordinator::start().await;
    let script = format!("exec python3 {}/tests/liar.py {}", env!("CARGO_MANIFEST_DIR"), gate.display());
    let worker = Worker::start(&coordinator, &["--slots", "1", "--child", &script]);
    let session = coordinator.session().await;
    (coordinator, worker, session)
}

#[tokio::test]
async fn what_is_said_for_other_calls_is_never_an_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_coordinator, _worker, mut session) = liar(&folder.path().join("gate")).await;
    for job in 1..6 {
        let function = if job % 2 == 1 { "others" } else { "echo" };
        let value = if job % 2 == 1 { "\"mine\"" } else { "7" };
        let outcome = session.call(job, function, "7").await.outcome;
        assert_eq!((outcome.kind(), &outcome.value[..]), (Kind::Completed, value.as_bytes()), "{function}");
    }
}

#[tokio::test]
async fn a_child_that_says_what_is_no_frame_is_ended_and_that_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_coordinator, _worker, mut session) = liar(&folder.path().join("gate")).await;
    let outcome = session.call(1, "garbage", "null").await.outcome;
    assert_eq!(outcome.kind(), Kind::Failed, "{outcome:?}");
    assert!(
        outcome.message.starts_with("garbage: its child process did not keep to the protocol"),
        "{outcome:?}"
    );
    assert_eq!(session.call(2, "echo", "1").await.outcome.value, "1");
}

#[tokio::test]
async fn a_child_that_is_killed_in_time_has_broken_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_coordinator, _worker, mut session) = liar(&folder.path().join("gate")).await;
    let mut template = call(1, "deaf", "null");
    (template.timeout_ms, template.kill_grace_ms) = (100, 100);
    session.assign(template, 1);
    let outcome = session.ended(0).await.outcome;
    assert_eq!(outcome.kind(), Kind::TimedOut, "{outcome:?}");
    assert!(!outcome.message.contains("protocol"), "{outcome:?}");
}

#[tokio::test]
async fn a_call_whose_child_does_not_come_up_can_be_cancelled() {
    let folder = tempfile::tempdir().expect("a folder");
    let gate = folder.path().join("gate");
    let (_coordinator, _worker, mut session) = liar(&gate).await;
    assert_eq!(session.call(9, "echo", "1").await.outcome.value, "1", "its first child is up");
    std::fs::write(&gate, "").expect("close the gate");
    assert_eq!(session.call(1, "die", "null").await.outcome.exit_code, 5);
    session.assign(call(2, "echo", "1"), 1);
    session.stop(&[key(2, 0)], pb::stop::Why::Cancelled);
    let ended = tokio::time::timeout(Duration::from_secs(20), session.ended(0)).await;
    assert_eq!(ended.expect("it does not wait for the child").outcome.kind(), Kind::Cancelled);
    session.assign(call(3, "echo", "3"), 1);
    std::fs::remove_file(&gate).expect("open the gate");
    assert_eq!(session.ended(0).await.outcome.value, "3");
}
