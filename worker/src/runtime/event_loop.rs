//! Asynchronous functions: futures on an event loop of their own, not the one that sends heartbeats.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Waker, Poll};

use tokio::runtime::Runtime as Loop;

use super::call::{Call, Held};
use super::threads::be_nice;
use super::{Attempt, Runtime, Shared};
use crate::attempt::{Task, Usage};
use crate::panics::caught;
use crate::registry::{Function, Promise, Registry};

/// The loop, with as many threads as the machine has cores.
pub(crate) struct EventLoop {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    /// None once it is gone.
    event_loop: Option<Loop>,
}

impl EventLoop {
    pub(crate) fn start(shared: Arc<Shared>, registry: Arc<Registry>) -> io::Result<EventLoop> {
        let nice = shared.surroundings.nice;
        let event_loop = tokio::runtime::Builder::new_multi_thread()
            .thread_name("taskq-async")
            .on_thread_start(move || be_nice(nice))
            .enable_all()
            .build()?;
        Ok(EventLoop { shared, registry, event_loop: Some(event_loop) })
    }
}

impl Runtime for EventLoop {
    fn start(&self, task: Task, slot: u32) -> Box<dyn Attempt> {
        let name = &task.call().expect("only calls come here").function;
        let Some(Function::Asynchronous(function)) = self.registry.get(name) else {
            unreachable!("only asynchronous functions come here")
        };
        let function = Arc::clone(function);
        let call = Call::begin(&self.shared, task, slot);
        call.live().begun();
        let promise = function(call.argument(), call.context().clone());
        let running = Running { call: Arc::clone(&call), promise: Some(promise) };
        let future = self.event_loop.as_ref().expect("it lives until it is dropped").spawn(running);
        Box::new(Held::new(call, Some(future.abort_handle())))
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        // Not to wait for futures that do not yield; nor may one wait inside another loop.
        if let Some(event_loop) = self.event_loop.take() {
            event_loop.shutdown_background();
        }
    }
}

/// A call on the loop. Ends it exactly once: when the function returns or panics, or when it is dropped before.
struct Running {
    call: Arc<Call>,
    /// None once that is told.
    promise: Option<Promise>,
}

impl Future for Running {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, waker: &mut Waker<'_>) -> Poll<()> {
        let Running { call, promise } = &mut *self;
        let Some(future) = promise else { return Poll::Ready(()) };
        let result = match caught(call.context(), || future.as_mut().poll(waker)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(returned)) => returned,
            Err(fault) => Err(fault),
        };
        let gone = drop_future(call, promise);
        call.tell_returned(Some(gone.and(result)), Usage::default());
        Poll::Ready(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.promise.is_some() {
            // That it panics on its way out is no news: it has no value anyway.
            let _ = drop_future(&self.call, &mut self.promise);
            self.call.tell_returned(None, Usage::default());
        }
    }
}

/// What a future holds is a part of its call, and may print or panic when it goes.
fn drop_future(call: &Call, promise: &mut Option<Promise>) -> Result<(), Box<crate::attempt::Fault>> {
    let future = promise.take();
    caught(call.context(), || drop(future))
}
