//! What a watcher is told, and when.

use std::sync::Arc;

use bytes::Bytes;
use taskq_core::{
    Config,
    effect::Reply,
    event::{Act, Event},
    id::Millis,
    job::{CRASH_LIMIT, NewJob, Policy, Retry, Shape},
};
use tokio::{sync::watch, time::timeout};

use super::{super::Start, super::backup::Backups, super::room::Promised, *};
use crate::{
    access::Token,
    clock::Clock,
    coordinator::{Handle, commit, deliver, restore, run, sessions::Sessions},
    metrics::Metrics,
    store::{MemoryStore, Store},
    templates::Templates,
};

/// How long a word may take that is said at once, and how much longer the look takes that could find it out as well.
const LIMIT: Duration = Duration::from_secs(10);
const FAR: Duration = Duration::from_secs(1_000_000);

/// A coordinator on a store in memory, without a port. Its loop ends with the test's runtime.
fn context() -> (Context, watch::Sender<bool>) {
    let clock = Clock::start();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let limits = Config::default();
    let lease = limits.lease;
    let (state, epoch) = restore::restore(&*store, limits, clock.now()).expect("an empty store");
    let (handle, inbox) = Handle::new(Arc::new(Sessions::default()));
    let (metrics, instance) = (Arc::new(Metrics::default()), "test".to_owned());
    let greeting = deliver::Greeting { epoch, lease, instance: instance.clone() };
    let deliver = deliver::Deliver::new(&handle, Arc::new(Templates::new(Arc::clone(&store))), greeting);
    let (commits, _last_word) = commit::start(Arc::clone(&store), deliver, Arc::clone(&metrics));
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(run::run(clock, state, inbox, commits, stopping.clone()));
    let start = Start { at: tokio::time::Instant::now(), epoch, instance };
    let backups = Backups::new(Token::random());
    (Context { handle, store, room: Promised::default(), metrics, start, backups, stopping }, stop)
}

/// A job of one task that nobody runs.
fn lone() -> NewJob {
    let retry = Retry {
        max_attempts: 1,
        initial: Millis(1_000),
        multiplier_milli: 2_000,
        max: Millis(60_000),
        exit_codes: Vec::new(),
    };
    let policy = Policy {
        queue: "default".into(),
        priority: 0,
        shape: Shape { slots: 1, ..Shape::default() },
        retry,
        timeout: None,
        kill_grace: Millis(10_000),
        crash_limit: CRASH_LIMIT,
        max_parallel: None,
        max_fails: None,
        keep: None,
    };
    NewJob { policy, total: 1, only: None, key: None, rerun_of: None, spec: Bytes::new() }
}

#[tokio::test]
async fn a_watcher_is_told_of_the_end_at_once() {
    let (context, _stop) = context();
    let submit = |request| Event::Submit { request, repeat: None, jobs: vec![lone()] };
    let submitted = context.handle.ask(submit).await.expect("an answer");
    let Reply::Submitted { ids, .. } = submitted else { panic!("not submitted: {submitted:?}") };
    let job = ids[0];

    let (out, mut said) = mpsc::channel(1);
    let request = pb::WatchRequest { job_id: job.0 };
    let watching = tokio::spawn(context.clone().watch_every(FAR, request, out));
    let first = timeout(LIMIT, said.recv()).await.expect("how it is").expect("a stream").expect("a job");
    assert_eq!((first.id, first.state), (job.0, pb::State::Queued as i32));

    let cancel = |request| Event::Act { request, job, act: Act::Cancel(None), dry_run: false };
    let cancelled = context.handle.ask(cancel).await.expect("an answer");
    assert!(matches!(cancelled, Reply::Acted { tasks: 1, stopping: 0, .. }), "{cancelled:?}");
    let last = timeout(LIMIT, said.recv()).await.expect("the end, without another look");
    let last = last.expect("a stream").expect("a job");
    assert_eq!(last.state, pb::State::Cancelled as i32);
    assert!(last.ended_unix_ms != 0, "{last:?}");
    assert!(said.recv().await.is_none(), "there is nothing more to say");
    watching.await.expect("no panic");
}
