//! The flags that describe a job, shared by `run`, `submit`, `map` and `call`, and what is submitted for them.
//! Limits are checked by the client library, and again by the coordinator.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use taskq_client::model::STDIN_BYTES;
use taskq_client::{Elements, JobBuilder};

use crate::exit::Failure;
use crate::quantity::{self, Backoff};

/// What a task is told about itself.
const VARIABLES: &str = "Variables that a task finds in its environment:\n  \
    TASKQ_JOB      number of its job\n  \
    TASKQ_TASK     its own number in the job, from 0, as in 42.0\n  \
    TASKQ_ITEM     its element; several fields are separated by tabs; empty without sources\n  \
    TASKQ_ATTEMPT  number of this attempt, from 1\n  \
    TASKQ_SLOT     the worker's slot that it has, from 0\n  \
    TASKQ_WORKER   name of the worker";

/// The end of the help of a command that makes a job.
pub(crate) fn help(examples_and_codes: &str) -> String {
    let (examples, codes) = examples_and_codes.rsplit_once("\n\n").unwrap_or((examples_and_codes, ""));
    format!("{examples}\n\n{VARIABLES}\n\n{codes}")
}

/// What to run, where and how often.
#[derive(clap::Args, Clone, Debug)]
#[group(skip)]
#[command(next_help_heading = "Job")]
pub(crate) struct Args {
    #[command(flatten)]
    program: Program,
    #[command(flatten)]
    common: Common,
}

/// How a program is run.
#[derive(clap::Args, Clone, Debug)]
#[group(skip)]
#[command(next_help_heading = "Job")]
struct Program {
    /// Run the command, one argument, as a script with `sh -c`; placeholders are then quoted for sh
    #[arg(short = 'c', long)]
    shell: bool,
    /// The directory to run in, which must exist on the worker [default: the current one]
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Set an environment variable, or pass on this shell's value of it; may be repeated
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = quantity::env)]
    env: Vec<(String, Option<String>)>,
    /// Pass on this shell's whole environment
    #[arg(long)]
    env_all: bool,
    /// What the tasks read from standard input, at most 32 MiB (`-`: what this command reads)
    #[arg(long, value_name = "FILE")]
    stdin: Option<PathBuf>,
    /// Kill an attempt that needs more memory than this, with all that it has started; its outcome says so. Like the two
    /// below it needs a worker whose kernel keeps it: `taskq worker show NAME` says which it does
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    max_memory: Option<u64>,
    /// Slow an attempt down that wants more of the processors than this, such as 1.5 cores
    #[arg(long, value_name = "CORES", value_parser = quantity::cores)]
    max_cpu: Option<u32>,
    /// Let an attempt have no more processes and threads than this at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_processes: Option<u32>,
    /// Run again only after these exit codes [default: after each failure]
    #[arg(long, value_name = "CODES", value_delimiter = ',', value_parser = clap::value_parser!(i32).range(0..=255))]
    retry_on: Vec<i32>,
}

/// What can be said of programs and functions alike.
#[derive(clap::Args, Clone, Debug)]
#[group(skip)]
#[command(next_help_heading = "Job")]
pub(crate) struct Common {
    /// A name for people [default: the program's file name, or the function]
    #[arg(short, long)]
    name: Option<String>,
    /// The queue it waits in [env: TASKQ_QUEUE] [default: default]
    #[arg(short, long, value_parser = NonEmptyStringValueParser::new())]
    queue: Option<String>,
    /// A label for filters; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = quantity::pair)]
    label: Vec<(String, String)>,
    /// Higher goes first, -1000 to 1000
    #[arg(short, long, default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    priority: i32,
    /// Slots of the worker that a task takes
    #[arg(long, visible_alias = "slots", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    cpus: u32,
    /// A named resource that a task takes; may be repeated
    #[arg(long, visible_alias = "resource", value_name = "NAME=COUNT", value_parser = quantity::resource)]
    res: Vec<(String, u64)>,
    /// Run only on workers with this label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = quantity::pair)]
    on: Vec<(String, String)>,
    /// Stop an attempt that runs longer than this; the time that it waits in the queue is not counted. A DURATION is
    /// written as 10s, 500ms, 1m30s or 7d; a bare number counts seconds. 0: no limit, as without this option
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    timeout: Option<Duration>,
    /// The time between TERM and KILL; of a call, between the word to stop and the end of patience [default: 10s; of a
    /// call 1s]
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    kill_grace: Option<Duration>,
    /// How often a failed task is run again
    #[arg(long, alias = "retry", value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..1_000_000))]
    retries: u32,
    /// The pauses between attempts: exp:FIRST..MOST or fixed:PAUSE [default: exp:1s..5m]
    #[arg(long, value_parser = quantity::backoff)]
    backoff: Option<Backoff>,
    /// A task fails when so many workers were lost while they ran it [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    crash_limit: Option<u32>,
    /// How long the ended job is kept, with its values and output [default: the coordinator's, and so with 0]
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    keep: Option<Duration>,
    /// Submitting again with the same key gives the same job
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Output kept of each stream of an attempt: of more, the beginning and the end; 0 keeps nothing [default: all if
    /// this command shows it, else 1M]
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    output_limit: Option<u64>,
}

/// Limits that make sense for many tasks only.
#[derive(clap::Args, Clone, Debug, Default)]
#[group(skip)]
#[command(next_help_heading = "Job")]
pub(crate) struct Many {
    /// The most tasks that run at once
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_parallel: Option<u32>,
    /// Skip the rest when more than this many tasks failed
    #[arg(long, value_name = "N")]
    pub(crate) max_fails: Option<u32>,
}

impl Args {
    /// True if the one argument is a script for `sh -c`.
    pub(crate) fn shell(&self) -> bool {
        self.program.shell
    }

    /// True if the tasks read what this command reads.
    pub(crate) fn takes_stdin(&self) -> bool {
        self.program.stdin.as_deref().is_some_and(|path| path.as_os_str() == "-")
    }

    /// For a command that shows the output: without a limit of its own, all of it is kept, and so shown.
    pub(crate) fn keep_all_output(&mut self) {
        self.common.keep_all_output();
    }

    /// What is said of a function too.
    pub(crate) fn common(&self) -> &Common {
        &self.common
    }

    /// An option that only a program has, if one was given.
    pub(crate) fn of_programs_only(&self) -> Option<&'static str> {
        let Program { shell, cwd, env, env_all, stdin, max_memory, max_cpu, max_processes, retry_on } =
            &self.program;
        let given = [
            (*shell, "-c"),
            (cwd.is_some(), "--cwd"),
            (!env.is_empty(), "--env"),
            (*env_all, "--env-all"),
            (stdin.is_some(), "--stdin"),
            (max_memory.is_some(), "--max-memory"),
            (max_cpu.is_some(), "--max-cpu"),
            (max_processes.is_some(), "--max-processes"),
            (!retry_on.is_empty(), "--retry-on"),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, option)| option)
    }

    /// Reads files and environment and describes the job; `argv` has been checked.
    pub(crate) fn builder(
        &self,
        argv: Vec<String>,
        many: &Many,
        elements: Elements,
    ) -> anyhow::Result<JobBuilder> {
        if self.common.retries == 0 && !self.program.retry_on.is_empty() {
            return Err(Failure::usage(
                "--retry-on says after which failures, and --retries N how often: give both",
            ));
        }
        let mut job = match (self.program.shell, argv.first()) {
            (true, Some(script)) => JobBuilder::shell(script),
            (true, None) | (false, _) => JobBuilder::command(argv),
        };
        job = self.program.apply(job)?.elements(elements);
        Ok(many.apply(self.common.apply(job)?))
    }
}

impl Many {
    /// Adds what was said to a job.
    pub(crate) fn apply(&self, mut job: JobBuilder) -> JobBuilder {
        if let Some(tasks) = self.max_parallel {
            job = job.max_parallel(tasks);
        }
        if let Some(tasks) = self.max_fails {
            job = job.max_fails(tasks);
        }
        job
    }
}

impl Common {
    /// For a command that shows the output: without a limit of its own, all of it is kept, and so shown.
    pub(crate) fn keep_all_output(&mut self) {
        self.output_limit.get_or_insert(u64::MAX);
    }

    /// Adds what was said to a job.
    pub(crate) fn apply(&self, mut job: JobBuilder) -> anyhow::Result<JobBuilder> {
        job = job.queue(self.queue()?).priority(self.priority).slots(self.cpus).retries(self.retries);
        if let Some(name) = &self.name {
            job = job.name(name);
        }
        for (key, value) in &self.label {
            job = job.label(key, value);
        }
        for (name, count) in &self.res {
            job = job.resource(name, *count);
        }
        for (key, value) in &self.on {
            job = job.worker_label(key, value);
        }
        if let Some(backoff) = self.backoff {
            job = job.backoff(backoff.first, backoff.multiplier, backoff.most);
        }
        if let Some(timeout) = self.timeout {
            job = job.timeout(timeout);
        }
        if let Some(grace) = self.kill_grace {
            job = job.kill_grace(grace);
        }
        if let Some(losses) = self.crash_limit {
            job = job.crash_limit(losses);
        }
        if let Some(keep) = self.keep {
            job = job.keep(keep);
        }
        if let Some(key) = &self.idempotency_key {
            job = job.idempotency_key(key);
        }
        if let Some(bytes) = self.output_limit {
            job = job.output_limit(bytes);
        }
        Ok(job)
    }

    /// An empty variable counts as none.
    fn queue(&self) -> anyhow::Result<String> {
        if let Some(queue) = &self.queue {
            return Ok(queue.clone());
        }
        match std::env::var_os("TASKQ_QUEUE").filter(|queue| !queue.is_empty()) {
            Some(queue) => utf8(queue, "the variable TASKQ_QUEUE"),
            None => Ok("default".to_owned()),
        }
    }
}

impl Program {
    fn apply(&self, mut job: JobBuilder) -> anyhow::Result<JobBuilder> {
        job = job.cwd(self.directory()?).stdin(self.read_stdin()?);
        for (key, value) in self.environment()? {
            job = job.env(key, value);
        }
        if let Some(bytes) = self.max_memory {
            job = job.max_memory(bytes);
        }
        if let Some(milli) = self.max_cpu {
            job = job.max_cpu(milli);
        }
        if let Some(processes) = self.max_processes {
            job = job.max_processes(processes);
        }
        Ok(job.retry_exit_codes(self.retry_on.iter().copied()))
    }

    fn directory(&self) -> anyhow::Result<String> {
        let path = match &self.cwd {
            Some(path) => std::path::absolute(path).map_err(|cause| Failure::io("--cwd", &cause))?,
            None => std::env::current_dir().map_err(|cause| {
                Failure::usage(format!("the current directory is gone ({cause}); name one with --cwd DIR"))
            })?,
        };
        utf8(path.into_os_string(), "the directory")
    }

    fn environment(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut env = BTreeMap::new();
        if self.env_all {
            // What is not text cannot be sent; a program that needs it can be given it by name, with an error then.
            let text =
                |pair: (OsString, OsString)| Some((pair.0.into_string().ok()?, pair.1.into_string().ok()?));
            env.extend(std::env::vars_os().filter_map(text).filter(|(key, _)| !key.starts_with("TASKQ_")));
        }
        for (key, value) in &self.env {
            let value = match value {
                Some(value) => value.clone(),
                None => match std::env::var_os(key) {
                    Some(value) => utf8(value, &format!("the variable {key}"))?,
                    None => {
                        return Err(Failure::usage(format!(
                            "--env {key}: not set here; give it as {key}=VALUE"
                        )));
                    }
                },
            };
            env.insert(key.clone(), value);
        }
        Ok(env)
    }

    fn read_stdin(&self) -> anyhow::Result<Vec<u8>> {
        let Some(path) = &self.stdin else { return Ok(vec![]) };
        // One byte more than is allowed, which the check of the job refuses: nobody needs to read the rest.
        let most = STDIN_BYTES as u64 + 1;
        let mut bytes = Vec::new();
        let read = if path.as_os_str() == "-" {
            std::io::stdin().lock().take(most).read_to_end(&mut bytes)
        } else {
            std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
        };
        read.map_err(|cause| Failure::io(format!("--stdin {}", path.display()), &cause))?;
        Ok(bytes)
    }
}

/// Checks the words of a command: there is one, all are text, none has a NUL byte; a script is one word.
pub(crate) fn argv(words: Vec<OsString>, shell: bool) -> anyhow::Result<Vec<String>> {
    let mut argv = Vec::with_capacity(words.len());
    for word in words {
        let word = utf8(word, "the command")?;
        if word.contains('\0') {
            return Err(Failure::usage("the command contains a NUL byte"));
        }
        argv.push(word);
    }
    match argv.first().map(String::as_str) {
        None => Err(Failure::usage("a command is missing; put it last, as in: taskq run -- echo hi")),
        Some("") => {
            Err(Failure::usage("the command is empty; put the program first, as in: taskq run -- echo hi"))
        }
        Some(_) if shell && argv.len() > 1 => Err(Failure::usage(
            "-c takes the whole script as one argument; quote it, as in: taskq run -c 'sort | uniq -c'",
        )),
        Some(_) => Ok(argv),
    }
}

fn utf8(text: OsString, what: &str) -> anyhow::Result<String> {
    text.into_string().map_err(|text| {
        Failure::usage(format!(
            "{what} {:?} is not UTF-8; give such names as values (`:::`, --each-null)",
            text
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_command_must_be_runnable() {
        assert_eq!(argv(words(&["echo", ""]), false).expect("fine"), ["echo", ""]);
        for (bad, shell) in
            [(&[][..], false), (&[""][..], false), (&["a", "b"][..], true), (&["a\0"][..], false)]
        {
            assert!(argv(words(bad), shell).is_err(), "{bad:?} must be refused");
        }
    }
}
