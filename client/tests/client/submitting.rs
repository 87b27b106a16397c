//! Submits are safe to repeat, and what is large travels apart.

use crate::fake::{Out, Script, Server};
use prost::Message;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use taskq_client::model::{Blob, JobSpec, Table, source};
use taskq_client::{Elements, JobBuilder, JobId, Kind};
use taskq_proto::v1::{SubmitError, SubmitReply, SubmitRequest, SubmitStreamReply, submit_stream_reply};
use tonic::{Code, Status, Streaming};

type Seen<T> = Arc<Mutex<Vec<T>>>;

fn echo() -> JobBuilder {
    JobBuilder::command(["echo", "hi"])
}

#[tokio::test]
async fn a_submit_is_repeated_with_its_own_id() {
    let seen: Seen<SubmitRequest> = Seen::default();
    let log = seen.clone();
    let submit = move |number, request| {
        log.lock().unwrap().push(request);
        if number < 2 {
            Err(Status::unavailable("starting"))
        } else {
            Ok(SubmitReply { job_ids: vec![40], repeated_request: false })
        }
    };
    let server = Server::start(Script { submit: Some(Box::new(submit)), ..Script::default() });
    let client = server.client();
    assert_eq!(client.submit(echo()).await.unwrap().id(), JobId(40));
    client.submit(echo()).await.unwrap();
    let seen = seen.lock().unwrap();
    let ids: Vec<_> = seen.iter().map(|request| request.request_id.clone()).collect();
    assert_eq!((ids.len(), ids[0].len()), (4, 16));
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "one submit, one id");
    assert_ne!(ids[2], ids[3], "another submit, another id");
    assert_eq!(seen[0], seen[2]);
}

#[tokio::test]
async fn refusals_are_not_repeated() {
    let calls = Arc::new(Mutex::new(0));
    let count = calls.clone();
    let submit = move |_, _| {
        *count.lock().unwrap() += 1;
        Err(Status::resource_exhausted("the disk is full"))
    };
    let server = Server::start(Script { submit: Some(Box::new(submit)), ..Script::default() });
    assert_eq!(server.client().submit(echo()).await.unwrap_err().kind(), Kind::Busy);
    assert_eq!(*calls.lock().unwrap(), 1);
}

#[tokio::test]
async fn large_values_are_uploaded_first() {
    let uploads: Seen<Vec<u8>> = Seen::default();
    let log = uploads.clone();
    let upload = move |number, bytes: Vec<u8>| {
        if number == 0 {
            return Err(Status::unavailable("once more"));
        }
        let blob = Blob { sha256: vec![number as u8; 32].into(), size_bytes: bytes.len() as u64 };
        log.lock().unwrap().push(bytes);
        Ok(blob)
    };
    let server = Server::start(Script { upload: Some(Box::new(upload)), ..Script::default() });
    let client = server.client();
    let stdin = vec![b'x'; 700 << 10];
    let lines: Vec<String> = (0..30_000).map(|i| format!("line {i}")).collect();
    let elements = Elements::new().items(&lines).range(1, 1, 2);
    let spec =
        client.prepare(JobBuilder::command(["cat"]).stdin(stdin.clone()).elements(elements)).await.unwrap();

    let uploads = uploads.lock().unwrap().clone();
    assert_eq!(uploads[0], stdin);
    let table = Table::decode(uploads[1].as_slice()).unwrap();
    assert!(table.fields.iter().eq(lines.iter().map(String::as_bytes)));
    let command = spec.command.unwrap();
    assert!(command.stdin.is_empty());
    assert_eq!(command.stdin_blob.unwrap().size_bytes, stdin.len() as u64);
    let sources = spec.elements.unwrap().sources;
    assert!(matches!(&sources[0].values, Some(source::Values::Blob(blob)) if blob.sha256[0] == 2));
    assert!(matches!(&sources[1].values, Some(source::Values::Range(range)) if range.count == 2));

    let small = client
        .prepare(JobBuilder::command(["cat"]).stdin("in").elements(Elements::new().items(["a"])))
        .await
        .unwrap();
    assert_eq!(small.command.unwrap().stdin, "in");
    assert!(
        matches!(&small.elements.unwrap().sources[0].values, Some(source::Values::Table(table)) if table.fields == ["a"])
    );
    assert_eq!(client.upload(std::io::Cursor::new(vec![1; 300_000])).await.unwrap().size_bytes, 300_000);
}

#[tokio::test]
async fn wrong_jobs_never_travel() {
    let server = Server::start(Script::default());
    let client = server.client();
    let long = "x".repeat(257);
    for (job, word) in [
        (JobBuilder::command(Vec::<String>::new()), "no command"),
        (JobBuilder::command(["a\0"]), "NUL"),
        (JobBuilder::command(["x", "{nmae}"]).elements(Elements::new().items(["1"])), "unknown placeholder"),
        (echo().elements(Elements::new().range(1, 1, 0)), "nothing to run"),
        (echo().elements(Elements::new().range(1, 1, u32::MAX).range(1, 1, 2)), "more than"),
        (echo().name(&long), "256"),
        (echo().idempotency_key(&long), "256"),
        (echo().queue("two words"), "queue"),
        (echo().priority(1001), "-1000"),
        (echo().env("A=B", "c"), "variable"),
        (echo().cwd("here"), "absolute"),
        (echo().backoff(Duration::from_secs(1), f64::NAN, Duration::from_secs(9)), "backoff"),
    ] {
        let error = client.submit(job).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

/// Gives each new request the next numbers, and an old one its old ones.
#[derive(Clone, Default)]
struct Book {
    taken: Arc<Mutex<HashMap<Vec<u8>, Vec<u64>>>>,
    requests: Seen<SubmitRequest>,
}

impl Book {
    fn answer(&self, request: SubmitRequest) -> SubmitStreamReply {
        let mut taken = self.taken.lock().expect("no test panicked");
        let next = taken.values().map(|ids| ids.len() as u64).sum::<u64>();
        let fresh = (next..).take(request.jobs.len()).collect();
        let job_ids = taken.entry(request.request_id.to_vec()).or_insert(fresh).clone();
        self.requests.lock().expect("no test panicked").push(request);
        let ok = SubmitReply { job_ids, repeated_request: false };
        SubmitStreamReply { result: Some(submit_stream_reply::Result::Ok(ok)) }
    }

    /// Takes requests; of the first connection only the first answer gets out, then it breaks.
    fn serve(&self, number: usize, mut requests: Streaming<SubmitRequest>, out: Out<SubmitStreamReply>) {
        let book = self.clone();
        tokio::spawn(async move {
            let mut answered = 0;
            while let Ok(Some(request)) = requests.message().await {
                let reply = book.answer(request);
                let last_words = number == 0 && answered == 1;
                let said = if last_words { Err(Status::unavailable("falling over")) } else { Ok(reply) };
                if out.send(said).await.is_err() || last_words {
                    return;
                }
                answered += 1;
            }
        });
    }
}

fn spec(number: usize) -> JobSpec {
    JobSpec { name: format!("job {number}"), ..Default::default() }
}

#[tokio::test]
async fn streamed_submits_survive_a_lost_connection_once_each() {
    let book = Book::default();
    let serve = book.clone();
    let submit_stream = move |number, requests, out| serve.serve(number, requests, out);
    let server = Server::start(Script { submit_stream: Some(Box::new(submit_stream)), ..Script::default() });
    let count = 25_000;
    let mut ids = server.client().submit_many(tokio_stream::iter((0..count).map(spec)));
    let mut got = Vec::new();
    while let Some(id) = ids.next().await {
        got.push(id.unwrap().0);
    }
    assert!(got.iter().copied().eq(0..count as u64), "each job has one number, in order");
    let requests = book.requests.lock().unwrap();
    let mut first_of: HashMap<&[u8], &SubmitRequest> = HashMap::new();
    let mut repeated = 0;
    for request in requests.iter() {
        assert!(request.jobs.len() <= 1_000);
        match first_of.entry(&request.request_id) {
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(request);
            }
            std::collections::hash_map::Entry::Occupied(first) => {
                assert_eq!(first.get(), &request, "the same id means the same request");
                repeated += 1;
            }
        }
    }
    assert!(repeated >= 1, "what was taken but not answered was sent again");
}

#[tokio::test]
async fn a_stream_ends_after_its_first_refusal() {
    let submit_stream = |_, mut requests: Streaming<SubmitRequest>, out: Out<SubmitStreamReply>| {
        tokio::spawn(async move {
            while let Ok(Some(_)) = requests.message().await {
                let error =
                    SubmitError { code: Code::InvalidArgument.into(), message: "job 3 is wrong".into() };
                let result = Some(submit_stream_reply::Result::Error(error));
                if out.send(Ok(SubmitStreamReply { result })).await.is_err() {
                    return;
                }
            }
        });
    };
    let server = Server::start(Script { submit_stream: Some(Box::new(submit_stream)), ..Script::default() });
    let mut ids = server.client().submit_many(tokio_stream::iter((0..5).map(spec)));
    let error = ids.next().await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Usage, "job 3 is wrong"));
    assert!(ids.next().await.is_none());
}

#[tokio::test]
async fn a_slow_source_is_submitted_as_it_comes() {
    let book = Book::default();
    let serve = book.clone();
    let submit_stream = move |_, requests, out| serve.serve(1, requests, out);
    let server = Server::start(Script { submit_stream: Some(Box::new(submit_stream)), ..Script::default() });
    let (jobs, source) = tokio::sync::mpsc::channel(1);
    let mut ids = server.client().submit_many(tokio_stream::wrappers::ReceiverStream::new(source));
    for number in 0..3 {
        jobs.send(spec(number)).await.unwrap();
        // The number comes although the source is still open.
        assert_eq!(ids.next().await.unwrap().unwrap(), JobId(number as u64));
    }
    drop(jobs);
    assert!(ids.next().await.is_none());
}
