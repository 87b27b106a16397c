//! A coordinator with workers, in a few lines: jobs that are submitted are run by a function of the test, at once or
//! when the test says so. What it forgets to keep is what the tests here do not need.

use crate::fake::{Out, Script, Server};
use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use taskq_client::model::{failure, outcome, source};
use taskq_proto::v1::*;
use tokio::sync::watch;
use tonic::{Status, Streaming};

/// What becomes of an argument of a function; `None` if the test ends it later.
type Run = Box<dyn Fn(&str, &[u8]) -> Option<Outcome> + Send + Sync>;

pub(crate) struct World {
    run: Run,
    inside: Mutex<Inside>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Inside {
    jobs: Vec<Record>,
    requests: HashMap<Bytes, Vec<u64>>,
    blobs: HashMap<Bytes, Bytes>,
    /// How many ends each stream of `Ends` tells before it breaks; all, once these are used up.
    breaks: Vec<usize>,
    /// The same for `Results`.
    result_breaks: Vec<usize>,
    named: Vec<Vec<u64>>,
    told: Vec<u64>,
    cancelled: Vec<u64>,
    output: HashMap<u64, Vec<LogChunk>>,
    progress: HashMap<u64, Vec<Progress>>,
    /// Output is late.
    mute: bool,
}

struct Record {
    spec: JobSpec,
    arguments: Vec<Bytes>,
    /// In the order in which they ended.
    ended: Vec<Task>,
}

pub(crate) fn value(json: impl Into<Bytes>) -> Outcome {
    Outcome {
        kind: outcome::Kind::Completed.into(),
        value: json.into(),
        attempt: 1,
        worker: "w1".into(),
        ..Default::default()
    }
}

pub(crate) fn failed(message: &str, value: &str) -> Outcome {
    let failure = Failure {
        cause: failure::Cause::Error.into(),
        r#type: "my::Error".into(),
        message: message.into(),
        chain: vec!["the disk".into(), "the cable".into()],
        place: "src/f.rs:7:9".into(),
        fatal: true,
        value: value.as_bytes().to_vec().into(),
    };
    Outcome { failure: Some(failure), ..ended_as(outcome::Kind::Failed) }
}

pub(crate) fn ended_as(kind: outcome::Kind) -> Outcome {
    Outcome { kind: kind.into(), attempt: 2, worker: "w1".into(), ..Default::default() }
}

impl World {
    pub(crate) fn new(run: impl Fn(&str, &[u8]) -> Option<Outcome> + Send + Sync + 'static) -> Arc<Self> {
        let inside = Inside::default();
        Arc::new(Self { run: Box::new(run), inside: Mutex::new(inside), changed: watch::Sender::new(0) })
    }

    /// Numbers, doubled.
    pub(crate) fn doubling() -> Arc<Self> {
        Self::new(|function, argument| {
            assert_eq!(function, "double");
            let n: u64 = std::str::from_utf8(argument).unwrap().parse().unwrap();
            Some(value((2 * n).to_string()))
        })
    }

    /// Nothing ends by itself.
    pub(crate) fn idle() -> Arc<Self> {
        Self::new(|_, _| None)
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }

    fn change<R>(&self, act: impl FnOnce(&mut Inside) -> R) -> R {
        let result = act(&mut self.lock());
        self.changed.send_modify(|n| *n += 1);
        result
    }

    /// How many ends each stream of `Ends` tells before it breaks.
    pub(crate) fn break_ends_after(&self, ends: &[usize]) {
        self.lock().breaks = ends.to_vec();
    }

    pub(crate) fn break_results_after(&self, ends: &[usize]) {
        self.lock().result_breaks = ends.to_vec();
    }

    pub(crate) fn end(&self, job: u64, index: u32, outcome: Outcome) {
        self.change(|inside| inside.end(job, index, outcome));
    }

    pub(crate) fn say(&self, job: u64, chunk: LogChunk) {
        self.change(|inside| inside.output.entry(job).or_default().push(chunk));
    }

    /// Whether output is held back.
    pub(crate) fn mute(&self, mute: bool) {
        self.change(|inside| inside.mute = mute);
    }

    pub(crate) fn progress(&self, job: u64, progress: Progress) {
        self.change(|inside| inside.progress.entry(job).or_default().push(progress));
    }

    pub(crate) fn store(&self, bytes: impl Into<Bytes>) -> Blob {
        let bytes = bytes.into();
        let blob = Blob { sha256: Sha256::digest(&bytes).to_vec().into(), size_bytes: bytes.len() as u64 };
        self.lock().blobs.insert(blob.sha256.clone(), bytes);
        blob
    }

    pub(crate) fn spec(&self, job: u64) -> JobSpec {
        self.lock().jobs[job as usize - 1].spec.clone()
    }

    pub(crate) fn arguments(&self, job: u64) -> Vec<Bytes> {
        self.lock().jobs[job as usize - 1].arguments.clone()
    }

    /// How many jobs there are.
    pub(crate) fn jobs(&self) -> usize {
        self.lock().jobs.len()
    }

    /// What each message of `Ends` named.
    pub(crate) fn named(&self) -> Vec<Vec<u64>> {
        self.lock().named.clone()
    }

    /// All ends that were told, in order.
    pub(crate) fn told(&self) -> Vec<u64> {
        self.lock().told.clone()
    }

    pub(crate) fn cancelled(&self) -> Vec<u64> {
        self.lock().cancelled.clone()
    }

    /// Returns when `fact` holds.
    pub(crate) async fn until(&self, fact: impl Fn(&World) -> bool) {
        let mut changes = self.changed.subscribe();
        while !fact(self) {
            changes.changed().await.unwrap();
        }
    }

    pub(crate) fn serve(self: &Arc<Self>) -> Server {
        Server::start(self.script())
    }

    pub(crate) fn script(self: &Arc<Self>) -> Script {
        let world = || self.clone();
        let (w1, w2, w3, w4, w5, w6, w7, w8, w9, w10) =
            (world(), world(), world(), world(), world(), world(), world(), world(), world(), world());
        Script {
            submit: Some(Box::new(move |_, request| Ok(w1.submit(request)))),
            submit_stream: Some(Box::new(move |_, requests, out| {
                drop(tokio::spawn(w2.clone().submit_stream(requests, out)))
            })),
            upload: Some(Box::new(move |_, bytes| Ok(w3.store(bytes)))),
            get: Some(Box::new(move |_, request| w4.get(request.id))),
            results: Some(Box::new(move |_, request, out| {
                drop(tokio::spawn(w5.clone().results(request, out)))
            })),
            logs: Some(Box::new(move |_, request, out| drop(tokio::spawn(w6.clone().logs(request, out))))),
            watch: Some(Box::new(move |_, request, out| drop(tokio::spawn(w7.clone().watch(request, out))))),
            cancel: Some(Box::new(move |_, request| Ok(w8.cancel(&request)))),
            download: Some(Box::new(move |number, blob, out| w9.download(number, &blob, &out))),
            ends: Some(Box::new(move |_, requests, out| drop(tokio::spawn(w10.clone().ends(requests, out))))),
            ..Script::default()
        }
    }

    fn submit(&self, request: SubmitRequest) -> SubmitReply {
        let job_ids = self.change(|inside| {
            if let Some(ids) = inside.requests.get(&request.request_id) {
                return ids.clone();
            }
            let ids: Vec<u64> = request.jobs.into_iter().map(|spec| inside.take(spec, &self.run)).collect();
            inside.requests.insert(request.request_id, ids.clone());
            ids
        });
        SubmitReply { job_ids, repeated_request: false }
    }

    async fn submit_stream(
        self: Arc<Self>,
        mut requests: Streaming<SubmitRequest>,
        out: Out<SubmitStreamReply>,
    ) {
        while let Ok(Some(request)) = requests.message().await {
            let result = Some(submit_stream_reply::Result::Ok(self.submit(request)));
            if out.send(Ok(SubmitStreamReply { result })).await.is_err() {
                return;
            }
        }
    }

    fn get(&self, id: u64) -> Result<Job, Status> {
        let inside = self.lock();
        let record = inside
            .jobs
            .get(id as usize - 1)
            .ok_or_else(|| Status::not_found(format!("there is no job {id}")))?;
        let mut job = record.job(id);
        job.progress = inside.progress.get(&id).and_then(|said| said.last().cloned());
        Ok(job)
    }

    async fn ends(self: Arc<Self>, mut requests: Streaming<EndsRequest>, out: Out<EndsReply>) {
        let mut changes = self.changed.subscribe();
        let mut left = {
            let mut inside = self.lock();
            if inside.breaks.is_empty() { usize::MAX } else { inside.breaks.remove(0) }
        };
        let mut waiting: HashSet<u64> = HashSet::new();
        loop {
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => {
                        assert!(request.job_ids.len() <= 10_000);
                        waiting.extend(&request.job_ids);
                        self.change(|inside| inside.named.push(request.job_ids));
                    }
                    Ok(None) | Err(_) => return,
                },
                _ = changes.changed() => {}
            }
            let ended: Vec<Ended> = {
                let inside = self.lock();
                let mut ended: Vec<Ended> = waiting.iter().filter_map(|id| inside.ended(*id)).collect();
                ended.sort_by_key(|ended| ended.job_id);
                ended.truncate(left);
                ended
            };
            if ended.is_empty() {
                continue;
            }
            left -= ended.len();
            for one in &ended {
                waiting.remove(&one.job_id);
            }
            self.change(|inside| inside.told.extend(ended.iter().map(|ended| ended.job_id)));
            if out.send(Ok(EndsReply { ended })).await.is_err() {
                return;
            }
            if left == 0 {
                let _ = out.send(Err(Status::unavailable("restarting"))).await;
                return;
            }
        }
    }

    async fn results(self: Arc<Self>, request: ResultsRequest, out: Out<ResultBatch>) {
        assert!(request.with_values && request.follow);
        let mut changes = self.changed.subscribe();
        let mut left = {
            let mut inside = self.lock();
            if inside.result_breaks.is_empty() { usize::MAX } else { inside.result_breaks.remove(0) }
        };
        let mut cursor = request.cursor as usize;
        loop {
            let batch = {
                let inside = self.lock();
                let record = &inside.jobs[request.job_id as usize - 1];
                let tasks: Vec<Task> = record.ended.iter().skip(cursor).take(left.min(3)).cloned().collect();
                cursor += tasks.len();
                ResultBatch { tasks, cursor: cursor as u64, complete: cursor == record.arguments.len() }
            };
            let (sent, complete) = (batch.tasks.len(), batch.complete);
            left -= sent;
            if (sent > 0 || complete) && out.send(Ok(batch)).await.is_err() {
                return;
            }
            if complete {
                return;
            }
            if left == 0 {
                let _ = out.send(Err(Status::unavailable("restarting"))).await;
                return;
            }
            if sent == 0 {
                tokio::select! {
                    _ = changes.changed() => {}
                    () = out.closed() => return,
                }
            }
        }
    }

    /// What was said, until the job has ended and all of that was sent.
    async fn logs(self: Arc<Self>, request: LogsRequest, out: Out<LogChunk>) {
        let mut changes = self.changed.subscribe();
        let mut sent = 0;
        loop {
            let (chunks, over) = {
                let inside = self.lock();
                let said = inside.output.get(&request.job_id).map_or(&[][..], |said| &said[sent..]);
                let said = if inside.mute { Vec::new() } else { said.to_vec() };
                (said, inside.ended(request.job_id).is_some() && !inside.mute)
            };
            sent += chunks.len();
            for chunk in chunks {
                if out.send(Ok(chunk)).await.is_err() {
                    return;
                }
            }
            if over {
                return;
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = out.closed() => return,
            }
        }
    }

    async fn watch(self: Arc<Self>, request: WatchRequest, out: Out<Job>) {
        let mut changes = self.changed.subscribe();
        loop {
            let job = self.get(request.job_id).unwrap();
            let over = taskq_client::is_terminal(job.state());
            if out.send(Ok(job)).await.is_err() || over {
                return;
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = out.closed() => return,
            }
        }
    }

    fn cancel(&self, request: &ActRequest) -> ActReply {
        let jobs = &request.selection.as_ref().unwrap().jobs;
        let acted = self.change(|inside| {
            let cancel = |one: &JobTasks| {
                inside.cancelled.push(one.job_id);
                let open = inside.jobs[one.job_id as usize - 1].open();
                let tasks = open.len() as u32;
                for index in open {
                    inside.end(one.job_id, index, ended_as(outcome::Kind::Cancelled));
                }
                Acted { job_id: one.job_id, tasks, ..Default::default() }
            };
            jobs.iter().map(cancel).collect()
        });
        ActReply { acted }
    }

    /// Breaks off the first time, and ends too early the second.
    fn download(&self, number: usize, blob: &Blob, out: &Out<DownloadChunk>) {
        let bytes = self.lock().blobs.get(&blob.sha256).cloned();
        let Some(bytes) = bytes else {
            out.try_send(Err(Status::not_found("no such blob"))).unwrap();
            return;
        };
        for (at, data) in bytes.chunks(100_000).enumerate() {
            if number == 0 && at == 1 {
                out.try_send(Err(Status::unavailable("restarting"))).unwrap();
            }
            if number <= 1 && at == 1 {
                return;
            }
            out.try_send(Ok(DownloadChunk { data: data.to_vec().into() })).unwrap();
        }
    }
}

impl Inside {
    fn take(&mut self, spec: JobSpec, run: &Run) -> u64 {
        let id = self.jobs.len() as u64 + 1;
        let call = spec.call.clone().unwrap();
        let bytes = |blob: &Blob| self.blobs[&blob.sha256].clone();
        let arguments = match spec.elements.as_ref().and_then(|elements| elements.sources.first()) {
            None => vec![call.argument_blob.as_ref().map_or(call.argument.clone(), bytes)],
            Some(source) => match source.values.as_ref().unwrap() {
                source::Values::Table(table) => table.fields.clone(),
                source::Values::Blob(blob) => Table::decode(bytes(blob)).unwrap().fields,
                source::Values::Range(_) => unreachable!("no test has one"),
            },
        };
        let ends: Vec<_> = arguments.iter().map(|argument| run(&call.function, argument)).collect();
        self.jobs.push(Record { spec, arguments, ended: Vec::new() });
        for (index, outcome) in (0..).zip(ends) {
            if let Some(outcome) = outcome {
                self.end(id, index, outcome);
            }
        }
        id
    }

    fn end(&mut self, job_id: u64, index: u32, outcome: Outcome) {
        let state = match outcome.kind() {
            outcome::Kind::Completed => State::Succeeded,
            outcome::Kind::Cancelled => State::Cancelled,
            _ => State::Failed,
        };
        let attempt = outcome.attempt;
        let task = Task {
            job_id,
            index,
            state: state.into(),
            attempt,
            outcome: Some(outcome),
            ..Default::default()
        };
        self.jobs[job_id as usize - 1].ended.push(task);
    }

    fn ended(&self, id: u64) -> Option<Ended> {
        let Some(record) = self.jobs.get(id as usize - 1) else {
            let error_message = format!("there is no job {id}");
            return Some(Ended {
                job_id: id,
                error_code: tonic::Code::NotFound.into(),
                error_message,
                ..Default::default()
            });
        };
        let job = record.job(id);
        let over = taskq_client::is_terminal(job.state());
        let task = record.ended.first().filter(|_| record.arguments.len() == 1).cloned();
        over.then(|| Ended { job_id: id, state: job.state, counts: job.counts, task, ..Default::default() })
    }
}

impl Record {
    fn open(&self) -> Vec<u32> {
        let ended: HashSet<u32> = self.ended.iter().map(|task| task.index).collect();
        (0..self.arguments.len() as u32).filter(|index| !ended.contains(index)).collect()
    }

    fn job(&self, id: u64) -> Job {
        let count = |state: State| self.ended.iter().filter(|task| task.state() == state).count() as u32;
        let (succeeded, failed, cancelled) =
            (count(State::Succeeded), count(State::Failed), count(State::Cancelled));
        let total = self.arguments.len() as u32;
        let state = match total - succeeded - failed - cancelled {
            0 if failed > 0 => State::Failed,
            0 if cancelled > 0 => State::Cancelled,
            0 => State::Succeeded,
            _ => State::Running,
        };
        let counts = Some(Counts { total, succeeded, failed, cancelled, ..Default::default() });
        let revision = self.ended.len() as u64;
        Job { id, spec: Some(self.spec.clone()), state: state.into(), counts, revision, ..Default::default() }
    }
}
