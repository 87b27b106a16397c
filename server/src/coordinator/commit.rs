//! The disk thread: makes each batch durable, then lets the world see it, in order.
//!
//! **Invariant:** no effect of a batch is delivered before the batch's writes, and those of every earlier batch,
//! are durable. After the first error nothing more is said: the thread ends with it, and the process with the thread.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use taskq_core::effect::{Effect, Outcome};
use tokio::sync::{Semaphore, oneshot};

use crate::{
    coordinator::deliver::Deliver,
    metrics::Metrics,
    store::{Error, Store},
};

/// A batch with fewer writes costs more by its sync than by what is in it.
const SMALL: usize = 256;
/// How long callers that were answered have to come back before the next commit begins without them: so many times as
/// long as the last one took, and no longer than that.
const PATIENCE: u32 = 3;
const PATIENCE_MOST: Duration = Duration::from_millis(1);

/// The way to the disk, for one batch at a time: the next one grows until the one before is durable and, of small ones, those
/// who were answered have had their moment to come back.
#[derive(Debug)]
pub struct Commits {
    batches: SyncSender<Outcome>,
    /// One permit while no batch is on its way.
    free: Arc<Semaphore>,
}

/// The thread has ended.
#[derive(Debug)]
pub struct Ended;

impl Commits {
    /// Waits until a batch can go. Cancel-safe, and does not take the turn.
    ///
    /// # Errors
    /// The thread has ended.
    pub async fn free(&self) -> Result<(), Ended> {
        self.free.acquire().await.map(drop).map_err(|_| Ended)
    }

    /// Sends a batch. To be called after [`Commits::free`], by the one who waited.
    ///
    /// # Errors
    /// The thread has ended.
    pub fn send(&self, batch: Outcome) -> Result<(), Ended> {
        self.free.try_acquire().map_err(|_| Ended)?.forget();
        self.batches.send(batch).map_err(|_| Ended)
    }
}

/// Starts the thread. It ends when the sender is dropped, or with the store's first error; the receiver then has its
/// last word, or nothing if it panicked.
pub fn start(
    store: Arc<dyn Store>,
    deliver: Deliver,
    metrics: Arc<Metrics>,
) -> (Commits, oneshot::Receiver<Result<(), Error>>) {
    // Whoever sends holds the only permit, so there is room, and the async loop never blocks.
    let (sender, batches) = sync_channel(1);
    let (last_word, ended) = oneshot::channel();
    let free = Arc::new(Semaphore::new(1));
    let commits = Commits { batches: sender, free: Arc::clone(&free) };
    let body = move || {
        let _closed = CloseAtEnd(Arc::clone(&free));
        let result = commit(&*store, &deliver, &metrics, &batches, &free);
        // Before anybody hears of the end: the loop must not hand over any more.
        drop(batches);
        // Nobody waits for it any more when the coordinator has gone already.
        let _heard = last_word.send(result);
    };
    thread::Builder::new().name("commit".into()).spawn(body).expect("a thread at start");
    (commits, ended)
}

/// Nobody waits for a thread that has ended, or panicked.
struct CloseAtEnd(Arc<Semaphore>);

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn commit(
    store: &dyn Store,
    deliver: &Deliver,
    metrics: &Metrics,
    batches: &Receiver<Outcome>,
    free: &Semaphore,
) -> Result<(), Error> {
    while let Ok(batch) = batches.recv() {
        let (writes, answers) = (batch.writes.len(), answers(&batch));
        let begun = Instant::now();
        if writes > 0 {
            store.commit(&batch.writes)?;
            metrics.commits.add(begun.elapsed());
        }
        if (1..SMALL).contains(&writes) {
            let patience = (PATIENCE * begun.elapsed()).min(PATIENCE_MOST);
            deliver.batch(batch);
            deliver.gather(answers, patience);
            free.add_permits(1);
        } else {
            // The loop closes the next batch while this one is delivered.
            free.add_permits(1);
            deliver.batch(batch);
        }
    }
    Ok(())
}

fn answers(batch: &Outcome) -> usize {
    batch.effects.iter().filter(|effect| matches!(effect, Effect::Reply(..))).count()
}
