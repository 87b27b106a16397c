//! What a command has at hand: the screen, and the coordinator once it is asked for.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use taskq_client::model::{Filter as WireFilter, Job, JobTasks, Span as WireSpan};
use taskq_client::{Access, Client, JobId, Kind, Options, Sources, Told, Trouble};
use tokio::sync::OnceCell;

use crate::args::Global;
use crate::clock::UnixMs;
use crate::embed::Embedded;
use crate::exit::{Exit, Failure};
use crate::filter::Filter;
use crate::screen::Screen;
use crate::select::{self, JobRef, Select, Span, Typed};

/// Handed to every command.
pub(crate) struct Context {
    global: Global,
    pub(crate) screen: Screen,
    /// The whole command line, word by word.
    pub(crate) typed: Vec<OsString>,
    embedded: OnceCell<Embedded>,
    /// Whether a coordinator in this process is to have a worker.
    works: bool,
}

/// A selector after `last` was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) job: JobId,
    /// Empty means the whole job.
    pub(crate) tasks: Vec<Span>,
}

impl Context {
    /// Connects nowhere yet.
    pub(crate) fn new(global: Global, typed: Vec<OsString>, works: bool) -> Context {
        let screen = Screen::detect(global.wishes());
        Context { global, screen, typed, embedded: OnceCell::new(), works }
    }

    /// A line for people, on standard error; nothing with --quiet.
    pub(crate) fn say(&self, line: &str) {
        if !self.screen.quiet {
            eprint_line(line);
        }
    }

    /// Whether the coordinator is to be in this process. What is wrong with its name is told when it is started.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.local_dir(), Ok(Some(_)))
    }

    /// Connects to the coordinator, or starts the one inside this process.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let access = match self.local_dir()? {
            Some(dir) => {
                let dir = dir.map_or_else(taskq_client::default_data_dir, Ok)?;
                self.embedded.get_or_try_init(|| Embedded::start(dir, self.works)).await?.access().clone()
            }
            None => Access::find(&Sources {
                addr: self.global.addr.clone(),
                token_file: self.global.token_file.clone(),
                access_file: self.global.access.clone(),
            })?,
        };
        let (quiet, told) = (self.screen.quiet, Mutex::new(Told::default()));
        let on_trouble = move |trouble: &Trouble| {
            if let Some(line) = trouble_line(trouble, &told)
                && !quiet
            {
                eprint_line(&line);
            }
        };
        let options = Options { on_trouble: Some(Arc::new(on_trouble)), ..Options::default() };
        Ok(Client::connect_with(&access, options).await?)
    }

    /// Stops what this process started.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        match self.embedded.into_inner() {
            Some(embedded) => embedded.stop().await,
            None => Ok(()),
        }
    }

    /// The worker inside this process serves no functions: a call that is waited for would wait for ever.
    pub(crate) fn refuse_local_calls(&self, function: &str) -> anyhow::Result<()> {
        match self.local_dir()? {
            None => Ok(()),
            Some(_) => Err(Failure::usage(format!(
                "--local (or the address `local`) brings a worker that runs commands only, and so nobody would serve \
                 {function}; start a coordinator with `taskq up`, then the worker program that has the function, and \
                 call without --local"
            ))),
        }
    }

    /// For a command that always has a system of its own: whether all of it is to be in this process. Variables that name
    /// a coordinator are for other commands; flags that do are refused.
    pub(crate) fn own_system(&self) -> anyhow::Result<bool> {
        let global = &self.global;
        if global.addr.is_some() || global.access.is_some() || global.token_file.is_some() {
            return Err(Failure::usage(
                "this command starts a coordinator of its own; leave out --addr, --access and --token-file",
            ));
        }
        Ok(global.local)
    }

    /// `Some` if the coordinator is to be in this process; the directory if one was named.
    fn local_dir(&self) -> anyhow::Result<Option<Option<PathBuf>>> {
        if self.global.local {
            return Ok(Some(None));
        }
        let named = match &self.global.addr {
            Some(addr) => Some(addr.clone()),
            None if self.global.access.is_some() => None,
            None => std::env::var("TASKQ_ADDR").ok(),
        };
        match named.as_deref() {
            Some("local") => Ok(Some(None)),
            Some(addr) => match addr.strip_prefix("local:") {
                Some("") => {
                    Err(Failure::usage("`local:` needs a directory after it, as in local:/var/tmp/taskq"))
                }
                Some(dir) => Ok(Some(Some(PathBuf::from(dir)))),
                None => Ok(None),
            },
            None => Ok(None),
        }
    }

    /// Reads `-` from standard input, looks `last` up, and refuses tasks that a job does not have.
    pub(crate) async fn choose<S: Select>(
        &self,
        client: &Client,
        typed: &[Typed<S>],
    ) -> anyhow::Result<Vec<Chosen>> {
        let mut chosen = Vec::new();
        for typed in typed {
            match typed {
                Typed::One(selector) => chosen.push(choose_one(client, selector).await?),
                Typed::Stdin => {
                    for selector in selectors_of_stdin::<S>()? {
                        chosen.push(choose_one(client, &selector).await?);
                    }
                }
            }
        }
        check_tasks(client, &chosen).await?;
        Ok(chosen)
    }
}

/// One line when the coordinator stops to answer, and one when it is back; not one for each try.
fn trouble_line(trouble: &Trouble, told: &Mutex<Told<String>>) -> Option<String> {
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    match trouble {
        Trouble::Lost { error, .. } => {
            // What follows the first line is advice for a command that gives up.
            let line = format!(
                "taskq: no answer ({}); trying again",
                error.lines().next().unwrap_or("the connection broke")
            );
            told.is_first(&line).then_some(line)
        }
        Trouble::Back => told.forget().then(|| "taskq: the coordinator is back".to_owned()),
    }
}

/// To standard error; that nobody reads it is no reason to stop.
pub(crate) fn eprint_line(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

async fn choose_one<S: Select>(client: &Client, selector: &S) -> anyhow::Result<Chosen> {
    let job = match selector.job() {
        JobRef::Id(id) => JobId(id),
        JobRef::Last { back } => last(client, back).await?,
    };
    Ok(Chosen { job, tasks: selector.tasks().to_vec() })
}

/// What is wrong with a job itself is told by the command.
async fn check_tasks(client: &Client, chosen: &[Chosen]) -> anyhow::Result<()> {
    let mut known: BTreeMap<JobId, Vec<Span>> = BTreeMap::new();
    for one in chosen.iter().filter(|one| !one.tasks.is_empty()) {
        let there = match known.entry(one.job) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => match client.get(one.job).await {
                Ok(job) => new.insert(tasks_of(&job)),
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Gone) => continue,
                Err(error) => return Err(error.into()),
            },
        };
        if let Some(index) = select::first_beyond(&one.tasks, there) {
            let job = one.job;
            let message = format!("job {job} has no task {index}; {}", in_words(there));
            return Err(Failure::because(Exit::NotFound, message));
        }
    }
    Ok(())
}

/// In ascending order.
fn tasks_of(job: &Job) -> Vec<Span> {
    let only = job.spec.as_ref().and_then(|spec| spec.elements.as_ref()).map_or(&[][..], |all| &all.only);
    if only.is_empty() {
        let last = job.counts.map_or(0, |counts| counts.total).saturating_sub(1);
        return vec![Span { first: 0, last }];
    }
    let last = |span: &WireSpan| span.first.saturating_add(span.count.saturating_sub(1));
    only.iter().map(|span| Span { first: span.first, last: last(span) }).collect()
}

fn in_words(there: &[Span]) -> String {
    const NAMED: usize = 10;
    if let [Span { first: 0, last: 0 }] = there {
        return "it has one, 0".to_owned();
    }
    let mut named: Vec<String> = there.iter().take(NAMED).map(Span::to_string).collect();
    if there.len() > NAMED {
        named.push("...".to_owned());
    }
    format!("it has {} (tasks count from 0)", named.join(","))
}

async fn last(client: &Client, back: u32) -> anyhow::Result<JobId> {
    let mut jobs = client.list(WireFilter::default()).page_size(back.saturating_add(1).min(1_000));
    let mut seen = 0;
    while let Some(job) = jobs.next().await {
        let job = job?;
        if seen == back {
            return Ok(JobId(job.id));
        }
        seen += 1;
    }
    Err(Failure::because(
        Exit::NotFound,
        format!("there is no such last job: the coordinator has {seen} jobs"),
    ))
}

fn selectors_of_stdin<S: Select>() -> anyhow::Result<Vec<S>> {
    let mut text = String::new();
    let read = std::io::stdin().lock().read_to_string(&mut text);
    read.map_err(|cause| Failure::io("cannot read selectors from standard input", &cause))?;
    let mut selectors = Vec::new();
    for word in text.split_ascii_whitespace() {
        selectors.push(word.parse::<S>()?);
    }
    Ok(selectors)
}

/// To the words of the wire.
pub(crate) fn spans(spans: &[Span]) -> Vec<WireSpan> {
    // The whole range of indices has one more element than a count can hold; no job is that long.
    let count = |span: &Span| (span.last - span.first).saturating_add(1);
    spans.iter().map(|span| WireSpan { first: span.first, count: count(span) }).collect()
}

/// To the words of the wire.
pub(crate) fn job_tasks(chosen: &Chosen) -> JobTasks {
    JobTasks { job_id: chosen.job.0, indices: spans(&chosen.tasks) }
}

/// To the words of the wire.
pub(crate) fn wire_filter(filter: &Filter) -> WireFilter {
    WireFilter {
        states: filter.state.iter().map(|state| i32::from(*state)).collect(),
        queue: filter.queue.clone().unwrap_or_default(),
        labels: filter.label.iter().cloned().collect(),
        name_glob: filter.name.clone().unwrap_or_default(),
        since_unix_ms: filter.since_unix_ms(UnixMs::now()),
        error_like: filter.error_like.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_there_are_are_told() {
        assert_eq!(in_words(&[Span { first: 0, last: 0 }]), "it has one, 0");
        assert_eq!(in_words(&[Span { first: 0, last: 2 }]), "it has 0-2 (tasks count from 0)");
        let only = [Span { first: 3, last: 3 }, Span { first: 7, last: 9 }];
        assert_eq!(in_words(&only), "it has 3,7-9 (tasks count from 0)");
    }

    #[test]
    fn a_lost_coordinator_is_told_in_one_line_and_once() {
        let told = Mutex::new(Told::default());
        let lost =
            |error: &str| Trouble::Lost { error: error.to_owned(), retry_in: std::time::Duration::ZERO };
        assert_eq!(trouble_line(&Trouble::Back, &told), None, "nobody heard that it was away");
        let line =
            trouble_line(&lost("not reachable at h:1 (refused)\n  is it running?"), &told).expect("told");
        assert_eq!(line, "taskq: no answer (not reachable at h:1 (refused)); trying again");
        assert_eq!(trouble_line(&lost("not reachable at h:1 (refused)\n  is it running?"), &told), None);
        assert!(trouble_line(&lost("another reason"), &told).is_some());
        let first = lost("not reachable at h:1 (refused)");
        assert_eq!(trouble_line(&first, &told), None, "reasons may take turns");
        assert!(trouble_line(&Trouble::Back, &told).is_some());
        assert!(trouble_line(&lost("another reason"), &told).is_some(), "again, as it was back");
    }
}
