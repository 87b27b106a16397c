//! Streams go on where they were cut off; order is kept within the memory that it may take.

use crate::fake::{Out, Script, Server, ended, job};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use taskq_client::model::{Elements, Filter, JobSpec, LogChunk, Span, State};
use taskq_client::{Kind, LogsQuery, Results, ResultsQuery};
use taskq_proto::v1::{Job, ListReply, ListTasksReply, ListTasksRequest, ResultBatch, ResultsRequest};
use tonic::Status;

const FOLLOW: ResultsQuery = ResultsQuery { cursor: 0, with_output: true, with_values: false, follow: true };

fn batch(tasks: std::ops::Range<u32>, complete: bool) -> ResultBatch {
    let cursor = u64::from(tasks.end);
    ResultBatch { tasks: tasks.map(|index| ended(index, "")).collect(), cursor, complete }
}

fn say<T>(out: &Out<T>, message: Result<T, Status>) {
    out.try_send(message).unwrap_or_else(|_| panic!("room for a message"));
}

async fn indices(results: &mut Results) -> Vec<(u64, u32)> {
    let mut seen = Vec::new();
    while let Some(end) = results.next().await {
        let end = end.expect("an end");
        seen.push((end.cursor, end.task.index));
    }
    seen
}

#[tokio::test]
async fn results_go_on_from_their_cursor() {
    let cursors = Arc::new(Mutex::new(Vec::new()));
    let asked = cursors.clone();
    let results = move |number, request: ResultsRequest, out: Out<ResultBatch>| {
        asked.lock().unwrap().push(request.cursor);
        match number {
            0 => {
                say(&out, Ok(batch(0..2, false)));
                say(&out, Ok(batch(2..3, false)));
                say(&out, Err(Status::unavailable("restarting")));
            }
            // Ends in good order, but too early.
            1 => say(&out, Ok(batch(3..4, false))),
            // Cut off for being slow.
            2 => {
                say(&out, Ok(batch(4..5, false)));
                say(&out, Err(Status::aborted("LAGGED: go on from cursor 5")));
            }
            // Says one again.
            _ => say(&out, Ok(batch(4..7, true))),
        }
    };
    let server = Server::start(Script { results: Some(Box::new(results)), ..Script::default() });
    let mut results = server.client().results(7, FOLLOW);
    assert_eq!(indices(&mut results).await, (0..7).map(|i| (u64::from(i) + 1, i)).collect::<Vec<_>>());
    assert_eq!(results.cursor(), 7);
    assert_eq!(*cursors.lock().unwrap(), [0, 3, 4, 5]);
}

/// As a `select!` does whose other arms are ready again and again.
#[tokio::test]
async fn a_stream_is_opened_once_however_often_its_reader_turns_away() {
    let opened = Arc::new(AtomicUsize::new(0));
    let counted = opened.clone();
    let results = move |_, _, out: Out<ResultBatch>| {
        counted.fetch_add(1, Ordering::SeqCst);
        say(&out, Ok(batch(0..1, true)));
    };
    let server = Server::start(Script { results: Some(Box::new(results)), ..Script::default() });
    let mut results = server.client().results(7, FOLLOW);
    let read = async {
        loop {
            tokio::select! {
                biased;
                end = results.next() => return end,
                () = tokio::task::yield_now() => {}
            }
        }
    };
    let end = tokio::time::timeout(Duration::from_secs(30), read).await.expect("it gets on");
    assert_eq!(end.expect("one").expect("an end").task.index, 0);
    assert_eq!(opened.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn results_outlive_the_coordinator() {
    let first = Server::start(Script {
        results: Some(Box::new(|_, _, out| {
            say(&out, Ok(batch(0..3, false)));
            // The connection stays open until the coordinator dies.
            tokio::spawn(async move { out.closed().await });
        })),
        ..Script::default()
    });
    let mut results = first.client().results(7, FOLLOW);
    for index in 0..3 {
        assert_eq!(results.next().await.unwrap().unwrap().task.index, index);
    }
    let addr = first.kill();
    let second = Server::start_at(
        addr,
        Script {
            results: Some(Box::new(|_, request, out| {
                assert_eq!(request.cursor, 3);
                say(&out, Ok(batch(3..5, true)));
            })),
            ..Script::default()
        },
    );
    assert_eq!(indices(&mut results).await, [(4, 3), (5, 4)]);
    drop(second);
}

#[tokio::test]
async fn a_gap_is_never_passed_over() {
    let results = |_, _, out: Out<ResultBatch>| say(&out, Ok(batch(5..6, true)));
    let server = Server::start(Script { results: Some(Box::new(results)), ..Script::default() });
    let mut results = server.client().results(7, FOLLOW);
    assert_eq!(results.next().await.unwrap().unwrap_err().kind(), Kind::Internal);
    assert!(results.next().await.is_none());
}

/// Results in reverse order, each with 10 KiB of output that says which it is.
fn backwards(indices: Vec<u32>, fetches: Arc<AtomicUsize>) -> Script {
    let output = |index: u32| format!("{index:010240}");
    let job_of = indices.clone();
    let get = move |_, _| {
        let only = job_of.iter().map(|index| Span { first: *index, count: 1 }).collect();
        let spec = JobSpec { elements: Some(Elements { only, ..Default::default() }), ..Default::default() };
        Ok(Job { spec: Some(spec), ..job(State::Running, job_of.len() as u32) })
    };
    let results = move |_, request: ResultsRequest, out: Out<ResultBatch>| {
        assert_eq!(request.cursor, 0);
        for (rank, index) in indices.iter().rev().enumerate() {
            let complete = rank + 1 == indices.len();
            let tasks = vec![ended(*index, output(*index))];
            say(&out, Ok(ResultBatch { tasks, cursor: rank as u64 + 1, complete }));
        }
    };
    let list_tasks = move |_, request: ListTasksRequest| {
        fetches.fetch_add(1, Ordering::SeqCst);
        let wanted = request.indices.iter().flat_map(|span| span.first..span.first + span.count);
        // A coordinator may answer with less than was asked for.
        let tasks = wanted.take(40).map(|index| ended(index, output(index))).collect();
        Ok(ListTasksReply { tasks, next_page_token: String::new() })
    };
    Script {
        get: Some(Box::new(get)),
        results: Some(Box::new(results)),
        list_tasks: Some(Box::new(list_tasks)),
        ..Script::default()
    }
}

#[tokio::test]
async fn order_is_kept_within_bounded_memory() {
    const LIMIT: usize = 100 << 10;
    let fetches = Arc::new(AtomicUsize::new(0));
    let wanted: Vec<u32> = (0..150).chain([200, 202]).collect();
    let server = Server::start(backwards(wanted.clone(), fetches.clone()));
    let mut in_order = server.client().results_in_order(7, FOLLOW).await.unwrap().hold_at_most(LIMIT);
    let mut seen = Vec::new();
    while let Some(task) = in_order.next().await {
        let task = task.unwrap();
        assert!(in_order.held_bytes() <= LIMIT, "{} bytes held", in_order.held_bytes());
        let output: u32 = std::str::from_utf8(&task.outcome.unwrap().stdout).unwrap().parse().unwrap();
        assert_eq!(output, task.index);
        seen.push(task.index);
    }
    assert_eq!(seen, wanted);
    assert_eq!(in_order.held_bytes(), 0);
    assert!((4..=8).contains(&fetches.load(Ordering::SeqCst)), "fetched in runs, not one by one");
}

#[tokio::test]
async fn order_costs_nothing_where_there_is_room() {
    let fetches = Arc::new(AtomicUsize::new(0));
    let server = Server::start(backwards((0..100).collect(), fetches.clone()));
    let mut in_order = server.client().results_in_order(7, FOLLOW).await.unwrap();
    let mut seen = 0;
    while let Some(task) = in_order.next().await {
        assert_eq!(task.unwrap().index, seen);
        seen += 1;
    }
    assert_eq!((seen, fetches.load(Ordering::SeqCst)), (100, 0));
}

#[tokio::test]
async fn logs_go_on_after_the_last_chunk() {
    let logs = |number, request: taskq_proto::v1::LogsRequest, out: Out<LogChunk>| {
        let chunk =
            |cursor: u64| Ok(LogChunk { cursor, offset: cursor, data: vec![1].into(), ..Default::default() });
        if number == 0 {
            assert!(request.tail_from_now);
            say(&out, chunk(10));
            say(&out, Err(Status::unavailable("restarting")));
        } else {
            assert_eq!((request.cursor, request.tail_from_now, request.follow), (10, false, true));
            say(&out, chunk(11));
        }
    };
    let server = Server::start(Script { logs: Some(Box::new(logs)), ..Script::default() });
    let query = LogsQuery { follow: true, tail_from_now: true, ..LogsQuery::default() };
    let mut logs = server.client().logs(7, query);
    assert_eq!(logs.next().await.unwrap().unwrap().cursor, 10);
    assert_eq!(logs.next().await.unwrap().unwrap().cursor, 11);
    assert!(logs.next().await.is_none());
    assert_eq!(logs.cursor(), 11);
}

#[tokio::test]
async fn output_over_two_connections_has_no_repeat_and_no_silent_gap() {
    let logs = |number, request: taskq_proto::v1::LogsRequest, out: Out<LogChunk>| {
        let chunk = |cursor: u64, offset: u64, text: &'static str| {
            Ok(LogChunk { cursor, offset, data: text.as_bytes().into(), ..Default::default() })
        };
        if number == 0 {
            say(&out, chunk(1, 0, "abc"));
            say(&out, chunk(2, 3, "def"));
            say(&out, Err(Status::unavailable("restarting")));
        } else {
            // A connection that does not know what the first one brought.
            assert_eq!(request.cursor, 2);
            say(&out, chunk(3, 0, "abc"));
            say(&out, chunk(4, 3, "defgh"));
            say(&out, chunk(5, 10, "kl"));
            say(&out, chunk(6, 20, ""));
        }
    };
    let server = Server::start(Script { logs: Some(Box::new(logs)), ..Script::default() });
    let mut logs = server.client().logs(7, LogsQuery { follow: true, ..LogsQuery::default() });
    let mut shown = Vec::new();
    while let Some(chunk) = logs.next().await {
        let chunk = chunk.unwrap();
        shown.push((chunk.missing_bytes, chunk.offset, String::from_utf8(chunk.data.to_vec()).unwrap()));
    }
    let expected = [(0, 0, "abc"), (0, 3, "def"), (0, 6, "gh"), (2, 10, "kl"), (8, 20, "")];
    assert_eq!(shown, expected.map(|(missing, offset, text)| (missing, offset, text.to_owned())));
    assert_eq!(logs.cursor(), 6);
}

#[tokio::test]
async fn watching_repeats_nothing() {
    let watch = |number, _, out: Out<Job>| {
        let at = |state, revision| Ok(Job { revision, ..job(state, 1) });
        if number == 0 {
            say(&out, at(State::Queued, 1));
            say(&out, at(State::Running, 2));
            say(&out, Err(Status::unavailable("restarting")));
        } else {
            say(&out, at(State::Running, 2));
            say(&out, at(State::Succeeded, 3));
        }
    };
    let server = Server::start(Script { watch: Some(Box::new(watch)), ..Script::default() });
    let mut watch = server.client().watch(7);
    let mut states = Vec::new();
    while let Some(job) = watch.next().await {
        states.push(job.unwrap().state());
    }
    assert_eq!(states, [State::Queued, State::Running, State::Succeeded]);
}

#[tokio::test]
async fn lists_fetch_their_pages() {
    let list = |_, request: taskq_proto::v1::ListRequest| {
        assert_eq!(request.page_size, 2);
        let page: u64 = request.page_token.parse().unwrap_or(0);
        let jobs = (0..2).map(|i| Job { id: page * 2 + i, ..Default::default() }).collect();
        // The second page is empty, and not the last.
        let jobs = if page == 1 { Vec::new() } else { jobs };
        let next_page_token = if page < 2 { (page + 1).to_string() } else { String::new() };
        Ok(ListReply { jobs, next_page_token })
    };
    let server = Server::start(Script { list: Some(Box::new(list)), ..Script::default() });
    let mut jobs = server.client().list(Filter::default()).page_size(2);
    let mut ids = Vec::new();
    while let Some(job) = jobs.next().await {
        ids.push(job.unwrap().id);
    }
    assert_eq!(ids, [0, 1, 4, 5]);
}
