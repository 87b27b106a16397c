//! A look at standard output before std has touched it: std puts `/dev/null` in the place of a closed one
//! before `main`. A command that must not lose what it prints asks here.
#![expect(unsafe_code, reason = "std offers no way to run before it prepares the standard streams")]

use std::sync::atomic::{AtomicBool, Ordering};

static WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// True if this process was started with a closed standard output, so that what is written there would be
/// lost without a word.
#[must_use]
pub fn stdout_was_closed() -> bool {
    WAS_CLOSED.load(Ordering::Relaxed)
}

extern "C" fn look() {
    let closed = rustix::io::fcntl_getfd(rustix::stdio::stdout()) == Err(rustix::io::Errno::BADF);
    WAS_CLOSED.store(closed, Ordering::Relaxed);
}

// SAFETY: the loader calls what stands here, one after another, before `main`; an `extern "C"` function may
// ignore the arguments it is given. It allocates nothing and needs nothing of std's runtime.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = look;
