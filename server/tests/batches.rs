//! Batches on their way to the disk: what arrives while one is under way goes into the next, nothing is said before its own
//! sync, and a disk that fails ends the loop.
//!
//! The store is one whose commits wait for the test's word, and the loop is polled by hand: when a poll of it returns, it
//! has taken in all that was there.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use roaring::RoaringBitmap;
use taskq_core::{
    Config,
    effect::{Reply, Write},
    event::{Event, QueueAct},
    id::{JobId, Rank, TaskId, WallTime},
};
use taskq_server::{
    clock::Clock,
    coordinator::{Handle, Unanswered, commit, deliver, restore, run, sessions::Sessions},
    metrics::Metrics,
    store::{
        EarlierAttempt, EndedJob, EndedTask, Error, Lookup, MemoryStore, OutputPiece, Retention, Store,
        SubmittedRecord, Usage,
    },
    templates::Templates,
};
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot, watch,
    },
    time::timeout,
};

/// How long a fact may take to come true.
const LIMIT: Duration = Duration::from_secs(10);

/// What becomes of a commit.
#[derive(Clone, Copy, Debug)]
enum Word {
    Durable,
    Fails,
    Panics,
}

/// A store in memory that shows each commit when it begins, and then waits for a word about it.
#[derive(Debug)]
struct Slow {
    inner: MemoryStore,
    begun: UnboundedSender<Vec<Write>>,
    words: Mutex<Receiver<Word>>,
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Reply, Unanswered>> + 'a>>;

struct System {
    handle: Handle,
    /// The loop, until it has ended.
    body: Option<Pin<Box<dyn Future<Output = ()>>>>,
    last_word: oneshot::Receiver<Result<(), Error>>,
    begun: UnboundedReceiver<Vec<Write>>,
    words: Sender<Word>,
    stop: watch::Sender<bool>,
}

impl System {
    fn start() -> System {
        let clock = Clock::start();
        let inner = MemoryStore::default();
        let limits = Config::default();
        let lease = limits.lease;
        let (state, epoch) = restore::restore(&inner, limits, clock.now()).expect("an empty store");
        let ((begins, begun), (words, told)) = (unbounded_channel(), channel());
        let slow = Slow { inner, begun: begins, words: Mutex::new(told) };
        let store: Arc<dyn Store> = Arc::new(slow);
        let (handle, inbox) = Handle::new(Arc::new(Sessions::default()));
        let greeting = deliver::Greeting { epoch, lease, instance: "test".to_owned() };
        let deliver = deliver::Deliver::new(&handle, Arc::new(Templates::new(Arc::clone(&store))), greeting);
        let (commits, last_word) = commit::start(store, deliver, Arc::new(Metrics::default()));
        let (stop, stopping) = watch::channel(false);
        let body: Pin<Box<dyn Future<Output = ()>>> =
            Box::pin(run::run(clock, state, inbox, commits, stopping));
        let body = Some(body);
        System { handle, body, last_word, begun, words, stop }
    }

    /// Sends one request for each number, each of which makes one write.
    async fn ask(&self, numbers: std::ops::Range<u64>) -> Vec<Answer<'static>> {
        let mut answers = Vec::new();
        for number in numbers {
            let (handle, name) = (self.handle.clone(), number.to_string().into());
            let event = move |request| Event::Queue { request, name, act: QueueAct::Pause };
            let mut answer: Answer<'static> = Box::pin(async move { handle.ask(event).await });
            assert!(poll(&mut answer).await.is_none(), "request {number} is answered before it was taken in");
            answers.push(answer);
        }
        answers
    }

    /// Lets the loop take in what there is; true once it has ended.
    async fn turn(&mut self) -> bool {
        let Some(body) = &mut self.body else { return true };
        let over = poll(body).await.is_some();
        if over {
            self.body = None;
        }
        over
    }

    /// The requests of the next batch, once it is on its way.
    async fn under_way(&mut self) -> Vec<u64> {
        let begun = async {
            tokio::select! {
                begun = self.begun.recv() => return begun,
                () = until_ended(&mut self.body) => {}
            }
            self.begun.recv().await
        };
        let writes = timeout(LIMIT, begun).await.expect("a batch is on its way").expect("a store");
        let numbers = writes.iter().map(|write| match write {
            Write::Queue { name, .. } => name.parse().expect("a number"),
            other => panic!("nobody has asked for {other:?}"),
        });
        numbers.collect()
    }

    fn say(&self, word: Word) {
        self.words.send(word).expect("the store waits for it");
    }
}

/// Returns when the loop has ended; cancel-safe.
async fn until_ended(body: &mut Option<Pin<Box<dyn Future<Output = ()>>>>) {
    if let Some(running) = body {
        running.await;
    }
    *body = None;
}

/// What a future gives if it is ready now.
async fn poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        Poll::Ready(match Pin::new(&mut *future).poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

/// None of these is answered.
async fn unanswered(answers: &mut [Answer<'_>]) {
    for (place, answer) in answers.iter_mut().enumerate() {
        let said = poll(answer).await;
        assert!(said.is_none(), "request {place} of these was answered before its commit: {said:?}");
    }
}

/// All of these are answered, or soon will be.
async fn answered(answers: Vec<Answer<'_>>) {
    for answer in answers {
        let reply = timeout(LIMIT, answer).await.expect("an answer");
        assert!(matches!(reply, Ok(Reply::Queue { .. })), "{reply:?}");
    }
}

#[tokio::test]
async fn a_batch_grows_until_the_disk_is_free_and_nothing_is_said_before_it_is_durable() {
    let mut system = System::start();
    let mut first = system.ask(0..1).await;
    assert!(!system.turn().await);
    assert_eq!(system.under_way().await, [0], "a lone request does not wait for others");

    let mut second = system.ask(1..20).await;
    assert!(!system.turn().await);
    second.extend(system.ask(20..50).await);
    assert!(!system.turn().await);
    unanswered(&mut first).await;
    unanswered(&mut second).await;
    system.say(Word::Durable);
    answered(first).await;

    assert!(system.under_way().await.into_iter().eq(1..50), "all that had arrived, in one batch");
    let mut third = system.ask(50..53).await;
    assert!(!system.turn().await);
    unanswered(&mut second).await;
    unanswered(&mut third).await;
    system.say(Word::Durable);
    answered(second).await;

    // What was decided is said, also when it stops meanwhile.
    assert_eq!(system.under_way().await, [50, 51, 52]);
    let mut last = system.ask(53..55).await;
    assert!(!system.turn().await);
    system.stop.send_replace(true);
    assert!(!system.turn().await, "one batch is on its way, and another one waits for it");
    unanswered(&mut last).await;
    system.say(Word::Durable);
    answered(third).await;
    assert_eq!(system.under_way().await, [53, 54]);
    timeout(LIMIT, until_ended(&mut system.body)).await.expect("the loop has ended");
    unanswered(&mut last).await;
    system.say(Word::Durable);
    answered(last).await;
    let ended = timeout(LIMIT, system.last_word).await.expect("the thread has ended");
    assert!(matches!(ended, Ok(Ok(()))), "{ended:?}");
}

#[tokio::test]
async fn nothing_is_said_and_the_loop_ends_when_the_disk_fails() {
    for word in [Word::Fails, Word::Panics] {
        let mut system = System::start();
        let mut first = system.ask(0..1).await;
        assert!(!system.turn().await);
        assert_eq!(system.under_way().await, [0]);
        let mut second = system.ask(1..10).await;
        assert!(!system.turn().await);
        system.say(word);

        let ended = timeout(LIMIT, system.last_word).await.expect("the thread has ended");
        match word {
            Word::Durable => unreachable!("not among those above"),
            Word::Fails => assert!(matches!(ended, Ok(Err(Error::Io { .. }))), "{ended:?}"),
            Word::Panics => assert!(ended.is_err(), "{ended:?}"),
        }
        timeout(LIMIT, until_ended(&mut system.body)).await.expect("the loop has ended");
        unanswered(&mut first).await;
        unanswered(&mut second).await;
        assert!(system.begun.try_recv().is_err(), "the other batch went nowhere");
        let late =
            system.handle.ask(|request| Event::Queue { request, name: "late".into(), act: QueueAct::Pause });
        assert_eq!(late.await.expect_err("nobody is there"), Unanswered::Stopping);
    }
}

impl Store for Slow {
    fn commit(&self, writes: &[Write]) -> Result<(), Error> {
        // A test that has failed looks at nothing any more, and says nothing.
        let _seen = self.begun.send(writes.to_vec());
        match self.words.lock().expect("only this thread uses it").recv() {
            Ok(Word::Durable) => self.inner.commit(writes),
            Ok(Word::Panics) => panic!("as the test wants it"),
            Ok(Word::Fails) | Err(_) => {
                let cause = std::io::Error::other("as the test wants it");
                Err(Error::Io { act: "sync", path: "nowhere".into(), cause })
            }
        }
    }

    fn load(&self, visit: &mut dyn FnMut(Write)) -> Result<JobId, Error> {
        self.inner.load(visit)
    }

    fn is_live(&self, job: JobId) -> bool {
        self.inner.is_live(job)
    }

    fn submitted(&self, job: JobId) -> Result<SubmittedRecord, Lookup> {
        self.inner.submitted(job)
    }

    fn job_ended(&self, job: JobId) -> Result<Option<EndedJob>, Lookup> {
        self.inner.job_ended(job)
    }

    fn ended_jobs(&self, before: Option<JobId>, limit: usize) -> Vec<JobId> {
        self.inner.ended_jobs(before, limit)
    }

    fn ends(&self, job: JobId, from: Rank, limit: usize) -> Result<Vec<EndedTask>, Lookup> {
        self.inner.ends(job, from, limit)
    }

    fn ends_of(&self, job: JobId, indices: &RoaringBitmap, limit: usize) -> Result<Vec<EndedTask>, Lookup> {
        self.inner.ends_of(job, indices, limit)
    }

    fn attempts(&self, task: TaskId) -> Result<Vec<EarlierAttempt>, Lookup> {
        self.inner.attempts(task)
    }

    fn output(
        &self,
        job: JobId,
        tasks: Option<&RoaringBitmap>,
        cursor: u64,
    ) -> Result<(Vec<OutputPiece>, u64), Lookup> {
        self.inner.output(job, tasks, cursor)
    }

    fn put_blob(&self, sha256: [u8; 32], bytes: &[u8]) -> Result<(), Error> {
        self.inner.put_blob(sha256, bytes)
    }

    fn blob(&self, sha256: &[u8; 32]) -> Result<Option<Bytes>, Error> {
        self.inner.blob(sha256)
    }

    fn has_blob(&self, sha256: &[u8; 32]) -> bool {
        self.inner.has_blob(sha256)
    }

    fn outcome_blobs(&self) -> Vec<[u8; 32]> {
        self.inner.outcome_blobs()
    }

    fn sweep_blobs(&self, used: &dyn Fn(&[u8; 32]) -> bool) -> Result<u64, Error> {
        self.inner.sweep_blobs(used)
    }

    fn expired(&self, now: WallTime, keep: &Retention, limit: usize) -> Vec<JobId> {
        self.inner.expired(now, keep, limit)
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }
}
