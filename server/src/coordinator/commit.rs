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
    time::Instant,
};

use taskq_core::effect::Outcome;
use tokio::sync::oneshot;

use crate::{
    coordinator::deliver::Deliver,
    metrics::Metrics,
    store::{Error, Store},
};

/// Batches that may wait behind the one on its way to the disk. One: the loop fills the next while this one syncs.
const AHEAD: usize = 1;

/// Starts the thread. It ends when the sender is dropped, or with the store's first error; the receiver then has its
/// last word, or nothing if it panicked.
pub fn start(
    store: Arc<dyn Store>,
    deliver: Deliver,
    metrics: Arc<Metrics>,
) -> (SyncSender<Outcome>, oneshot::Receiver<Result<(), Error>>) {
    let (sender, batches) = sync_channel(AHEAD);
    let (last_word, ended) = oneshot::channel();
    let body = move || {
        let result = commit(&*store, &deliver, &metrics, &batches);
        // Before anybody hears of the end: the loop must not hand over any more.
        drop(batches);
        // Nobody waits for it any more when the coordinator has gone already.
        let _heard = last_word.send(result);
    };
    thread::Builder::new().name("commit".into()).spawn(body).expect("a thread at start");
    (sender, ended)
}

fn commit(
    store: &dyn Store,
    deliver: &Deliver,
    metrics: &Metrics,
    batches: &Receiver<Outcome>,
) -> Result<(), Error> {
    while let Ok(batch) = batches.recv() {
        if !batch.writes.is_empty() {
            let begun = Instant::now();
            store.commit(&batch.writes)?;
            metrics.committed(begun.elapsed());
        }
        deliver.batch(batch);
    }
    Ok(())
}
