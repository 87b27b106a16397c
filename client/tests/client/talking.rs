//! Reaching a coordinator, showing the token, and what errors become.

use crate::fake::{Script, Server, job};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use taskq_client::model::State;
use taskq_client::{Access, Client, Error, Kind, Options, Token, Trouble};
use tonic::{Code, Status};

#[tokio::test]
async fn every_call_shows_the_token() {
    let script = Script { get: Some(Box::new(|_, _| Ok(job(State::Queued, 1)))), ..Script::default() };
    let server = Server::start(script);
    let client = Client::connect(&server.access()).await.unwrap();
    assert_eq!(client.get(7).await.unwrap().id, 7);
    assert_eq!(client.stats().await.unwrap().version, "fake");
    assert_eq!(server.refused.load(Ordering::SeqCst), 0);

    let stranger = Access::new(server.addr.to_string(), Token::new("tq_wrong").unwrap());
    let error = Client::connect(&stranger).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);
    assert_eq!(server.refused.load(Ordering::SeqCst), 1, "a refusal is not tried again");
    assert!(!format!("{error} {error:?}").contains("tq_wrong"));
}

#[tokio::test]
async fn an_absent_coordinator_is_told_at_once() {
    let addr = Server::start(Script::default()).kill();
    let access = Access::new(addr.to_string(), Token::new("t").unwrap());
    let begun = Instant::now();
    let error = Client::connect(&access).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5), "connecting is tried once");
    assert_eq!((error.kind(), error.kind().exit_code()), (Kind::Unreachable, 69));
    let text = error.to_string();
    assert!(text.starts_with(&format!("coordinator not reachable at {addr} (connection refused)")), "{text}");
    assert!(text.contains("taskq up") && text.contains("address came from: "), "{text}");

    let impatient = Options { patience: Duration::from_millis(120), ..Options::default() };
    let client = Client::lazy(&access, impatient).unwrap();
    assert_eq!(client.get(1).await.unwrap_err().kind(), Kind::Unreachable, "patience ends");
}

#[tokio::test]
async fn a_restart_is_sat_out_and_told() {
    let answer = || Script { get: Some(Box::new(|_, _| Ok(job(State::Running, 1)))), ..Script::default() };
    let first = Server::start(answer());
    let access = first.access();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (listener, restart) = (heard.clone(), Arc::new(Mutex::new(None)));
    let again = restart.clone();
    let addr = first.addr;
    let on_trouble: taskq_client::Listener = Arc::new(move |trouble: &Trouble| {
        listener.lock().unwrap().push(trouble.clone());
        // The coordinator comes back once its absence was noticed.
        again.lock().unwrap().get_or_insert_with(|| Server::start_at(addr, answer()));
    });
    let client =
        Client::connect_with(&access, Options { on_trouble: Some(on_trouble), ..Options::default() })
            .await
            .unwrap();
    first.kill();
    assert_eq!(client.get(7).await.unwrap().id, 7);
    let heard = heard.lock().unwrap();
    assert!(matches!(heard.first(), Some(Trouble::Lost { .. })), "{heard:?}");
    assert_eq!(heard.last(), Some(&Trouble::Back));
    drop(restart.lock().unwrap().take());
}

#[tokio::test]
async fn each_status_has_its_kind() {
    let cases = [
        (Code::InvalidArgument, "no", Kind::Usage),
        (Code::NotFound, "no job 7", Kind::NotFound),
        (Code::NotFound, "job 7 was removed (EXPIRED)", Kind::Gone),
        (Code::AlreadyExists, "key taken", Kind::Conflict),
        (Code::FailedPrecondition, "still runs", Kind::Conflict),
        (Code::ResourceExhausted, "disk full", Kind::Busy),
        (Code::Unauthenticated, "no token", Kind::Unauthorized),
        (Code::PermissionDenied, "not yours", Kind::Unauthorized),
        (Code::Unimplemented, "what?", Kind::Internal),
        (Code::Internal, "oops", Kind::Internal),
        (Code::OutOfRange, "cursor 3 is gone", Kind::Gone),
        (Code::OutOfRange, "Error, decoded message length too large: found 9 bytes", Kind::Usage),
    ];
    let script = Script {
        get: Some(Box::new(move |number, _| Err(Status::new(cases[number].0, cases[number].1)))),
        ..Script::default()
    };
    let server = Server::start(script);
    let client = server.client();
    for (code, message, kind) in cases {
        let error = client.get(7).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{code:?} {message}");
        // The mark is for programs, which have the kind.
        assert!(error.to_string().contains(message.trim_end_matches(" (EXPIRED)")), "{error}");
        assert!(!error.to_string().contains("EXPIRED"), "{error}");
    }
}

#[tokio::test]
async fn waiting_goes_on_until_the_end_or_the_deadline() {
    let script = Script {
        wait: Some(Box::new(|number, request| {
            assert!((1..=60_000).contains(&request.timeout_ms));
            Ok(job(if number < 2 { State::Running } else { State::Failed }, 1))
        })),
        get: Some(Box::new(|_, _| Ok(job(State::Running, 1)))),
        ..Script::default()
    };
    let server = Server::start(script);
    let client = server.client();
    assert_eq!(client.wait(7, Some(Duration::ZERO)).await.unwrap().state(), State::Running);
    assert_eq!(client.wait(7, None).await.unwrap().state(), State::Failed);
}

#[tokio::test]
async fn bad_names_never_travel() {
    let server = Server::start(Script::default());
    let client = server.client();
    assert_eq!(client.pause_queue("-bad name").await.unwrap_err().kind(), Kind::Usage);
    assert!(client.pause_queue("good").await.unwrap().paused);
    assert!(matches!(client.worker("w").await, Err(Error::NotFound(_))));
}
