//! The pool: Python's promises, kept over a network.

use crate::world::{World, ended_as, failed, value};
use std::sync::{Arc, Mutex};
use taskq_client::model::{LogChunk, Outcome, Stream, outcome};
use taskq_client::{Codec, Echo, Ending, Error, JobId, Kind, Pool};

fn number(argument: &[u8]) -> u64 {
    std::str::from_utf8(argument).expect("text").parse().expect("a number")
}

#[tokio::test]
async fn apply_map_imap_and_starmap() {
    let world = World::doubling();
    let server = world.serve();
    let pool = Pool::new(&server.client()).queue("fast").retries(1).max_parallel(4).max_fails(0);
    assert_eq!(pool.apply::<u64>("double", 4).await.unwrap(), 8);
    let handle = pool.apply_async::<u64>("double", 5).await.unwrap();
    assert_eq!(handle.await.unwrap(), 10);

    let doubled: Vec<u64> = pool.map("double", 0..1_000).await.unwrap();
    assert!(doubled.into_iter().eq((0..1_000).map(|n| 2 * n)));
    assert_eq!((world.jobs(), world.arguments(3).len()), (3, 1_000), "a map is one job");
    assert_eq!((world.spec(3).queue.as_str(), world.spec(3).retry.unwrap().max_attempts), ("fast", 2));

    let spec = world.spec(3);
    assert_eq!((spec.max_parallel, spec.has_max_fails, spec.max_fails), (4, true, 0));

    let mut in_order = pool.imap::<u64>("double", 0..10).await.unwrap();
    for n in 0..10 {
        assert_eq!(in_order.next().await.unwrap().unwrap(), 2 * n);
    }
    assert!(in_order.next().await.is_none());

    let mut unordered = pool.imap_unordered::<u64>("double", 0..10).await.unwrap();
    let mut seen = 0;
    while let Some(element) = unordered.next().await {
        let element = element.unwrap();
        assert_eq!(element.value.unwrap(), 2 * u64::from(element.index));
        seen += 1;
        assert_eq!((element.cursor, unordered.cursor()), (seen, seen));
    }
    assert_eq!(seen, 10);
}

#[tokio::test]
async fn starmap_gives_argument_lists() {
    let world = World::new(|_, argument| {
        let (a, b): (u64, u64) = Codec::Msgpack.decode(argument).unwrap();
        Some(value(Codec::Msgpack.encode(&(a * b)).unwrap()))
    });
    let server = world.serve();
    let pool = Pool::new(&server.client()).codec(Codec::Msgpack);
    assert_eq!(pool.starmap::<u64>("mul", [(2, 3), (0, 5), (7, 0)]).await.unwrap(), [6, 0, 0]);
    assert!(world.arguments(1).iter().any(|argument| argument.contains(&0)), "any bytes are arguments");
}

#[tokio::test]
async fn a_map_of_nothing_is_nothing() {
    let world = World::doubling();
    let server = world.serve();
    let pool = Pool::new(&server.client());
    assert_eq!(pool.map::<u64>("double", Vec::<u64>::new()).await.unwrap(), Vec::<u64>::new());
    let handle = pool.map_async::<u64>("double", Vec::<u64>::new()).await.unwrap();
    assert!(handle.id().is_none() && handle.total() == 0 && handle.cancel().await.unwrap().is_none());
    assert!(handle.results(0).next().await.is_none() && handle.in_order().next().await.is_none());
    assert_eq!(world.jobs(), 0);
}

#[tokio::test]
async fn a_map_fails_with_its_first_error_when_all_have_ended() {
    let world = World::idle();
    let server = world.serve();
    let pool = Pool::new(&server.client());
    let mut handle = pool.map_async::<u64>("f", 0..4_u64).await.unwrap();
    world.end(1, 3, failed("third", ""));
    world.end(1, 0, value("0"));
    world.end(1, 1, failed("first", ""));
    tokio::select! {
        values = &mut handle => panic!("one has not ended: {values:?}"),
        () = world.until(|world| world.jobs() == 1) => {}
    }
    assert_eq!(handle.counts().await.unwrap().failed, 2);
    world.end(1, 2, value("2"));
    let Error::Call(failed) = handle.await.unwrap_err() else { panic!("no call error") };
    assert_eq!((failed.index, failed.message.as_str(), failed.function.as_str()), (1, "first", "f"));
}

#[tokio::test]
async fn in_order_an_error_is_told_in_its_place() {
    let world = World::new(|_, argument| {
        Some(if number(argument) % 3 == 1 { failed("odd", "") } else { value(argument.to_vec()) })
    });
    let server = world.serve();
    let mut values = Pool::new(&server.client()).imap::<u64>("f", 0..7_u64).await.unwrap();
    let mut seen = Vec::new();
    while let Some(value) = values.next().await {
        seen.push(value.map_err(|error| error.kind()));
    }
    let failed = Err(Kind::Failed);
    assert_eq!(seen, [Ok(0), failed, Ok(2), Ok(3), failed, Ok(5), Ok(6)]);
}

#[tokio::test]
async fn results_are_told_exactly_once_across_processes_and_lost_connections() {
    let world = World::idle();
    world.break_results_after(&[4, 2, 5, 1]);
    let server = world.serve();
    let count = 40_u64;
    let handle = Pool::new(&server.client()).map_async::<u64>("f", 0..count).await.unwrap();
    let id = handle.id().unwrap();
    assert_eq!(handle.total(), 40);
    // In another order than that of the arguments.
    for rank in 0..count {
        let index = (rank * 7 + 3) % count;
        world.end(id.0, index as u32, value((index * index).to_string()));
    }
    let mut seen = Vec::new();
    let mut cursor = 0;
    // Each process takes a few, and is killed while it waits for the next.
    for lifetime in [1, 6, 0, 11, 40] {
        let client = server.client();
        let mut results = client.pick_up_map::<u64>(id).await.unwrap().results(cursor);
        for _ in 0..lifetime {
            let Some(element) = results.next().await else { break };
            let element = element.unwrap();
            assert_eq!(element.value.unwrap(), u64::from(element.index).pow(2));
            seen.push(element.index);
            cursor = element.cursor;
        }
    }
    let expected: Vec<u32> = (0..40).map(|rank| (rank * 7 + 3) % 40).collect();
    assert_eq!(seen, expected);
    let all: Vec<u64> = server.client().pick_up_map(id).await.unwrap().await.unwrap();
    assert!(all.into_iter().eq((0..count).map(|n| n * n)));
}

#[tokio::test]
async fn large_values_of_a_map_are_fetched_and_large_items_refused() {
    let world = World::idle();
    let server = world.serve();
    let pool = Pool::new(&server.client());
    let handle = pool.map_async::<String>("f", [1, 2]).await.unwrap();
    let text = "x".repeat(300_000);
    let blob = world.store(serde_json::to_vec(&text).unwrap());
    world.end(1, 1, Outcome { value_blob: Some(blob), ..value("") });
    world.end(1, 0, value("\"short\""));
    assert_eq!(handle.await.unwrap(), ["short".to_owned(), text]);

    let error = pool.map::<u64>("f", ["short".to_owned(), "x".repeat(1 << 20)]).await.unwrap_err();
    assert!(
        error.kind() == Kind::Usage && error.to_string().contains("argument 2 has 1048578 bytes"),
        "{error}"
    );
    assert_eq!(world.jobs(), 1);

    // Many items are one upload.
    let many = pool.map_async::<u64>("f", 0..100_000_u64).await.unwrap();
    assert_eq!((many.total(), world.arguments(2)[99_999].as_ref()), (100_000, b"99999".as_slice()));
}

#[tokio::test]
async fn close_and_join() {
    let world = World::idle();
    let server = world.serve();
    let pool = Pool::new(&server.client());
    let error = pool.join().await.unwrap_err();
    assert!(error.kind() == Kind::Usage && error.to_string().contains("still open"), "{error}");
    let one = pool.apply_async::<u64>("f", 1).await.unwrap();
    pool.map_async::<u64>("f", [1, 2]).await.unwrap();
    pool.close();
    for error in [pool.apply::<u64>("f", 1).await.unwrap_err(), pool.map::<u64>("f", [1]).await.unwrap_err()]
    {
        assert!(error.kind() == Kind::Usage && error.to_string().contains("closed"), "{error}");
    }
    assert_eq!(pool.outstanding(), 2);
    let joined = async { pool.join().await.unwrap() };
    tokio::pin!(joined);
    world.end(1, 0, value("1"));
    world.end(2, 0, value("1"));
    tokio::select! {
        () = &mut joined => panic!("one has not ended"),
        () = world.until(|world| world.told() == [1]) => {}
    }
    world.end(2, 1, failed("no", ""));
    joined.await;
    assert_eq!((pool.outstanding(), world.jobs()), (0, 2));
    assert_eq!(one.await.unwrap(), 1);
}

#[tokio::test]
async fn terminate_cancels_what_has_not_ended() {
    let world = World::idle();
    let server = world.serve();
    let pool = Pool::new(&server.client());
    let mut handles = Vec::new();
    for n in 0..3 {
        handles.push(pool.apply_async::<u64>("f", n).await.unwrap());
    }
    let map = pool.map_async::<u64>("f", [1, 2]).await.unwrap();
    world.end(2, 0, value("7"));
    assert_eq!(handles.remove(1).await.unwrap(), 7);
    pool.terminate().await.unwrap();
    let mut cancelled = world.cancelled();
    cancelled.sort_unstable();
    assert_eq!(cancelled, [1, 3, 4], "and not what had ended");
    pool.join().await.unwrap();
    for handle in handles {
        let Error::Call(call) = handle.await.unwrap_err() else { panic!("no call error") };
        assert_eq!(call.ended, Ending::Cancelled);
    }
    assert_eq!(map.await.unwrap_err().kind(), Kind::Failed);
    let error = pool.apply::<u64>("f", 1).await.unwrap_err();
    assert!(error.to_string().contains("terminated"), "{error}");
    assert_eq!(world.jobs(), 4);
}

#[tokio::test]
async fn joining_asks_again_after_a_long_absence() {
    let world = World::idle();
    let server = world.serve();
    let options =
        taskq_client::Options { patience: std::time::Duration::from_millis(200), ..Default::default() };
    let client = taskq_client::Client::lazy(&server.access(), options).unwrap();
    let pool = Pool::new(&client);
    pool.apply_async::<u64>("f", 1).await.unwrap();
    pool.close();
    let addr = server.kill();
    assert_eq!(pool.join().await.unwrap_err().kind(), Kind::Unreachable);
    world.end(1, 0, ended_as(outcome::Kind::Cancelled));
    let _again = crate::fake::Server::start_at(addr, world.script());
    pool.join().await.unwrap();
    assert_eq!(pool.outstanding(), 0);
}

#[tokio::test]
async fn joining_waits_for_all_output() {
    let world = World::idle();
    let server = world.serve();
    let seen = Arc::new(Mutex::new(String::new()));
    let lines = seen.clone();
    let echo = Echo::to(move |_, bytes| {
        lines.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
        Ok(())
    });
    let pool = Pool::new(&server.client()).echo_to(echo);
    for n in 0..100 {
        let handle = pool.apply_async::<u64>("task", n).await.unwrap();
        assert_eq!(handle.id(), JobId(n + 1));
    }
    pool.close();
    for job in (1..=100).rev() {
        let data = format!("Processing {}\n", job - 1);
        let chunk = LogChunk {
            attempt: 1,
            stream: Stream::Stdout.into(),
            data: data.into(),
            cursor: 1,
            ..Default::default()
        };
        world.say(job, chunk);
        world.end(job, 0, value("0"));
    }
    pool.join().await.unwrap();
    let seen = seen.lock().unwrap();
    let mut lines: Vec<&str> = seen.lines().collect();
    lines.sort_unstable();
    let mut expected: Vec<String> = (0..100).map(|n| format!("Processing {n}")).collect();
    expected.sort_unstable();
    assert_eq!(lines, expected);
}
