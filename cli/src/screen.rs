//! What is known about where output goes: terminal or pipe, width, colours, symbols. Asked once, at the start.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use clap::ValueEnum;

use crate::output::Format;

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless NO_COLOR is set or TERM is `dumb`
    #[default]
    Auto,
    Always,
    Never,
}

/// Where standard output and standard error lead to.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    pub(crate) format: Format,
    pub(crate) headers: bool,
    /// Only ids on standard output, no talk on standard error.
    pub(crate) quiet: bool,
    /// Columns of a table: what COLUMNS says, else those of the terminal, else as many as it takes.
    pub(crate) columns: usize,
    pub(crate) stdout_is_terminal: bool,
    pub(crate) stderr_is_terminal: bool,
    pub(crate) stdin_is_terminal: bool,
    pub(crate) paint: Paint,
    pub(crate) symbols: Symbols,
}

/// What was asked for on the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wishes {
    pub(crate) format: Option<Format>,
    pub(crate) headers: bool,
    pub(crate) quiet: bool,
    pub(crate) color: When,
}

impl Screen {
    /// Looks at the three standard streams and the environment.
    pub(crate) fn detect(wishes: Wishes) -> Screen {
        let stdout_is_terminal = std::io::stdout().is_terminal();
        let by_place = if stdout_is_terminal { Format::Table } else { Format::Tsv };
        // A table that was asked for in a pipe is not cut: there is no edge.
        let edge = if stdout_is_terminal { columns_of(std::io::stdout()) } else { usize::MAX };
        Screen {
            format: wishes.format.unwrap_or(if wishes.quiet { Format::Id } else { by_place }),
            headers: wishes.headers,
            quiet: wishes.quiet,
            columns: wished_columns(std::env::var("COLUMNS").ok().as_deref()).unwrap_or(edge),
            stdout_is_terminal,
            stderr_is_terminal: std::io::stderr().is_terminal(),
            stdin_is_terminal: std::io::stdin().is_terminal(),
            paint: Paint { on: colours(wishes.color, stdout_is_terminal) },
            symbols: Symbols { utf8: utf8() },
        }
    }

    /// The width of the terminal on standard error, for the progress bar.
    pub(crate) fn stderr_columns(&self) -> usize {
        columns_of(std::io::stderr())
    }
}

/// The columns of a terminal; the usual number where it does not know them itself.
fn columns_of(terminal: impl AsFd) -> usize {
    match rustix::termios::tcgetwinsize(terminal) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        Ok(_) | Err(_) => 80,
    }
}

/// COLUMNS, where somebody has exported it. What is no width is as good as nothing.
fn wished_columns(text: Option<&str>) -> Option<usize> {
    text?.trim().parse().ok().filter(|columns| *columns > 0)
}

fn colours(when: When, terminal: bool) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto if set("NO_COLOR") => false,
        When::Auto if set("CLICOLOR_FORCE") => true,
        When::Auto => terminal && std::env::var_os("TERM").is_some_and(|term| term != "dumb"),
    }
}

fn utf8() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// Colours, or nothing. A state always has its word as well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// For headers.
    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// The state's word in its colour.
    pub(crate) fn state(self, word: &str) -> String {
        match word.trim() {
            "succeeded" => self.with("32", word),
            "failed" => self.with("31", word),
            "running" => self.with("36", word),
            "cancelled" | "skipped" | "backoff" | "blocked" | "paused" => self.with("33", word),
            _ => word.to_owned(),
        }
    }

    /// True if colour sequences may be sent.
    pub(crate) fn is_on(self) -> bool {
        self.on
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Symbols, or their ASCII stand-ins where the locale is not UTF-8.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbols {
    utf8: bool,
}

impl Symbols {
    /// Before what failed or stands in the way.
    pub(crate) fn cross(self) -> &'static str {
        if self.utf8 { "✗" } else { "x" }
    }

    /// Between a prefix and a line of output.
    pub(crate) fn bar(self) -> &'static str {
        if self.utf8 { "│" } else { "|" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_a_positive_number_or_nothing() {
        assert_eq!(wished_columns(Some(" 20 ")), Some(20));
        for nothing in [None, Some(""), Some("0"), Some("-5"), Some("many"), Some("99999999999999999999999")]
        {
            assert_eq!(wished_columns(nothing), None, "{nothing:?}");
        }
    }
}
