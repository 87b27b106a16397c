//! Calls as the wire has them, without a worker library: who is given them, what becomes of values, large and small, and
//! the stream that tells the ends of many jobs.

use std::collections::HashMap;
use std::time::Duration;
use taskq_proto::v1 as pb;
use taskq_proto::v1::function::Runtime;
use taskq_proto::v1::outcome::Kind;
use taskq_proto::v1::worker_message::Body as Said;
use taskq_tests::{Access, Api, Cluster, FakeWorker, Setup, spec, wait};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

fn coordinator() -> (Cluster, Api, Access) {
    let cluster = Setup::new().tolerate("session").start();
    let (api, access) = (cluster.api(), cluster.access());
    (cluster, api, access)
}

fn hello(name: &str, functions: &[(&str, Runtime)]) -> pb::Hello {
    let functions = functions
        .iter()
        .map(|(name, runtime)| pb::Function { name: (*name).to_owned(), runtime: *runtime as i32 })
        .collect();
    pb::Hello {
        incarnation: rand::random_range(1..u64::MAX),
        name: name.to_owned(),
        protocol: 1,
        slots: 2,
        async_slots: 10,
        window: 20,
        functions,
        ..Default::default()
    }
}

fn completed(value: &str) -> pb::Outcome {
    pb::Outcome { kind: Kind::Completed as i32, value: value.to_owned().into(), ..Default::default() }
}

fn upload(api: &Api, bytes: &[u8]) -> pb::Blob {
    let chunks: Vec<pb::UploadChunk> =
        bytes.chunks(256 << 10).map(|data| pb::UploadChunk { data: data.to_vec().into() }).collect();
    api.call(|mut jobs| async move { jobs.upload(tokio_stream::iter(chunks)).await }).expect("an upload")
}

#[test]
fn a_call_goes_to_a_worker_that_serves_it_and_until_then_says_so() {
    let (mut cluster, api, access) = coordinator();
    cluster.worker(1);
    let id = api.submit_one(spec::call("resize", "{\"width\": 3}"));
    let request = pb::ExplainRequest { job_id: id, index: None };
    let why = api.call(|mut jobs| async move { jobs.explain(request).await }).expect("reasons");
    assert_eq!(why.reasons[0].code, "no_function", "{why:?}");
    assert!(why.reasons[0].text.contains("resize") && why.reasons[0].fix.contains("taskq-worker"), "{why:?}");
    assert_eq!(
        api.get(id).expect("the job").spec.expect("a spec").name,
        "resize",
        "it is named after its function"
    );
    let said = cluster.taskq(&["explain", &id.to_string()]).out();
    assert!(said.contains("no connected worker serves the function resize"), "{said}");

    api.block_on(async {
        let functions = [("resize", Runtime::Threads), ("fetch", Runtime::Async)];
        let (mut worker, _) = FakeWorker::greet(&access, hello("calls", &functions)).await.expect("join");
        let keys = worker.assigned().await.expect("the call");
        assert_eq!((keys.len(), keys[0].job_id), (1, id));
        let progress = pb::Progress { index: 0, fraction: 0.5, note: "half".to_owned() };
        let event = Some(pb::report::Event::Progress(progress));
        let reports = vec![pb::Report { key: Some(keys[0]), event }];
        assert!(worker.say(Said::Reports(pb::Reports { reports })).await);
        let halfway = |job: &pb::Job| job.progress.as_ref().is_some_and(|at| at.note == "half");
        wait_for(&api, id, halfway).await;
        assert!(worker.report(&keys, &completed("7")).await);
        worker.settled().await.expect("confirmed");
    });
    assert_eq!(api.ended(id).state, pb::State::Succeeded as i32);
    let task = api.task(id, 0);
    assert_eq!((task.outcome.expect("ended").value.as_ref(), task.progress), (&b"7"[..], None));
    let workers = api.workers().expect("workers");
    let calls = workers.iter().find(|worker| worker.name == "calls");
    let calls = calls.expect("it is known for a lease");
    let names: Vec<(&str, i32)> = calls.functions.iter().map(|f| (f.name.as_str(), f.runtime)).collect();
    assert_eq!(names, [("fetch", Runtime::Async as i32), ("resize", Runtime::Threads as i32)]);
    assert_eq!((calls.async_slots, calls.address.as_str()), (10, "127.0.0.1"));
}

async fn submit(api: &Api, job: pb::JobSpec) -> u64 {
    let reply = api.jobs().submit(spec::request(vec![job])).await.expect("accepted");
    reply.into_inner().job_ids[0]
}

async fn workers(api: &Api) -> Vec<pb::Worker> {
    let reply = api.admin().list_workers(pb::ListWorkersRequest::default()).await.expect("workers");
    reply.into_inner().workers
}

async fn wait_for(api: &Api, id: u64, holds: impl Fn(&pb::Job) -> bool) {
    let mut jobs = api.jobs();
    let look = async {
        let mut stream = jobs.watch(pb::WatchRequest { job_id: id }).await.expect("a watch").into_inner();
        while let Some(job) = stream.message().await.expect("the job") {
            if holds(&job) {
                return;
            }
        }
        panic!("job {id} ended before it was so");
    };
    tokio::time::timeout(Duration::from_secs(20), look).await.expect("seen within 20 s");
}

#[test]
fn a_slot_that_is_busy_is_not_used_until_it_is_free() {
    let (_cluster, api, access) = coordinator();
    api.block_on(async {
        let (mut worker, _) =
            FakeWorker::greet(&access, hello("w", &[("work", Runtime::Threads)])).await.expect("join");
        let id = submit(&api, spec::calls("work", &["1", "2", "3"])).await;
        let keys = worker.assigned().await.expect("two calls");
        assert_eq!(keys.len(), 2);
        // Its task is over, and its function goes on.
        let failed = pb::Outcome { kind: Kind::TimedOut as i32, ..Default::default() };
        let event = Some(pb::report::Event::Outcome(failed));
        let reports = pb::Reports { reports: vec![pb::Report { key: Some(keys[0]), event }] };
        assert!(worker.say_busy(Said::Reports(reports), 1).await);
        let committed = worker.committed().await.expect("confirmed, and nothing is assigned");
        assert_eq!(committed, 2);
        let busy = workers(&api).await;
        assert_eq!((busy[0].busy, busy[0].running), (1, 1));
        assert!(worker.say_busy(Said::Heartbeat(pb::Heartbeat::default()), 0).await);
        let next = worker.assigned().await.expect("the third call");
        assert_eq!((next[0].job_id, next[0].index), (id, 2));
    });
}

#[test]
fn a_large_value_lies_in_a_blob_that_must_be_there() {
    let (_cluster, api, access) = coordinator();
    let large: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let blob = upload(&api, &large);
    let outcome = |blob: &pb::Blob| pb::Outcome {
        kind: Kind::Completed as i32,
        value_blob: Some(blob.clone()),
        ..Default::default()
    };
    let first = api.submit_one(spec::call("make", "1"));
    let functions = hello("w", &[("make", Runtime::Threads)]);
    api.block_on(async {
        let (mut worker, _) = FakeWorker::greet(&access, functions.clone()).await.expect("join");
        let keys = worker.assigned().await.expect("the call");
        // A blob that is not here ends the session, and the call goes on.
        let unknown = pb::Blob { sha256: vec![9; 32].into(), size_bytes: 40_000 };
        assert!(worker.report(&keys, &outcome(&unknown)).await);
        let end = loop {
            match worker.hear().await {
                Ok(Some(_)) => {}
                other => break other,
            }
        };
        let status = end.expect_err("the session is closed with a reason");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("upload it in this session"), "{status}");
        // The same process comes back, holding it, and has uploaded the value.
        let back = pb::Hello { held: keys.clone(), ..functions };
        let (mut worker, welcome) = FakeWorker::greet(&access, back).await.expect("join again");
        assert_eq!(welcome.abandon, []);
        assert!(worker.report(&keys, &outcome(&blob)).await);
        worker.settled().await.expect("confirmed");
    });
    let task = api.task(first, 0);
    let stored = task.outcome.expect("ended").value_blob.expect("a blob");
    assert_eq!(stored, blob);
    assert_eq!(api.download(&stored).expect("the value"), large);
    let missing = pb::Blob { sha256: vec![1; 32].into(), size_bytes: 1 };
    assert_eq!(api.download(&missing).expect_err("unknown").code(), Code::NotFound);
    assert_eq!(api.download(&pb::Blob::default()).expect_err("no digest").code(), Code::InvalidArgument);
    assert_eq!(api.download(&upload(&api, b"")).expect("an empty blob"), b"");
}

#[test]
fn a_fatal_failure_is_not_tried_again_and_another_is() {
    let (_cluster, api, access) = coordinator();
    let mut job = spec::calls("f", &["1", "2"]);
    job.retry = Some(pb::Retry { max_attempts: 3, backoff_ms: 1, ..Default::default() });
    let id = api.submit_one(job);
    let failed = |fatal: bool| {
        let message = "as expected".to_owned();
        let cause = pb::failure::Cause::Error as i32;
        let failure = Some(pb::Failure { cause, message, fatal, ..Default::default() });
        pb::Outcome { kind: Kind::Failed as i32, failure, ..Default::default() }
    };
    api.block_on(async {
        let (mut worker, _) =
            FakeWorker::greet(&access, hello("w", &[("f", Runtime::Process)])).await.expect("join");
        let mut open = 2;
        while open > 0 {
            for key in worker.assigned().await.expect("an attempt") {
                open -= i32::from(key.index == 0 || key.attempt == 3);
                assert!(worker.report(&[key], &failed(key.index == 0)).await);
            }
        }
        worker.settled().await.expect("confirmed");
    });
    assert_eq!(api.ended(id).state, pb::State::Failed as i32);
    let attempts = [0, 1].map(|index| api.task(id, index).attempt);
    assert_eq!(attempts, [1, 3]);
    let outcome = api.task(id, 1).outcome.expect("ended");
    assert_eq!(outcome.failure.expect("why").message, "as expected");
}

#[test]
fn ends_of_many_jobs_come_over_one_stream_each_once() {
    let (cluster, api, access) = coordinator();
    let early = api.submit_one(spec::call("f", "0"));
    let array = api.submit_one(spec::calls("f", &["1", "2"]));
    let removed = {
        let id = api.submit_one(spec::command(&["true"]));
        cluster.taskq(&["cancel", &id.to_string()]).ok();
        cluster.taskq(&["rm", &id.to_string()]).ok();
        id
    };
    api.block_on(async {
        let (mut worker, _) =
            FakeWorker::greet(&access, hello("w", &[("f", Runtime::Async)])).await.expect("join");
        let (name, requests) = mpsc::channel(8);
        let mut ends = api.jobs().ends(ReceiverStream::new(requests)).await.expect("a stream").into_inner();
        let job_ids = vec![early, array, removed, 999_999, early];
        name.send(pb::EndsRequest { job_ids }).await.expect("sent");
        let mut told = HashMap::new();
        let mut hear = async |told: &mut HashMap<u64, pb::Ended>, many: usize| {
            while told.len() < many {
                let reply = ends.message().await.expect("a reply").expect("not the end");
                for end in reply.ended {
                    assert!(told.insert(end.job_id, end).is_none(), "told twice");
                }
            }
        };
        // What never was, or is gone, is told at once.
        hear(&mut told, 2).await;
        assert_eq!(told[&removed].error_code, Code::NotFound as i32);
        assert!(told[&removed].error_message.contains("EXPIRED"), "{:?}", told[&removed]);
        assert_eq!(told[&999_999].error_code, Code::NotFound as i32);

        let late = submit(&api, spec::call("f", "3")).await;
        name.send(pb::EndsRequest { job_ids: vec![late, early] }).await.expect("sent");
        let mut open = 4;
        while open > 0 {
            let keys = worker.assigned().await.expect("calls");
            open -= keys.len();
            assert!(worker.report(&keys, &completed("9")).await);
        }
        hear(&mut told, 5).await;
        for id in [early, late] {
            let task = told[&id].task.as_ref().expect("a job of one task comes with it");
            assert_eq!(task.outcome.as_ref().expect("ended").value, "9");
        }
        assert_eq!((told[&array].task.as_ref(), told[&array].counts.expect("counts").succeeded), (None, 2));
        // One that has ended before it is named is told as well; and the stream ends after its client's side.
        name.send(pb::EndsRequest { job_ids: vec![array] }).await.expect("sent");
        told.remove(&array);
        hear(&mut told, 5).await;
        drop(name);
        assert!(ends.message().await.expect("a good end").is_none());
    });
}

#[test]
fn values_survive_the_coordinator_and_are_left_out_where_nobody_asked() {
    let (mut cluster, api, access) = coordinator();
    let id = api.submit_one(spec::calls("f", &["1", "2"]));
    api.block_on(async {
        let (mut worker, _) =
            FakeWorker::greet(&access, hello("w", &[("f", Runtime::Threads)])).await.expect("join");
        let keys = worker.assigned().await.expect("both calls");
        assert!(worker.report(&keys, &completed("{\"a\": 1}")).await);
        worker.settled().await.expect("confirmed");
    });
    cluster.kill_server();
    cluster.start_server();
    let api = cluster.api();
    let values = |with_values: bool| {
        let mut jobs = api.jobs();
        api.block_on(async move {
            let request = pb::ResultsRequest { job_id: id, with_values, ..Default::default() };
            let mut stream = jobs.results(request).await.expect("results").into_inner();
            let mut values = Vec::new();
            while let Some(batch) = stream.message().await.expect("a batch") {
                values.extend(batch.tasks.into_iter().filter_map(|task| task.outcome).map(|end| end.value));
            }
            values
        })
    };
    assert_eq!(values(true), ["{\"a\": 1}", "{\"a\": 1}"]);
    assert_eq!(values(false), ["", ""]);
    wait::holds("the job has ended", || api.ended(id).state == pb::State::Succeeded as i32);
}

#[test]
fn a_value_that_should_be_json_and_is_not_is_printed_as_it_is_and_no_success() {
    let (cluster, api, access) = coordinator();
    let id = api.submit_one(spec::call("f", "null"));
    api.block_on(async {
        let functions = [("f", Runtime::Threads)];
        let (mut worker, _) = FakeWorker::greet(&access, hello("careless", &functions)).await.expect("join");
        let keys = worker.assigned().await.expect("the call");
        assert!(worker.report(&keys, &completed("{a: 1}")).await);
        worker.settled().await.expect("confirmed");
    });
    let said = format!("the value of task {id}.0 should be JSON and is not");
    let result = cluster.taskq(&["result", &id.to_string()]).code(1).says(&[&said]);
    assert_eq!(result.stdout, b"{a: 1}\n");
    let row = &cluster.taskq(&["result", &id.to_string(), "--json"]).code(1).json()["results"][0];
    assert_eq!((&row["value"], &row["state"]), (&"{a: 1}".into(), &"succeeded".into()));
}
