//! What is said when the log is JSON and something else than the log has to be said: a panic, and why the program ends.
//! Each line is one object then, whatever happens.

use std::any::Any;

use crate::config::LogFormat;

/// Panics become lines of the log from now on, if it is JSON; people get Rust's own words.
pub fn listen_to_panics(format: LogFormat) {
    match format {
        LogFormat::Text => {}
        LogFormat::Json => std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
            let words = words(panic.payload());
            tracing::error!(place, thread, "panicked: {words}");
        })),
    }
}

fn words(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("something that is no text")
}

/// Why the program ends.
pub fn failed(format: LogFormat, why: &str, exit_code: u8) {
    match format {
        LogFormat::Text => eprintln!("error: {why}"),
        LogFormat::Json => tracing::error!(exit_code, "{why}"),
    }
}
