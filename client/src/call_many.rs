//! Calls as fast as their arguments come, each a job of its own; results in the order in which they end.
//!
//! Arguments are taken as long as fewer than a limit of calls are outstanding, and a call is outstanding until its result
//! was handed out: who reads slowly slows down the source, and memory stays bounded.

use crate::client::Client;
use crate::codec::Codec;
use crate::ends::{Ended, Group, MOST_JOBS, Place, Told};
use crate::error::{Error, Result};
use crate::failed::CallError;
use crate::job::{INLINE_BYTES, JobBuilder, JobId};
use crate::model::JobSpec;
use crate::settings::settings;
use crate::submit_many::SubmitMany;
use crate::value::{Callee, Read, Value};
use bytes::Bytes;
use serde::Serialize;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use taskq_proto::VALUE_BYTES;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};

/// Calls that are outstanding at once, unless told otherwise: enough that a hundred workers do not run dry while a
/// result travels.
const OUTSTANDING: usize = 10_000;
/// Jobs that are made and wait to be submitted.
const MADE: usize = 1_024;

/// Many calls that are not begun yet.
#[must_use = "nothing is called until it is started"]
pub struct CallMany<T, S> {
    client: Client,
    job: JobBuilder,
    codec: Codec,
    arguments: S,
    outstanding: usize,
    returns: PhantomData<fn() -> T>,
}

impl<T, S> fmt::Debug for CallMany<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallMany({:?} as {})", self.job, self.codec)
    }
}

impl Client {
    /// Calls a function once for each argument, each call a job of its own. If all arguments are known, one job with
    /// elements is cheaper: see [`Pool::imap_unordered`](crate::Pool::imap_unordered).
    ///
    /// ```no_run
    /// # async fn tour(client: taskq_client::Client) -> taskq_client::Result<()> {
    /// let mut answers = client.call_many::<u64, _>("fib", 0..100_000).start();
    /// while let Some(answer) = answers.next().await {
    ///     let answer = answer?;
    ///     println!("fib({}) = {}", answer.position, answer.value?);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn call_many<T, I>(
        &self,
        function: impl Into<String>,
        arguments: I,
    ) -> CallMany<T, tokio_stream::Iter<I::IntoIter>>
    where
        I: IntoIterator,
    {
        self.call_stream(function, tokio_stream::iter(arguments))
    }

    /// The same for arguments that come one by one.
    pub fn call_stream<T, S>(&self, function: impl Into<String>, arguments: S) -> CallMany<T, S> {
        CallMany {
            client: self.clone(),
            job: JobBuilder::call_encoded(function, Codec::default().name(), Bytes::new()),
            codec: Codec::default(),
            arguments,
            outstanding: OUTSTANDING,
            returns: PhantomData,
        }
    }
}

impl<T, S> CallMany<T, S> {
    /// How arguments and values are written. Default: JSON.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// How many calls are made and not yet handed out, at least 1 and at most 800,000. Default: 10,000. So many values
    /// may be held here, of 32 KiB each at most (longer ones are fetched one by one): take fewer if they are long.
    pub fn outstanding(mut self, calls: usize) -> Self {
        self.outstanding = calls.clamp(1, MOST_JOBS);
        self
    }

    settings!();

    fn change(mut self, change: impl FnOnce(JobBuilder) -> JobBuilder) -> Self {
        self.job = change(self.job);
        self
    }
}

impl<T: Value, S> CallMany<T, S>
where
    S: Stream + Send + Unpin + 'static,
    S::Item: Serialize + Send,
{
    /// Begins to call. To be called inside a tokio runtime.
    pub fn start(self) -> Answers<T> {
        let Self { client, job, codec, arguments, outstanding, returns: _ } = self;
        let job = job.with_argument(codec, Ok(Bytes::new()));
        let callee = Callee::of(&job.spec).expect("made as a call");
        let (made, jobs) = mpsc::channel(MADE);
        let window = Arc::new(Semaphore::new(outstanding));
        let feed = Feed { client: client.clone(), codec, window: window.clone(), made };
        let (failed, problem) = oneshot::channel();
        let task = tokio::spawn(async move {
            if let Err(error) = feed.run(job, arguments).await {
                // If nobody reads any more, nobody needs to know.
                let _ = failed.send(error);
            }
        });
        let submitted = client.submit_many(ReceiverStream::new(jobs));
        let (group, told) = mpsc::unbounded_channel();
        Answers {
            client,
            callee,
            feed: task.abort_handle(),
            problem: Some(problem),
            submitted: Some(submitted),
            position: 0,
            places: HashMap::new(),
            group,
            told,
            reading: None,
            window,
        }
    }
}

/// Makes jobs of arguments.
struct Feed {
    client: Client,
    codec: Codec,
    window: Arc<Semaphore>,
    made: mpsc::Sender<JobSpec>,
}

impl Feed {
    async fn run<S>(self, job: JobBuilder, mut arguments: S) -> Result<()>
    where
        S: Stream + Unpin,
        S::Item: Serialize,
    {
        let pattern = self.client.prepare(job).await?;
        let mut position = 0_u64;
        loop {
            self.window.acquire().await.expect("never closed").forget();
            let Some(argument) = arguments.next().await else { return Ok(()) };
            let bytes = self.codec.encode(&argument);
            drop(argument);
            let bytes = bytes.map_err(|problem| Error::Usage(format!("argument {position}: {problem}")))?;
            let spec = self.spec(&pattern, position, bytes).await?;
            if self.made.send(spec).await.is_err() {
                // Submitting has failed, and says so itself.
                return Ok(());
            }
            position += 1;
        }
    }

    async fn spec(&self, pattern: &JobSpec, position: u64, bytes: Bytes) -> Result<JobSpec> {
        let mut spec = pattern.clone();
        let call = spec.call.get_or_insert_default();
        if bytes.len() <= INLINE_BYTES {
            call.argument = bytes;
        } else if bytes.len() <= VALUE_BYTES {
            call.argument_blob = Some(self.client.upload_bytes(bytes).await?);
        } else {
            return Err(Error::Usage(format!(
                "argument {position} has {} bytes, and at most {} MiB are allowed; pass where its bytes are",
                bytes.len(),
                VALUE_BYTES >> 20
            )));
        }
        Ok(spec)
    }
}

/// What came of one of many calls.
#[derive(Debug)]
pub struct Answer<T> {
    /// Of its argument among all, from 0.
    pub position: usize,
    /// The job that it was.
    pub job: JobId,
    /// What the function returned, or why there is nothing.
    pub value: std::result::Result<T, Box<CallError>>,
}

/// Results of many calls, as they end. Dropping it stops calling; what was submitted until then goes on.
pub struct Answers<T> {
    client: Client,
    callee: Arc<Callee>,
    feed: AbortHandle,
    /// Why the feed stopped, if it did before the last argument.
    problem: Option<oneshot::Receiver<Error>>,
    /// `None` once the last call was submitted.
    submitted: Option<SubmitMany>,
    /// Of the next call to be submitted.
    position: usize,
    /// Of the calls that have not ended.
    places: HashMap<usize, (JobId, Place)>,
    group: Group,
    told: mpsc::UnboundedReceiver<(usize, Told)>,
    reading: Option<Reading<T>>,
    window: Arc<Semaphore>,
}

/// A value that is fetched at the moment. In a lock that is never taken, so that this can be shared.
type Reading<T> = std::sync::Mutex<Pin<Box<dyn Future<Output = Result<Answer<T>>> + Send>>>;

impl<T> fmt::Debug for Answers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Answers({}: {} submitted, {} have not ended)",
            self.callee.function,
            self.position,
            self.places.len()
        )
    }
}

impl<T> Drop for Answers<T> {
    fn drop(&mut self) {
        self.feed.abort();
    }
}

impl<T: Value> Answers<T> {
    /// The next that has ended; `None` after the last. A call that failed is an answer, too: an error is told if no more
    /// can be called or heard of, and nothing comes after it. May be dropped at any time.
    pub async fn next(&mut self) -> Option<Result<Answer<T>>> {
        let next = self.advance().await;
        match &next {
            Some(Ok(_)) => self.window.add_permits(1),
            Some(Err(_)) => self.stop(),
            None => {}
        }
        next
    }

    async fn advance(&mut self) -> Option<Result<Answer<T>>> {
        loop {
            if let Some(reading) = &mut self.reading {
                let read = reading.get_mut().expect("never locked").as_mut().await;
                self.reading = None;
                return Some(read);
            }
            if self.submitted.is_none() && self.places.is_empty() {
                return self.problem.take()?.await.ok().map(Err);
            }
            tokio::select! {
                id = next_id(&mut self.submitted) => match id {
                    Some(Ok(id)) => if let Err(error) = self.enter(id) {
                        return Some(Err(error));
                    },
                    Some(Err(error)) => return Some(Err(error)),
                    None => self.submitted = None,
                },
                Some(told) = self.told.recv(), if !self.places.is_empty() => {
                    if let Some(answer) = self.hear(told) {
                        return Some(answer);
                    }
                }
            }
        }
    }

    /// Waits for the end of the job that was just submitted.
    fn enter(&mut self, id: JobId) -> Result<()> {
        let place = self.client.tell_group(id, &self.group, self.position)?;
        self.places.insert(self.position, (id, place));
        self.position += 1;
        Ok(())
    }

    /// The answer, unless its value has to be fetched first.
    fn hear(&mut self, (position, told): (usize, Told)) -> Option<Result<Answer<T>>> {
        let Ended { task, job, .. } = match told {
            Ok(ended) => ended,
            Err(error) => return Some(Err(error)),
        };
        self.places.remove(&position);
        let Some(task) = task else {
            return Some(Err(Error::Internal(format!("the end of job {job} was told without its task"))));
        };
        let value = match self.callee.at_hand(task) {
            Ok(Read::Here(value)) => Ok(value),
            Ok(Read::Elsewhere(task)) => {
                let (client, callee) = (self.client.clone(), self.callee.clone());
                self.reading = Some(std::sync::Mutex::new(Box::pin(async move {
                    let value = match callee.read(&client, *task).await {
                        Ok(value) => Ok(value),
                        Err(Error::Call(failed)) => Err(failed),
                        Err(error) => return Err(error),
                    };
                    Ok(Answer { position, job, value })
                })));
                return None;
            }
            Err(failed) => Err(failed),
        };
        Some(Ok(Answer { position, job, value }))
    }

    fn stop(&mut self) {
        self.feed.abort();
        self.submitted = None;
        self.problem = None;
        self.reading = None;
        self.places.clear();
    }
}

/// Never, if all were submitted.
async fn next_id(submitted: &mut Option<SubmitMany>) -> Option<Result<JobId>> {
    match submitted {
        Some(submitted) => submitted.next().await,
        None => std::future::pending().await,
    }
}
