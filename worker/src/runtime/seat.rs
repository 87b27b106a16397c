//! A call that was handed to a thread behind others, and may have to be taken back before its turn: the one before it does
//! not end, or it is cancelled.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::call::{Call, Held, end_stopped};
use super::{Attempt, Shared, Stop};
use crate::attempt::Task;

/// Where the call waits; known to its thread and to the worker's loop.
pub(super) struct Seat(Mutex<Sitting>);

enum Sitting {
    Waiting(Task),
    Begun(Held),
    /// Taken back, or over.
    Empty,
}

impl Seat {
    pub(super) fn new(task: Task) -> Arc<Seat> {
        Arc::new(Seat(Mutex::new(Sitting::Waiting(task))))
    }

    fn sitting(&self) -> MutexGuard<'_, Sitting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its turn has come. None if it was taken back.
    pub(super) fn begin(&self, shared: &Arc<Shared>, slot: u32) -> Option<Arc<Call>> {
        let mut sitting = self.sitting();
        match std::mem::replace(&mut *sitting, Sitting::Empty) {
            Sitting::Waiting(task) => {
                let call = Call::begin(shared, task, slot);
                *sitting = Sitting::Begun(Held::new(Arc::clone(&call), None));
                Some(call)
            }
            Sitting::Begun(_) => unreachable!("a turn comes once"),
            Sitting::Empty => None,
        }
    }

    fn take_back(&self) -> Option<Task> {
        let mut sitting = self.sitting();
        match std::mem::replace(&mut *sitting, Sitting::Empty) {
            Sitting::Waiting(task) => Some(task),
            begun => {
                *sitting = begun;
                None
            }
        }
    }
}

/// The worker's hold on it.
pub(super) struct Follower {
    seat: Arc<Seat>,
    shared: Arc<Shared>,
}

impl Follower {
    pub(super) fn new(seat: Arc<Seat>, shared: Arc<Shared>) -> Follower {
        Follower { seat, shared }
    }
}

impl Attempt for Follower {
    fn stop(&self, why: Stop) {
        if let Some(task) = self.seat.take_back() {
            end_stopped(&self.shared, &task, why);
        } else if let Sitting::Begun(held) = &*self.seat.sitting() {
            held.stop(why);
        }
    }

    fn fence(&self) {
        self.stop(Stop::Stale);
    }

    fn take_back(&self) -> bool {
        self.seat.take_back().is_some()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        *self.seat.sitting() = Sitting::Empty;
    }
}
