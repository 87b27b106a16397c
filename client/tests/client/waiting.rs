//! Many jobs that are waited for over one stream: each is told once, whatever happens to the connection.

use crate::world::{World, ended_as, failed, value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use taskq_client::model::{Outcome, outcome};
use taskq_client::{Client, Error, JobHandle, JobId, Kind, Options, Until, as_completed, wait};

async fn submit(client: &Client, count: u64) -> Vec<JobHandle<u64>> {
    let mut handles = Vec::new();
    for n in 0..count {
        handles.push(client.call("double", n).submit().await.expect("is taken"));
    }
    handles
}

#[tokio::test]
async fn handles_share_one_stream_that_is_named_many_jobs_at_a_time() {
    let world = World::idle();
    let server = world.serve();
    let client = server.client();
    let handles = submit(&client, 200).await;
    let mut results = as_completed(handles);
    world.until(|world| world.named().iter().flatten().count() == 200).await;
    assert!(world.named().len() < 20, "{} messages", world.named().len());
    for job in (1..=200).rev() {
        world.end(job, 0, value((job * 10).to_string()));
    }
    let mut seen = BTreeMap::new();
    while let Some((handle, result)) = results.next().await {
        assert!(seen.insert(handle.id().0, result.unwrap()).is_none(), "once");
    }
    assert!(seen.into_iter().eq((1..=200).map(|job| (job, job * 10))));
    assert_eq!(results.left(), 0);
    let mut named: Vec<u64> = world.named().concat();
    named.sort_unstable();
    assert!(named.into_iter().eq(1..=200), "each was named once");
}

#[tokio::test]
async fn what_was_not_told_is_named_again() {
    let world = World::doubling();
    world.break_ends_after(&[7, 1, 40]);
    let server = world.serve();
    let handles = submit(&server.client(), 100).await;
    let mut results = as_completed(handles);
    let mut seen = Vec::new();
    while let Some((handle, result)) = results.next().await {
        assert_eq!(result.unwrap(), 2 * (handle.id().0 - 1));
        seen.push(handle.id().0);
    }
    seen.sort_unstable();
    assert!(seen.iter().copied().eq(1..=100));
    let told = world.told();
    assert_eq!(told.len(), 100, "nothing that was told is asked for again");
    let later: Vec<u64> = world.named().concat().into_iter().skip(100).collect();
    assert!(told[..7].iter().all(|job| !later.contains(job)));
}

#[tokio::test]
async fn a_coordinator_that_dies_is_sat_out() {
    let world = World::idle();
    let server = world.serve();
    let client = server.client();
    let handle = submit(&client, 1).await.remove(0);
    let waiting = tokio::spawn(handle);
    world.until(|world| world.named() == [vec![1]]).await;
    let addr = server.kill();
    world.end(1, 0, value("9"));
    let _again = crate::fake::Server::start_at(addr, world.script());
    assert_eq!(waiting.await.unwrap().unwrap(), 9);
}

#[tokio::test]
async fn patience_ends_for_all_who_wait_and_begins_anew_for_the_next() {
    let world = World::idle();
    let server = world.serve();
    let options = Options { patience: Duration::from_millis(300), ..Options::default() };
    let client = Client::lazy(&server.access(), options).unwrap();
    let mut handles = submit(&client, 3).await;
    let mut last = handles.pop().unwrap();
    let addr = server.kill();
    for handle in handles {
        assert_eq!(handle.await.unwrap_err().kind(), Kind::Unreachable);
    }
    assert_eq!((&mut last).await.unwrap_err().kind(), Kind::Unreachable);
    world.end(3, 0, value("1"));
    let _again = crate::fake::Server::start_at(addr, world.script());
    assert_eq!(last.await.unwrap(), 1);
}

#[tokio::test]
async fn a_handle_that_is_dropped_waits_no_longer() {
    let world = World::idle();
    world.break_ends_after(&[1]);
    let server = world.serve();
    let client = server.client();
    let mut handles = submit(&client, 3).await;
    let dropped = handles.pop().unwrap();
    let abandoned = tokio::spawn(dropped);
    world.until(|world| world.named() == [vec![3]]).await;
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    let second = tokio::spawn(handles.pop().unwrap());
    let first = tokio::spawn(handles.pop().unwrap());
    world.until(|world| world.named().concat().len() == 3).await;
    // One is told, and the stream breaks: of the others only one is still waited for.
    world.end(1, 0, value("1"));
    assert_eq!(first.await.unwrap().unwrap(), 1);
    world.until(|world| world.named().concat().len() > 3).await;
    assert_eq!(world.named().last().unwrap(), &[2]);
    world.end(2, 0, value("2"));
    assert_eq!(second.await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn two_handles_of_one_job_are_both_told() {
    let world = World::idle();
    let server = world.serve();
    let handle = submit(&server.client(), 1).await.remove(0);
    let other = tokio::spawn(handle.clone());
    let one = tokio::spawn(handle);
    world.until(|world| world.named() == [vec![1]]).await;
    world.end(1, 0, value("4"));
    assert_eq!((one.await.unwrap().unwrap(), other.await.unwrap().unwrap()), (4, 4));
}

#[tokio::test]
async fn the_background_ends_with_the_client() {
    let world = World::doubling();
    let server = world.serve();
    let client = server.client();
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert_eq!(client.call::<u64>("double", 1).await.unwrap(), 2);
    drop(client);
    let metrics = tokio::runtime::Handle::current().metrics();
    while metrics.num_alive_tasks() > before {
        tokio::task::yield_now().await;
    }
}

#[test]
fn another_runtime_is_no_trouble_once_the_first_has_ended() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = World::idle();
    let server = world.serve();
    let first = runtime();
    let client = first.block_on(async { server.client() });
    let mut handle = first.block_on(submit(&client, 1)).remove(0);
    // Waits in the first runtime, with its background task.
    first.block_on(async {
        tokio::select! {
            _ = &mut handle => panic!("it has not ended"),
            () = world.until(|world| world.named() == [vec![1]]) => {}
        }
    });
    drop(first);
    world.end(1, 0, value("4"));
    let second = runtime();
    let error = second.block_on(&mut handle).unwrap_err();
    assert!(error.kind() == Kind::Usage && error.to_string().contains("runtime"), "{error}");
}

#[tokio::test]
async fn waiting_for_the_first_the_first_failure_or_all() {
    let world = World::idle();
    let server = world.serve();
    let client = server.client();
    let handles = submit(&client, 4).await;
    let ids = |handles: &[JobHandle<u64>]| handles.iter().map(|handle| handle.id().0).collect::<Vec<_>>();

    let moment = Some(Duration::from_millis(50));
    let waited = wait(handles, Until::AllCompleted, moment).await;
    assert_eq!((ids(&waited.done), ids(&waited.not_done)), (vec![], vec![1, 2, 3, 4]));

    world.end(3, 0, value("6"));
    let waited = wait(waited.not_done, Until::FirstCompleted, None).await;
    assert_eq!((ids(&waited.done), ids(&waited.not_done)), (vec![3], vec![1, 2, 4]));
    for handle in waited.done {
        assert_eq!(handle.await.unwrap(), 6);
    }

    let waiting = tokio::spawn(wait(waited.not_done, Until::FirstException, None));
    world.end(1, 0, value("2"));
    // The end of another, told after that one's over the same stream, has come.
    let other = client.call::<u64>("double", 5).submit().await.unwrap();
    world.end(5, 0, value("10"));
    assert_eq!(other.await.unwrap(), 10);
    assert!(!waiting.is_finished(), "success is no reason to stop");
    world.end(4, 0, failed("no", ""));
    let waited = waiting.await.unwrap();
    assert_eq!((ids(&waited.done), ids(&waited.not_done)), (vec![1, 4], vec![2]));

    let rest = waited.not_done.into_iter().chain(waited.done).collect::<Vec<_>>();
    world.end(2, 0, ended_as(outcome::Kind::Cancelled));
    let waited = wait(rest, Until::AllCompleted, Some(Duration::from_secs(60))).await;
    assert_eq!((waited.done.len(), waited.not_done.len()), (3, 0));
    let none = wait(Vec::<JobHandle<u64>>::new(), Until::FirstCompleted, None).await;
    assert!(none.done.is_empty() && none.not_done.is_empty());
}

#[tokio::test]
async fn a_job_that_is_gone_counts_as_done_and_says_so() {
    let world = World::idle();
    let server = world.serve();
    let client = server.client();
    let unknown: JobHandle<u64> = client.attach(77).typed();
    let known = submit(&client, 1).await.remove(0);
    let mut waited = wait([known, unknown], Until::FirstException, None).await;
    assert_eq!((waited.done.len(), waited.not_done.len()), (1, 1));
    let error = waited.done.remove(0).await.unwrap_err();
    assert!(error.kind() == Kind::NotFound && error.to_string().contains("77"), "{error}");
}

#[tokio::test]
async fn many_calls_come_back_with_their_positions() {
    let world = World::doubling();
    world.break_ends_after(&[500]);
    let server = world.serve();
    let count = 3_000;
    let mut answers = server.client().call_many::<u64, _>("double", 0..count).queue("q").start();
    let mut seen = BTreeMap::new();
    while let Some(answer) = answers.next().await {
        let answer = answer.unwrap();
        assert_eq!(world.arguments(answer.job.0), [answer.position.to_string()]);
        assert!(seen.insert(answer.position as u64, answer.value.unwrap()).is_none(), "once");
    }
    assert!(seen.into_iter().eq((0..count).map(|n| (n, 2 * n))));
    assert_eq!((world.jobs(), world.spec(1).queue.as_str()), (count as usize, "q"));
}

#[tokio::test]
async fn no_more_than_so_many_calls_are_outstanding() {
    let world = World::idle();
    let server = world.serve();
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let arguments = (0..1_000_u64).inspect(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let mut answers = server.client().call_many::<u64, _>("double", arguments).outstanding(5).start();
    let mut open: std::collections::VecDeque<u64> = std::collections::VecDeque::new();
    for round in 0..20 {
        // Every five are submitted and nothing more; then one ends.
        let submitted = async {
            let due = 5 + round;
            world.until(|world| world.jobs() == due).await;
        };
        tokio::select! {
            answer = answers.next() => panic!("nothing has ended: {answer:?}"),
            () = submitted => {}
        }
        assert!(taken.load(Ordering::SeqCst) <= 5 + round, "the source is not run ahead of");
        open.extend(if round == 0 { 1..=5 } else { 5 + round as u64..=5 + round as u64 });
        let job = open.pop_front().unwrap();
        world.end(job, 0, value("1"));
        assert_eq!(answers.next().await.unwrap().unwrap().job, JobId(job));
    }
    assert_eq!(world.jobs(), 24);
}

#[tokio::test]
async fn failures_are_answers_and_a_bad_argument_is_the_end() {
    let world = World::new(|_, argument| {
        Some(if argument == b"1" { failed("odd", "") } else { Outcome { ..value(argument.to_vec()) } })
    });
    let server = world.serve();
    let keys = |n: u64| std::collections::BTreeMap::from([((n, n), n)]);
    #[derive(serde::Serialize)]
    #[serde(untagged)]
    enum Argument {
        Good(u64),
        Bad(std::collections::BTreeMap<(u64, u64), u64>),
    }
    let arguments = [Argument::Good(0), Argument::Good(1), Argument::Bad(keys(1)), Argument::Good(3)];
    let mut answers = server.client().call_many::<u64, _>("f", arguments).start();
    let mut seen = Vec::new();
    let error = loop {
        match answers.next().await.unwrap() {
            Ok(answer) => seen.push((answer.position, answer.value.map_err(|failed| failed.message))),
            Err(error) => break error,
        }
    };
    seen.sort();
    assert_eq!(seen, [(0, Ok(0)), (1, Err("odd".to_owned()))], "what was called before is answered");
    assert!(error.kind() == Kind::Usage && error.to_string().contains("argument 2: "), "{error}");
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn many_large_arguments_and_values_are_blobs() {
    let world = World::idle();
    let server = world.serve();
    let texts: Vec<String> = (0..3).map(|n| n.to_string().repeat(100_000)).collect();
    let mut answers = server.client().call_many::<String, _>("f", texts.clone()).start();
    for job in 1..=3 {
        tokio::select! {
            answer = answers.next() => panic!("nothing has ended: {answer:?}"),
            () = world.until(|world| world.jobs() == 3) => {}
        }
        let argument = world.arguments(job)[0].clone();
        let blob = world.store(argument);
        world.end(job, 0, Outcome { value_blob: Some(blob), ..value("") });
        let answer = answers.next().await.unwrap().unwrap();
        assert_eq!(answer.value.unwrap(), texts[answer.position]);
    }
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn a_map_has_no_single_value() {
    let world = World::doubling();
    let server = world.serve();
    let client = server.client();
    let pool = taskq_client::Pool::new(&client);
    let id = pool.map_async::<u64>("double", [1, 2]).await.unwrap().id().unwrap();
    let Error::Usage(text) = client.attach(id).typed::<u64>().await.unwrap_err() else {
        panic!("no usage error")
    };
    assert!(text.contains("2 tasks"), "{text}");
    assert!(client.pick_up::<u64>(id).await.unwrap_err().to_string().contains("as a map"));
}
