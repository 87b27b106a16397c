//! Turns a panic of the storage engine into a value. The engine panics on files that it does not expect, and a torn
//! file must become a message to the operator, not a crash.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs the engine and returns the text of its panic, if it panics; nothing is printed then.
pub(super) fn catch<T>(act: impl FnOnce() -> T) -> Result<T, String> {
    install();
    let before = QUIET.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(act));
    QUIET.set(before);
    result.map_err(|payload| match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => (*other.downcast::<&str>().unwrap_or(Box::new("unknown panic"))).to_owned(),
    })
}

/// A panic hook that is silent inside [`catch`] and on the engine's own threads, and the former one elsewhere.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let former = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            let engine = thread.name().is_some_and(|n| n.starts_with("sled-") || n.contains("log flusher"));
            if engine || QUIET.get() {
                tracing::debug!(panic = %info, "the storage engine panicked");
            } else {
                former(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::catch;

    #[test]
    fn a_panic_becomes_its_text() {
        assert_eq!(catch(|| 3), Ok(3));
        assert_eq!(catch(|| panic!("torn at {}", 7)), Err::<(), _>("torn at 7".to_owned()));
        assert_eq!(catch(|| panic!("plain")), Err::<(), _>("plain".to_owned()));
    }
}
