//! Which call this thread works for. Set around a blocking call, and around each poll of an asynchronous one, so that
//! what is printed and logged finds its task.

use std::cell::RefCell;
use std::fmt::Arguments;
use std::io::{self, Write};

use crate::attempt::Stream;
use crate::context::Context;

thread_local! {
    static CURRENT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

/// While it lives, this thread works for a call.
pub(crate) struct Here {
    before: Option<Context>,
}

/// This thread works for a call until the returned value is dropped.
pub(crate) fn enter(context: &Context) -> Here {
    Here { before: CURRENT.replace(Some(context.clone())) }
}

impl Drop for Here {
    fn drop(&mut self) {
        CURRENT.set(self.before.take());
    }
}

/// The call that this thread works for; None outside of calls, and in threads that a function has started itself.
#[must_use]
pub fn current() -> Option<Context> {
    // A thread that ends has no call any more.
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// Where the macros write: to the task of the current call, else to the process's own stream.
fn print(stream: Stream, text: Arguments<'_>) {
    let result = match (current(), stream) {
        (Some(context), Stream::Stdout) => whole(&mut context.stdout(), text),
        (Some(context), Stream::Stderr) => whole(&mut context.stderr(), text),
        (None, Stream::Stdout) => io::stdout().write_fmt(text),
        (None, Stream::Stderr) => io::stderr().write_fmt(text),
    };
    // As with std's macros, there is nobody left to tell; unlike them, it does not cost the call its life.
    drop(result);
}

/// In one piece, so that lines of several threads do not mix.
fn whole(out: &mut impl Write, text: Arguments<'_>) -> io::Result<()> {
    match text.as_str() {
        Some(text) => out.write_all(text.as_bytes()),
        None => out.write_all(text.to_string().as_bytes()),
    }
}

#[doc(hidden)]
pub fn print_stdout(text: Arguments<'_>) {
    print(Stream::Stdout, text);
}

#[doc(hidden)]
pub fn print_stderr(text: Arguments<'_>) {
    print(Stream::Stderr, text);
}

/// As [`std::print!`], but within a call the text becomes output of its task.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::print_stdout(::std::format_args!($($arg)*)) };
}

/// As [`std::println!`], but within a call the line becomes output of its task.
#[macro_export]
macro_rules! println {
    () => { $crate::print_stdout(::std::format_args!("\n")) };
    ($($arg:tt)*) => { $crate::print_stdout(::std::format_args!("{}\n", ::std::format_args!($($arg)*))) };
}

/// As [`std::eprintln!`], but within a call the line becomes output of its task, on its standard error.
#[macro_export]
macro_rules! eprintln {
    () => { $crate::print_stderr(::std::format_args!("\n")) };
    ($($arg:tt)*) => { $crate::print_stderr(::std::format_args!("{}\n", ::std::format_args!($($arg)*))) };
}
