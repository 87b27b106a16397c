//! The progress of a job on standard error: a bar on a terminal, redrawn at most ten times a second; elsewhere
//! a plain line every ten seconds. No escape sequence ever reaches a pipe.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use taskq_client::model::{self, Counts, Job};

use crate::screen::Screen;
use crate::text;

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Style {
    /// A bar on a terminal, otherwise plain lines
    #[default]
    Auto,
    /// A bar (plain lines if standard error is not a terminal)
    Bar,
    /// A plain line every ten seconds
    Plain,
    /// Nothing
    None,
}

/// The flags about progress.
#[derive(clap::Args, Clone, Copy, Debug)]
#[group(skip)]
pub(crate) struct Args {
    /// How progress is shown on standard error
    #[arg(long, value_enum, default_value_t = Style::Auto, value_name = "STYLE")]
    progress: Style,
    /// Show a progress bar; the same as --progress bar
    #[arg(long, conflicts_with = "progress")]
    bar: bool,
}

impl Args {
    /// True if the user asked for progress in so many words.
    pub(crate) fn asked(self) -> bool {
        self.bar || matches!(self.progress, Style::Bar | Style::Plain)
    }

    /// No progress at all.
    pub(crate) fn none() -> Args {
        Args { progress: Style::None, bar: false }
    }

    fn style(self) -> Style {
        if self.bar { Style::Bar } else { self.progress }
    }
}

/// Redrawing more often than this only costs.
const REDRAW: Duration = Duration::from_millis(100);
/// Often enough for a log file to show life, rarely enough not to fill it.
const PLAIN: Duration = Duration::from_secs(10);

/// How wide a bar is.
const CELLS: u32 = 18;

/// Shows how far a job is.
pub(crate) struct Progress {
    style: Style,
    columns: usize,
    label: String,
    began: Instant,
    /// What had ended when we began to look, so that the rate is ours.
    ended_before: Option<u32>,
    drawn: Option<Instant>,
    on_screen: bool,
    /// Not the counts are shown, but what a call says of itself.
    of_call: bool,
}

impl Progress {
    /// Nothing is drawn before the first `update`.
    pub(crate) fn new(args: Args, screen: &Screen, label: String) -> Progress {
        let style = match args.style() {
            Style::None => Style::None,
            _ if screen.quiet => Style::None,
            Style::Plain => Style::Plain,
            Style::Auto | Style::Bar if screen.stderr_is_terminal => Style::Bar,
            Style::Auto | Style::Bar => Style::Plain,
        };
        Progress {
            style,
            columns: screen.stderr_columns(),
            label,
            began: Instant::now(),
            ended_before: None,
            drawn: None,
            on_screen: false,
            of_call: false,
        }
    }

    /// Of one call of a function, in its own words.
    pub(crate) fn of_call(screen: &Screen, function: &str) -> Progress {
        let args = Args { progress: Style::Auto, bar: false };
        let mut progress = Progress::new(args, screen, function.to_owned());
        progress.of_call = true;
        progress
    }

    /// Shows how far the job is if it is time to.
    pub(crate) fn update(&mut self, job: &Job) {
        if self.of_call {
            if let Some(said) = &job.progress {
                let line = render_call(&self.label, said, self.style == Style::Bar);
                self.draw(&line);
            }
            return;
        }
        let counts = &job.counts.unwrap_or_default();
        let ended = ended(counts);
        let since = ended - (*self.ended_before.get_or_insert(ended)).min(ended);
        let line = render(&self.label, counts, since, self.began.elapsed(), self.style == Style::Bar);
        self.draw(&line);
    }

    fn draw(&mut self, line: &str) {
        let now = Instant::now();
        let pause = match self.style {
            Style::None => return,
            Style::Plain => PLAIN,
            Style::Bar | Style::Auto => REDRAW,
        };
        // The first plain line comes after the first pause: short jobs need none.
        let last = match self.style {
            Style::Plain => self.drawn.unwrap_or(self.began),
            _ => self.drawn.unwrap_or(self.began - pause.min(now - self.began)),
        };
        if now - last < pause && self.on_screen_or_plain() {
            return;
        }
        self.drawn = Some(now);
        let mut to = std::io::stderr().lock();
        // A closed standard error must not end the command: it carries no data.
        let _ = match self.style {
            Style::Bar => write!(to, "\r\x1b[K{}", text::fit(line, self.columns.saturating_sub(1))),
            _ => writeln!(to, "{line}"),
        };
        let _ = to.flush();
        self.on_screen = self.style == Style::Bar;
    }

    /// Takes the bar off the screen, before other output.
    pub(crate) fn hide(&mut self) {
        if std::mem::take(&mut self.on_screen) {
            let mut to = std::io::stderr().lock();
            let _ = write!(to, "\r\x1b[K");
            let _ = to.flush();
        }
    }

    fn on_screen_or_plain(&self) -> bool {
        self.on_screen || self.style == Style::Plain || self.drawn.is_some()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.hide();
    }
}

/// How many tasks have ended, however.
pub(crate) fn ended(counts: &Counts) -> u32 {
    counts.succeeded + counts.failed + counts.cancelled + counts.skipped + counts.expired
}

/// `fib  [####----]  42%  half of the photos`
fn render_call(function: &str, said: &model::Progress, bar: bool) -> String {
    let mut line = text::visible(function).into_owned();
    let fraction = said.fraction.clamp(0.0, 1.0);
    if bar {
        let full = (fraction * f64::from(CELLS)) as usize;
        line.push_str(&format!("  [{}{}]", "#".repeat(full), "-".repeat(CELLS as usize - full)));
    }
    line.push_str(&format!("  {:.0}%", fraction * 100.0));
    if !said.note.is_empty() {
        line.push_str(&format!("  {}", text::visible(&said.note)));
    }
    line
}

/// `43 fetch  [####----]  5,812/10,000  412/s  14 running  9 failed  eta 10s`
fn render(label: &str, counts: &Counts, ended_since: u32, elapsed: Duration, bar: bool) -> String {
    let done = ended(counts);
    let mut line = text::visible(label).into_owned();
    if bar {
        let full = u64::from(CELLS) * u64::from(done);
        let full = full.checked_div(u64::from(counts.total)).unwrap_or(u64::from(CELLS)) as usize;
        line.push_str(&format!("  [{}{}]", "#".repeat(full), "-".repeat(CELLS as usize - full)));
    }
    line.push_str(&format!("  {}/{}", grouped(done), grouped(counts.total)));
    let rate = f64::from(ended_since) / elapsed.as_secs_f64().max(0.001);
    if ended_since > 0 {
        line.push_str(&if rate < 10.0 { format!("  {rate:.1}/s") } else { format!("  {rate:.0}/s") });
    }
    for (count, word) in [
        (counts.running, "running"),
        (counts.backoff, "backing off"),
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
        (counts.skipped, "skipped"),
    ] {
        if count > 0 {
            line.push_str(&format!("  {} {word}", grouped(count)));
        }
    }
    if ended_since > 0 && done < counts.total {
        let left_ms = f64::from(counts.total - done) / rate * 1_000.0;
        line.push_str(&format!("  eta {}", text::age(left_ms as u64)));
    }
    line
}

fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let counts = Counts { total: 10_000, running: 14, succeeded: 5_803, failed: 9, ..Default::default() };
        let line = render("43 fetch", &counts, 4_120, Duration::from_secs(10), true);
        assert_eq!(
            line,
            "43 fetch  [##########--------]  5,812/10,000  412/s  14 running  9 failed  eta 10s"
        );
        let plain = render("43 x", &Counts::default(), 0, Duration::ZERO, false);
        assert_eq!(plain, "43 x  0/0");
    }

    #[test]
    fn a_call_says_how_far_it_is_in_its_own_words() {
        let said = model::Progress { index: 0, fraction: 0.5, note: "half\n".into() };
        assert_eq!(render_call("fib", &said, true), "fib  [#########---------]  50%  half\\n");
        let odd = model::Progress { fraction: 7.0, ..Default::default() };
        assert_eq!(render_call("fib", &odd, false), "fib  100%");
    }

    #[test]
    fn digits_are_grouped() {
        assert_eq!([grouped(7), grouped(1_000), grouped(4_294_967_295)], ["7", "1,000", "4,294,967,295"]);
    }
}
