//! A worker inside another program.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pb::outcome::Kind;
use taskq_client::{Access, Token};
use taskq_proto::v1 as pb;
use taskq_worker::{Config, Context, Failure, Worker, current};
use tokio::sync::{mpsc, oneshot};

use crate::coordinator::{Coordinator, TOKEN, call, soon};

fn config(coordinator: &Coordinator) -> Config {
    let access = Access::new(coordinator.addr.to_string(), Token::new(TOKEN).expect("a token"));
    let spawner = env!("CARGO_BIN_EXE_taskq-worker").into();
    Config { name: "w1".to_owned(), slots: 1, spawner, ..Config::new(access) }
}

#[tokio::test]
async fn functions_may_be_closures_and_a_worker_a_future() {
    let mut coordinator = Coordinator::start().await;
    let sum = Arc::new(AtomicU64::new(0));
    let total = Arc::clone(&sum);
    let add = move |n: u64, context: &Context| -> Result<u64, Failure> {
        let here = current().expect("this thread works for a call");
        assert_eq!((here.function(), here.job()), ("add", context.job()));
        Ok(total.fetch_add(n, Ordering::SeqCst) + n)
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = Worker::new().blocking("add", add).run(config(&coordinator), async { _ = stopped.await });
    let worker = tokio::spawn(worker);
    let mut session = coordinator.session().await;
    assert_eq!(session.call(1, "add", "3").await.outcome.value, "3");
    assert_eq!(session.call(2, "add", "4").await.outcome.value, "7");
    drop(stop);
    while session.next().await.is_some() {
        session.commit();
    }
    soon(worker).await.expect("no panic").expect("it was drained");
    assert_eq!(sum.load(Ordering::SeqCst), 7);
    assert!(current().is_none());
}

#[tokio::test]
async fn a_worker_that_is_dropped_ends_its_calls() {
    let mut coordinator = Coordinator::start().await;
    let (told, mut ends) = mpsc::unbounded_channel();
    let told_too = told.clone();
    let blocks = move |(): (), context: &Context| -> Result<(), Failure> {
        told.send("blocks").expect("the test listens");
        while !context.is_cancelled() {
            std::thread::yield_now();
        }
        told.send("told").expect("the test listens");
        Ok(())
    };
    let waits = move |(): (), _: Context| {
        let dropped = Dropped(told_too.clone());
        async move {
            let _dropped = dropped;
            std::future::pending::<Result<(), Failure>>().await
        }
    };
    let worker = Worker::new().blocking("blocks", blocks).asynchronous("waits", waits);
    let worker = tokio::spawn(worker.run(config(&coordinator), std::future::pending()));
    let mut session = coordinator.session().await;
    session.assign(call(1, "blocks", "null"), 1);
    assert_eq!(soon(ends.recv()).await, Some("blocks"));
    session.assign(call(2, "waits", "null"), 1);
    while session.report().await.key.is_none_or(|key| key.job_id != 2) {}
    worker.abort();
    let mut last = [soon(ends.recv()).await, soon(ends.recv()).await];
    last.sort_unstable();
    assert_eq!(last, [Some("dropped"), Some("told")]);
    assert_eq!(coordinator.burial().await.incarnation, session.hello.incarnation);
}

/// Says so when it goes.
struct Dropped(mpsc::UnboundedSender<&'static str>);

impl Drop for Dropped {
    fn drop(&mut self) {
        // The test may be over.
        let _ = self.0.send("dropped");
    }
}

#[tokio::test]
async fn commands_alone_need_no_functions() {
    let mut coordinator = Coordinator::start().await;
    let worker = tokio::spawn(taskq_worker::run(config(&coordinator), std::future::pending()));
    let mut session = coordinator.session().await;
    assert!(session.hello.functions.is_empty() && session.hello.async_slots == 0);
    assert_eq!(session.run(1, "echo hi").await.outcome.kind(), Kind::Exited);
    worker.abort();
}
