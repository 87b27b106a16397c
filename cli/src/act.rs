//! What `cancel`, `retry`, `pause`, `resume` and `rm` share: named jobs or a filter, a dry run, a question before
//! many jobs are touched, and the report.

use std::io::{BufRead, Write};

use serde::Serialize;
use taskq_client::Client;
use taskq_client::model::{Acted, JobTasks, Selection};

use crate::clock::UnixMs;
use crate::context::{self, Context};
use crate::exit::{self, Exit, Failure};
use crate::filter::Filter;
use crate::output::{self, Column, View};
use crate::select::{Select, Typed};

/// Which jobs or tasks, and how careful. What may be named, `S`, is up to the command.
#[derive(clap::Args, Clone, Debug)]
#[group(skip)]
pub(crate) struct Args<S: Select> {
    #[arg(value_name = "SELECTOR", help = S::HELP)]
    selectors: Vec<Typed<S>>,
    #[command(flatten)]
    filter: Filter,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before acting on what a filter matches
    #[arg(short, long)]
    yes: bool,
    /// It is no error if nothing matches
    #[arg(long)]
    allow_empty: bool,
}

/// One of the five.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Cancel,
    Retry,
    Pause,
    Resume,
    Remove,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Verb::Cancel => "cancel",
            Verb::Retry => "retry",
            Verb::Pause => "pause",
            Verb::Resume => "resume",
            Verb::Remove => "remove",
        }
    }

    /// What is typed.
    fn command(self) -> &'static str {
        match self {
            Verb::Remove => "rm",
            Verb::Cancel | Verb::Retry | Verb::Pause | Verb::Resume => self.word(),
        }
    }

    /// What has been done.
    fn done(self) -> &'static str {
        match self {
            Verb::Cancel => "cancelled",
            Verb::Retry => "retried",
            Verb::Pause => "paused",
            Verb::Resume => "resumed",
            Verb::Remove => "removed",
        }
    }

    async fn call(self, client: &Client, what: Selection, dry_run: bool) -> anyhow::Result<Vec<Acted>> {
        Ok(match self {
            Verb::Cancel => client.cancel(what, dry_run).await?,
            Verb::Retry => client.retry(what, dry_run).await?,
            Verb::Pause => client.pause(what, dry_run).await?,
            Verb::Resume => client.resume(what, dry_run).await?,
            Verb::Remove => client.remove(what, dry_run).await?,
        })
    }
}

/// Does it, and reports.
pub(crate) async fn run<S: Select>(verb: Verb, args: Args<S>, context: &Context) -> anyhow::Result<Exit> {
    if args.selectors.is_empty() == args.filter.is_empty() {
        let (word, command) = (verb.word(), verb.command());
        return Err(Failure::usage(format!(
            "say what to {word}: jobs by number (taskq {command} 42) or by a filter (taskq {command} -q QUEUE -s failed), \
             not both"
        )));
    }
    let client = context.client().await?;
    let selection = match args.filter.is_empty() {
        true => {
            let chosen = context.choose(&client, &args.selectors).await?;
            Selection { jobs: chosen.iter().map(context::job_tasks).collect(), filter: None }
        }
        false => matching(&client, &args.filter).await?,
    };
    if selection.jobs.is_empty() && selection.filter.is_none() {
        let stdin = args.filter.is_empty();
        return no_match(
            &args,
            if stdin { "standard input named no job" } else { "the filter matched nothing" },
        );
    }
    if !args.filter.is_empty() && !args.dry_run && !args.yes {
        let would = verb.call(&client, selection.clone(), true).await?;
        if would.is_empty() {
            return no_match(&args, "the filter matched nothing");
        }
        let Some(question) = summary(verb, &would, true) else {
            return report(verb, &would, false, context);
        };
        confirm(&question, context)?;
    }
    let acted = verb.call(&client, selection, args.dry_run).await?;
    if acted.is_empty() {
        return no_match(&args, "the filter matched nothing");
    }
    report(verb, &acted, args.dry_run, context)
}

/// Jobs that one act may name: as many as the coordinator takes for a filter of its own.
const MATCHES: usize = 100_000;

/// How old a job is, is looked up here; the rest of a filter is left to the coordinator.
async fn matching(client: &Client, filter: &Filter) -> anyhow::Result<Selection> {
    let wire = context::wire_filter(filter);
    if filter.older_than.is_none() {
        return Ok(Selection { jobs: vec![], filter: Some(wire) });
    }
    let (mut listed, now) = (client.list(wire).page_size(1_000), UnixMs::now());
    let mut jobs = Vec::new();
    while let Some(job) = listed.next().await {
        let job = job?;
        if filter.is_old_enough(job.ended_unix_ms, now) {
            if jobs.len() == MATCHES {
                return Err(Failure::usage(format!(
                    "the filter matches more than {MATCHES} jobs; narrow it, and do it in parts"
                )));
            }
            jobs.push(JobTasks { job_id: job.id, indices: vec![] });
        }
    }
    Ok(Selection { jobs, filter: None })
}

fn no_match<S: Select>(args: &Args<S>, what: &str) -> anyhow::Result<Exit> {
    match args.allow_empty {
        true => Ok(Exit::Ok),
        false => Err(Failure::because(Exit::NoMatch, format!("{what} (see what there is: taskq ls)"))),
    }
}

fn confirm(question: &str, context: &Context) -> anyhow::Result<()> {
    if !context.screen.stdin_is_terminal || !context.screen.stderr_is_terminal {
        return Err(Failure::usage(format!("{question}; add -y to do it, or --dry-run to look only")));
    }
    let mut to = std::io::stderr().lock();
    let asked = write!(to, "{question}. Go on? [y/N] ").and_then(|()| to.flush());
    asked.map_err(|cause| Failure::io("cannot ask", &cause))?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|cause| Failure::io("cannot read the answer", &cause))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::because(Exit::Interrupted, "nothing was done")),
    }
}

/// `would retry 812 tasks of 3 jobs (43: 800, 39: 11, 12: 1)`; `removed 1 job with 3 tasks (7: 3)`;
/// `cancelling 3 tasks of 1 job (7: 3); 2 of them run and are being stopped   until they have ended: taskq wait 7`
///
/// A job with a note and no tasks was left as it is. `None` if that is true of all.
fn summary(verb: Verb, acted: &[Acted], dry_run: bool) -> Option<String> {
    const NAMED: usize = 5;
    let changed = |one: &&Acted| one.error_code == 0 && (one.tasks > 0 || one.note.is_empty());
    let fine: Vec<&Acted> = acted.iter().filter(changed).collect();
    if fine.is_empty() {
        return None;
    }
    let tasks = counted(fine.iter().map(|one| u64::from(one.tasks)).sum(), "task");
    let jobs = counted(fine.len() as u64, "job");
    let mut named: Vec<String> =
        fine.iter().take(NAMED).map(|one| format!("{}: {}", one.job_id, one.tasks)).collect();
    if fine.len() > NAMED {
        named.push(format!("{} more", fine.len() - NAMED));
    }
    let what = match verb {
        Verb::Cancel | Verb::Retry | Verb::Pause | Verb::Resume => format!("{tasks} of {jobs}"),
        Verb::Remove => format!("{jobs} with {tasks}"),
    };
    let stopping: u64 = fine.iter().map(|one| u64::from(one.stopping)).sum();
    let mut line = format!("{} {what} ({})", did(verb, stopping > 0, dry_run), named.join(", "));
    match (stopping, dry_run) {
        (0, _) => {}
        (some, true) => line.push_str(&format!("; {some} of them would have to be stopped first")),
        (some, false) => {
            let ids: Vec<String> = fine
                .iter()
                .filter(|one| one.stopping > 0)
                .take(NAMED)
                .map(|one| one.job_id.to_string())
                .collect();
            line.push_str(&format!(
                "; {some} of them run and are being stopped   until they have ended: taskq wait {}",
                ids.join(" ")
            ));
        }
    }
    Some(line)
}

/// `removed`, `would remove`; `cancelling` what has not ended yet.
fn did(verb: Verb, stopping: bool, dry_run: bool) -> String {
    match (verb, stopping, dry_run) {
        (_, _, true) => format!("would {}", verb.word()),
        (Verb::Cancel, true, false) => "cancelling".to_owned(),
        (_, _, false) => verb.done().to_owned(),
    }
}

/// `1 task`, `2 tasks`.
pub(crate) fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn report(verb: Verb, acted: &[Acted], dry_run: bool, context: &Context) -> anyhow::Result<Exit> {
    // Failures are data for programs; people get them as errors below.
    let json = context.screen.format.is_json();
    let shown = acted.iter().filter(|one| json || one.error_code == 0);
    let rows: Vec<ActedView> = shown.map(|one| ActedView::new(verb, one, dry_run)).collect();
    if json || !rows.is_empty() {
        output::rows(&context.screen, &rows)?;
    }
    if let Some(line) = summary(verb, acted, dry_run) {
        context.say(&line);
    }
    let mut exit = Exit::Ok;
    for one in acted.iter().filter(|one| one.error_code != 0) {
        context::eprint_line(&format!("error: {}", failed(one)));
        exit = exit::of_grpc(one.error_code);
    }
    Ok(exit)
}

/// Most of what the coordinator says names the job already.
fn failed(acted: &Acted) -> String {
    let (job, note) = (format!("job {}", acted.job_id), crate::text::visible(&acted.note));
    let named = note
        .match_indices(&job)
        .any(|(at, _)| !note[at + job.len()..].starts_with(|c: char| c.is_ascii_digit()));
    if named { note.into_owned() } else { format!("{job}: {note}") }
}

/// What happened to one job.
#[derive(Serialize)]
struct ActedView {
    job: u64,
    act: &'static str,
    dry_run: bool,
    ok: bool,
    tasks: u32,
    stopping: u32,
    new_job: Option<u64>,
    note: String,
    #[serde(skip)]
    did: String,
}

impl ActedView {
    fn new(verb: Verb, acted: &Acted, dry_run: bool) -> ActedView {
        ActedView {
            job: acted.job_id,
            act: verb.word(),
            dry_run,
            ok: acted.error_code == 0,
            tasks: acted.tasks,
            stopping: acted.stopping,
            new_job: (acted.new_job_id != 0).then_some(acted.new_job_id),
            note: acted.note.clone(),
            did: match acted.tasks == 0 && !acted.note.is_empty() {
                true => "nothing".to_owned(),
                false => did(verb, acted.stopping > 0, dry_run),
            },
        }
    }
}

impl View for ActedView {
    const SCHEMA: &'static str = "taskq.v1.acts";
    const COLUMNS: &'static [Column] = &[
        Column::number("JOB", 0),
        Column::text("DONE", 1),
        Column::number("TASKS", 2),
        Column::number("NEW JOB", 0),
        Column::flexible("NOTE", 3),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.job.to_string(),
            self.did.clone(),
            self.tasks.to_string(),
            self.new_job.map_or_else(|| "-".to_owned(), |id| id.to_string()),
            self.note.clone(),
        ]
    }

    fn id(&self) -> String {
        self.new_job.unwrap_or(self.job).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_named_once_in_an_error() {
        let of = |note: &str| failed(&Acted { job_id: 7, note: note.to_owned(), ..Acted::default() });
        assert_eq!(of("job 7 has ended and was removed"), "job 7 has ended and was removed");
        assert_eq!(of("there is no job 7"), "there is no job 7");
        assert_eq!(of("job 70 stands in its way"), "job 7: job 70 stands in its way");
        assert_eq!(of("the disk is full"), "job 7: the disk is full");
    }

    #[test]
    fn a_summary_counts_what_changed_and_no_failures() {
        let acted = |job_id, tasks, error_code| Acted { job_id, tasks, error_code, ..Acted::default() };
        let said = |verb, acted: &[Acted], dry_run| summary(verb, acted, dry_run).expect("something changed");
        let some = [acted(43, 800, 0), acted(39, 1, 0), acted(12, 0, 5)];
        assert_eq!(said(Verb::Retry, &some, true), "would retry 801 tasks of 2 jobs (43: 800, 39: 1)");
        assert_eq!(said(Verb::Remove, &some[1..], false), "removed 1 job with 1 task (39: 1)");
        let many: Vec<Acted> = (1..=7).map(|job| acted(job, 2, 0)).collect();
        let all = said(Verb::Cancel, &many, false);
        assert_eq!(all, "cancelled 14 tasks of 7 jobs (1: 2, 2: 2, 3: 2, 4: 2, 5: 2, 2 more)");

        let runs = Acted { stopping: 2, ..acted(7, 3, 0) };
        let cancelling = said(Verb::Cancel, std::slice::from_ref(&runs), false);
        let still = "2 of them run and are being stopped   until they have ended: taskq wait 7";
        assert_eq!(cancelling, format!("cancelling 3 tasks of 1 job (7: 3); {still}"));
        let would = said(Verb::Cancel, &[runs], true);
        assert_eq!(would, "would cancel 3 tasks of 1 job (7: 3); 2 of them would have to be stopped first");

        let left = Acted { job_id: 42, note: "already ended".to_owned(), ..Acted::default() };
        assert_eq!(summary(Verb::Cancel, std::slice::from_ref(&left), false), None, "nothing was done");
        let cancelled = said(Verb::Cancel, &[left, acted(43, 2, 0)], false);
        assert_eq!(cancelled, "cancelled 2 tasks of 1 job (43: 2)");
        // All tasks of a job may run while it is paused.
        assert_eq!(said(Verb::Pause, &[acted(42, 0, 0)], false), "paused 0 tasks of 1 job (42: 0)");
    }
}
