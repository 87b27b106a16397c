//! A map that runs: prints and logs what ends, until all has ended.

use std::time::Duration;

use taskq_client::model::{Job, Outcome, State, Task, state_word};
use taskq_client::{Client, InOrder, JobHandle, Results, ResultsQuery};

use super::write;
use crate::attach::{self, Waiting};
use crate::context::{self, Context};
use crate::exit::{self, Exit};
use crate::holes::Holes;
use crate::interrupt::Interrupts;
use crate::joblog::{Line, Writer};
use crate::output::Format;
use crate::progress::Progress;
use crate::view::TaskView;
use crate::{text, verdict};

/// A map that runs.
pub(super) struct Attached<'a> {
    pub(super) context: &'a Context,
    pub(super) client: &'a Client,
    /// The command of an element, as one would type it.
    pub(super) commands: &'a (dyn Fn(u32) -> anyhow::Result<String> + Sync),
    pub(super) progress: Progress,
    pub(super) joblog: Option<Writer>,
    pub(super) holes: Holes,
    /// The tasks are calls: their values are the data, and what they print goes to standard error.
    pub(super) calls: bool,
    /// A value was not what it should be.
    pub(super) broken: bool,
}

/// How a map ended.
pub(super) struct Ended {
    pub(super) exit: Exit,
    /// None if it goes on without us.
    pub(super) job: Option<Job>,
}

impl Attached<'_> {
    /// Prints and logs until all has ended; the job itself is shown by the caller.
    pub(super) async fn collect(
        mut self,
        handle: &JobHandle,
        unordered: bool,
        exit_zero: bool,
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<Ended> {
        let query = ResultsQuery {
            cursor: 0,
            with_output: unordered,
            with_values: unordered && self.calls,
            follow: true,
        };
        let mut ends: Option<Results> = Some(handle.results(query));
        let mut in_order: Option<InOrder> = match unordered {
            true => None,
            false => {
                let query = ResultsQuery { with_output: true, with_values: self.calls, ..query };
                Some(handle.results_in_order(query).await?)
            }
        };
        let mut beat = tokio::time::interval(Duration::from_millis(250));
        let mut waiting = Waiting::new();
        let mut interrupted = false;
        while ends.is_some() || in_order.is_some() {
            tokio::select! {
                end = async { ends.as_mut()?.next().await }, if ends.is_some() => match end {
                    Some(end) => {
                        let task = end?.task;
                        self.ended(&task)?;
                        if unordered {
                            self.print(&task, handle).await?;
                        }
                    }
                    None => ends = None,
                },
                task = async { in_order.as_mut()?.next().await }, if in_order.is_some() => match task {
                    Some(task) => self.print(&task?, handle).await?,
                    None => in_order = None,
                },
                _ = beat.tick() => {
                    if let Some(joblog) = &mut self.joblog {
                        joblog.flush()?;
                    }
                    let job = handle.job().await?;
                    self.progress.update(&job);
                    waiting.saw(&job);
                    if self.calls && let Some(reason) = waiting.tell() {
                        self.progress.hide();
                        self.context.say(&attach::waits(handle, &waiting, &reason, true).await);
                    }
                }
                () = interrupts.next() => {
                    self.progress.hide();
                    if interrupted {
                        attach::say_detached(self.context, handle).await;
                        return Ok(Ended { exit: Exit::Interrupted, job: None });
                    }
                    interrupted = true;
                    self.context.say(&format!("taskq: cancelling job {}; Ctrl-C again to not wait for its end", handle.id()));
                    handle.cancel().await?;
                }
            }
        }
        if let Some(joblog) = &mut self.joblog {
            joblog.flush()?;
        }
        self.progress.hide();
        let job = handle.job().await?;
        if let Some(line) = verdict::of_many(&self.context.screen, &job) {
            self.context.say(&line);
        }
        let exit = match (interrupted, exit_zero) {
            (true, _) => Exit::Interrupted,
            (false, true) => Exit::Ok,
            (false, false) => match exit::of_jobs([&job]) {
                Exit::Ok if self.broken => Exit::TasksFailed,
                exit => exit,
            },
        };
        Ok(Ended { exit: self.holes.over(exit), job: Some(job) })
    }

    /// One more end, in the order in which they happen.
    fn ended(&mut self, task: &Task) -> anyhow::Result<()> {
        if self.joblog.is_none() && task.state() == State::Succeeded {
            return Ok(());
        }
        let command = (self.commands)(task.index)?;
        if task.state() == State::Failed && !self.context.screen.quiet {
            let how = task.outcome.as_ref().map(verdict::how).unwrap_or_default();
            self.progress.hide();
            context::eprint_line(&format!(
                "{} task {}.{} failed: {}   {}",
                self.context.screen.symbols.cross(),
                task.job_id,
                task.index,
                text::visible(&how),
                text::short(&command)
            ));
        }
        if let Some(joblog) = &mut self.joblog {
            joblog.add(&line_of(task, command))?;
        }
        Ok(())
    }

    /// The output of one task. A reader that went away ends the map as it would end a local program.
    async fn print(&mut self, task: &Task, handle: &JobHandle) -> anyhow::Result<()> {
        self.progress.hide();
        let printed = match self.context.screen.format {
            Format::Json => Ok(()),
            Format::Jsonl if self.calls => TaskView::new(task).in_codec("json").print_line(),
            Format::Jsonl => TaskView::new(task).print_line(),
            Format::Table | Format::Tsv | Format::Id if self.calls => {
                let written = write::value(self.client, &self.context.screen, task, &mut self.holes).await;
                written.map(|problem| {
                    if let Some(problem) = problem {
                        self.context.say(&format!("{} {problem}", self.context.screen.symbols.cross()));
                        self.broken = true;
                    }
                })
            }
            Format::Table | Format::Tsv | Format::Id => {
                write::output(self.client, &self.context.screen, task, &mut self.holes).await
            }
        };
        if let Err(error) = &printed
            && exit::of_error(error) == Exit::ClosedPipe
        {
            handle.cancel().await?;
        }
        printed
    }
}

/// The status of a process. Where none has left one, as of a call, it is the one that stands for how the task ended: what
/// did not succeed has no line of zeros.
fn exit_of(task: &Task, outcome: &Outcome) -> i32 {
    if task.state() == State::Succeeded || outcome.exit_code != 0 || outcome.signal != 0 {
        return outcome.exit_code;
    }
    exit::of_task(task).code().into()
}

fn line_of(task: &Task, command: String) -> Line {
    let outcome = task.outcome.clone().unwrap_or_default();
    let usage = outcome.usage.unwrap_or_default();
    Line {
        seq: u64::from(task.index) + 1,
        host: if outcome.worker.is_empty() { task.worker.clone() } else { outcome.worker.clone() },
        start_s: outcome.started_unix_ms as f64 / 1_000.0,
        runtime_s: usage.wall_us as f64 / 1_000_000.0,
        exit: exit_of(task, &outcome),
        signal: outcome.signal,
        state: state_word(task.state()).to_owned(),
        attempt: task.attempt,
        job: task.job_id,
        peak_rss_bytes: usage.peak_rss_bytes,
        command,
    }
}

#[cfg(test)]
mod tests {
    use taskq_client::model::outcome::Kind;

    use super::*;

    #[test]
    fn a_call_without_a_value_has_a_status_in_the_job_log() {
        let line = |state: State, kind: Kind, exit_code, signal| {
            let outcome = Outcome { kind: kind.into(), exit_code, signal, ..Outcome::default() };
            let task = Task { state: state.into(), outcome: Some(outcome), ..Task::default() };
            let line = line_of(&task, "f(1)".into());
            (line.exit, line.signal)
        };
        assert_eq!(line(State::Succeeded, Kind::Completed, 0, 0), (0, 0));
        assert_eq!(line(State::Failed, Kind::Failed, 0, 0), (1, 0));
        assert_eq!(line(State::Failed, Kind::Signaled, 0, 6), (0, 6));
        assert_eq!(line(State::Failed, Kind::TimedOut, 0, 0), (124, 0));
        assert_eq!(line(State::Failed, Kind::TimedOut, 0, 15), (0, 15));
        assert_eq!(line(State::Cancelled, Kind::Cancelled, 0, 0), (6, 0));
        assert_eq!(line(State::Failed, Kind::Exited, 3, 0), (3, 0));
    }
}
