//! What is told while a bench runs: a line on a terminal, drawn anew some times a second; elsewhere one now and then.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::screen::Screen;
use crate::text;

use super::case::Variant;

const REDRAW: Duration = Duration::from_millis(200);
/// Often enough for a log file to show life.
const PLAIN: Duration = Duration::from_secs(10);

/// Tells how far it is, on standard error.
#[derive(Debug)]
pub(super) struct Telling {
    style: Style,
    columns: usize,
    what: String,
    tasks: u32,
    began: Instant,
    on_screen: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Line,
    Plain,
    Nothing,
}

impl Telling {
    pub(super) fn new(screen: &Screen) -> Telling {
        let style = match (screen.quiet, screen.stderr_is_terminal) {
            (true, _) => Style::Nothing,
            (false, true) => Style::Line,
            (false, false) => Style::Plain,
        };
        Telling {
            style,
            columns: screen.stderr_columns(),
            what: "the machine itself".to_owned(),
            tasks: 0,
            began: Instant::now(),
            on_screen: false,
        }
    }

    /// A trial begins: which of how many.
    pub(super) fn begin(&mut self, variant: &Variant, number: usize, of: usize) {
        let (case, name) = (variant.case.name(), &variant.name);
        self.what = format!("{number}/{of}  {case} {name}");
        self.tasks = variant.tasks;
        self.began = Instant::now();
    }

    /// Between two looks at the work.
    pub(super) fn pause(&self) -> Duration {
        match self.style {
            Style::Line => REDRAW,
            Style::Plain | Style::Nothing => PLAIN,
        }
    }

    /// So many operations are done.
    pub(super) fn look(&mut self, done: u64) {
        let elapsed = self.began.elapsed();
        if self.style == Style::Nothing || (self.style == Style::Plain && elapsed < PLAIN) {
            return;
        }
        let mut line = format!("bench  {}  {}", self.what, text::age(elapsed.as_millis() as u64));
        if done > 0 {
            line.push_str(&format!("  {done} of {}", self.tasks));
        }
        let mut to = std::io::stderr().lock();
        // A closed standard error must not end the bench: it carries no data.
        let _ = match self.style {
            Style::Line => write!(to, "\r\x1b[K{}", text::fit(&line, self.columns.saturating_sub(1))),
            Style::Plain | Style::Nothing => writeln!(to, "{line}"),
        };
        let _ = to.flush();
        self.on_screen = self.style == Style::Line;
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        if self.on_screen {
            let mut to = std::io::stderr().lock();
            let _ = write!(to, "\r\x1b[K");
            let _ = to.flush();
        }
    }
}
