//! A function that panics costs its call, not the worker: where and why is noted for the call, and told on the task's
//! standard error. Panics outside of calls are nobody's business here.

use std::any::Any;
use std::cell::RefCell;
use std::io::Write as _;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

use crate::attempt::{Cause, Fault};
use crate::context::Context;
use crate::current::{self, current};
use crate::registry::Returned;

thread_local! {
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Listens to panics of calls from now on; other panics go where they went before.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| match current() {
            Some(context) => note(info, &context),
            None => before(info),
        }));
    });
}

fn note(info: &PanicHookInfo<'_>, context: &Context) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let words = words(info.payload());
    // Nobody is left to be told if even that fails.
    let _ = writeln!(context.stderr(), "panicked at {place}:\n{words}");
    let backtrace = std::backtrace::Backtrace::capture();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        let _ = writeln!(context.stderr(), "{backtrace}");
    }
    PLACE.set(Some(place));
}

/// What was panicked with.
pub(crate) fn words(payload: &dyn Any) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a value that is no text").to_owned()
}

/// Runs a part of a call. A panic becomes a fault.
pub(crate) fn caught<T>(context: &Context, part: impl FnOnce() -> T) -> Result<T, Box<Fault>> {
    let _here = current::enter(context);
    panic::catch_unwind(AssertUnwindSafe(part)).map_err(|payload| {
        let mut fault = Fault::new(Cause::Panic, words(payload.as_ref())).of("panic");
        fault.place = PLACE.take().unwrap_or_default();
        fault
    })
}

/// Runs a whole call.
pub(crate) fn call(context: &Context, call: impl FnOnce() -> Returned) -> Returned {
    caught(context, call).and_then(|returned| returned)
}
