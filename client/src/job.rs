//! What a job is to be: a builder with the protocol's defaults, and the checks that need no coordinator.

use crate::codec::{Codec, Unwritable};
use crate::elements::{Elements, Source};
use crate::error::{Error, Result};
use crate::model;
use bytes::Bytes;
use serde::Serialize;
use std::fmt;
use std::time::Duration;
use taskq_proto::VALUE_BYTES;
use taskq_template::Template;

/// The most standard input, the longest argument, and the most values of one source, that travel inside a job; more is
/// uploaded.
pub(crate) const INLINE_BYTES: usize = 64 << 10;
const LONGEST_TEXT: usize = 256;
const MOST_LABELS: usize = 64;

/// Number of a job, as people type it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for JobId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl From<JobId> for u64 {
    fn from(id: JobId) -> Self {
        id.0
    }
}

/// A job to be submitted: one command or one function, run once for each element.
#[derive(Debug, Clone)]
#[must_use]
pub struct JobBuilder {
    /// All but standard input, argument and elements.
    pub(crate) spec: model::JobSpec,
    pub(crate) stdin: Bytes,
    pub(crate) argument: Bytes,
    pub(crate) elements: Elements,
    /// An argument that could not be written; told by the checks.
    problem: Option<Error>,
}

impl JobBuilder {
    /// A program and its arguments, given to it as they are; placeholders such as `{}` are filled in.
    pub fn command(argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::of_command(model::Command {
            argv: argv.into_iter().map(Into::into).collect(),
            ..Default::default()
        })
    }

    /// A script for `sh -c`; values of placeholders are quoted in it.
    pub fn shell(script: impl Into<String>) -> Self {
        Self::of_command(model::Command { argv: vec![script.into()], shell: true, ..Default::default() })
    }

    /// A function that workers offer, called once with this argument.
    pub fn call<A: Serialize + ?Sized>(function: impl Into<String>, codec: Codec, argument: &A) -> Self {
        Self::call_encoded(function, codec.name(), Bytes::new()).with_argument(codec, codec.encode(argument))
    }

    /// The same with an argument that is written already, in any codec that the function knows. With
    /// [elements](Self::elements) it is not used: each element is an argument (see [`Elements::arguments`]).
    pub fn call_encoded(
        function: impl Into<String>,
        codec: impl Into<String>,
        argument: impl Into<Bytes>,
    ) -> Self {
        let call = model::Call { function: function.into(), codec: codec.into(), ..Default::default() };
        let spec = model::JobSpec { call: Some(call), ..Default::default() };
        Self { argument: argument.into(), ..Self::of(spec) }
    }

    /// Of a call: its argument, written in this codec. If it cannot be, the checks say so.
    pub(crate) fn with_argument(
        mut self,
        codec: Codec,
        argument: std::result::Result<Bytes, Unwritable>,
    ) -> Self {
        if let Some(call) = &mut self.spec.call {
            codec.name().clone_into(&mut call.codec);
        }
        match argument {
            Ok(bytes) => self.argument = bytes,
            Err(problem) => self.problem = Some(Error::Usage(format!("the argument of the call: {problem}"))),
        }
        self
    }

    /// Of a call: what is called.
    pub(crate) fn with_function(mut self, function: impl Into<String>) -> Self {
        if let Some(call) = &mut self.spec.call {
            call.function = function.into();
        }
        self
    }

    fn of(spec: model::JobSpec) -> Self {
        let (stdin, argument, elements) = (Bytes::new(), Bytes::new(), Elements::new());
        Self { spec, stdin, argument, elements, problem: None }
    }

    fn of_command(command: model::Command) -> Self {
        Self::of(model::JobSpec { command: Some(command), ..Default::default() })
    }

    /// For people. Default: the program's file name, or the function.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.spec.name = name.into();
        self
    }

    /// Default: `default`.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.spec.queue = queue.into();
        self
    }

    /// For filters.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.spec.labels.insert(key.into(), value.into());
        self
    }

    /// Higher goes first, -1000 to 1000. Default: 0.
    pub fn priority(mut self, priority: i32) -> Self {
        self.spec.priority = priority;
        self
    }

    /// How many slots of a worker each task takes: `--cpus` or `--slots` of `taskq`. Default: 1.
    pub fn slots(mut self, slots: u32) -> Self {
        self.resources().slots = slots;
        self
    }

    /// An amount of something that a worker offers by name, such as `gpu`: `--res NAME=COUNT` of `taskq`, and what workers
    /// have with `--resource` of `taskq-worker`.
    pub fn resource(mut self, name: impl Into<String>, amount: u64) -> Self {
        self.resources().named.insert(name.into(), amount);
        self
    }

    /// A label that a worker must have: `--on KEY=VALUE` of `taskq`, and `--label` of `taskq-worker`. (`label` is for
    /// filters of jobs.)
    pub fn worker_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.resources().labels.insert(key.into(), value.into());
        self
    }

    /// The most memory, in bytes, that an attempt and all that it starts may use; who needs more is killed, and its outcome
    /// says so. Like the limits below it is kept by the kernel of a worker, so that the job goes only to workers where that
    /// is possible; and commands have it, not calls. Default: no limit.
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.limits().memory_bytes = bytes;
        self
    }

    /// The most processor time, in thousandths of a core, that an attempt gets with all that it starts. Default: no limit.
    pub fn max_cpu(mut self, milli: u32) -> Self {
        self.limits().cpu_milli = milli;
        self
    }

    /// The most processes, threads included, that an attempt has at once. Default: no limit.
    pub fn max_processes(mut self, processes: u32) -> Self {
        self.limits().processes = processes;
        self
    }

    /// The most that one attempt may take, from process start. Default: no limit.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.spec.timeout_ms = millis(timeout);
        self
    }

    /// Between TERM and KILL, or between the moment when a call is told to stop and the one when it is left to itself.
    /// Default: 10 s, of a call 1 s.
    pub fn kill_grace(mut self, grace: Duration) -> Self {
        self.spec.kill_grace_ms = millis(grace);
        self
    }

    /// How many lost workers a task may see before it fails. Default: 3.
    pub fn crash_limit(mut self, losses: u32) -> Self {
        self.spec.crash_limit = losses;
        self
    }

    /// How often a failed task is run again. Default: 0.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retry().max_attempts = retries.saturating_add(1);
        self
    }

    /// The pause before a second attempt, its growth with each further one (1 to 1000), and its limit; without
    /// [`retries`](Self::retries) there is none. `--backoff exp:1s..5m` of `taskq` is 1 s, 2, 300 s, which is the default;
    /// `fixed:10s` is 10 s, 1, 10 s. All but those that grow by 1 are varied by up to a half.
    pub fn backoff(mut self, first: Duration, multiplier: f64, most: Duration) -> Self {
        let retry = self.retry();
        retry.backoff_ms = millis(first);
        retry.multiplier = multiplier;
        retry.max_backoff_ms = millis(most);
        self
    }

    /// Only these exit codes are worth another attempt. Default: every failure.
    pub fn retry_exit_codes(mut self, codes: impl IntoIterator<Item = i32>) -> Self {
        self.retry().exit_codes = codes.into_iter().collect();
        self
    }

    /// A variable for the command.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.command_mut().env.insert(name.into(), value.into());
        self
    }

    /// An absolute path on the worker. Default: the worker's own directory.
    pub fn cwd(mut self, path: impl Into<String>) -> Self {
        self.command_mut().cwd = path.into();
        self
    }

    /// Standard input of each task, at most [`STDIN_BYTES`](model::STDIN_BYTES). Default: empty.
    pub fn stdin(mut self, bytes: impl Into<Bytes>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// What to run the command for. Default: once, without values.
    pub fn elements(mut self, elements: Elements) -> Self {
        self.elements = elements;
        self
    }

    /// The most tasks of this job that run at once. Default: no limit.
    pub fn max_parallel(mut self, tasks: u32) -> Self {
        self.spec.max_parallel = tasks;
        self
    }

    /// When more than this many tasks have failed, the rest is skipped. Default: no limit.
    pub fn max_fails(mut self, tasks: u32) -> Self {
        self.spec.max_fails = tasks;
        self.spec.has_max_fails = true;
        self
    }

    /// How long the ended job is kept. Default: the coordinator's.
    pub fn keep(mut self, time: Duration) -> Self {
        self.spec.keep_ms = millis(time);
        self
    }

    /// Another submit with the same key and content is the same job; with other content it is refused.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.spec.idempotency_key = key.into();
        self
    }

    /// The most output that is kept of each stream of an attempt, and so shown: of more, the beginning and the end.
    /// 0 keeps nothing, [`u64::MAX`] everything. Default: 1 MiB.
    pub fn output_limit(mut self, bytes: u64) -> Self {
        self.spec.output_limit_bytes = Some(bytes);
        self
    }

    /// How many tasks it will have.
    ///
    /// # Errors
    /// The elements do not fit together, or are too many.
    pub fn total(&self) -> Result<u32> {
        self.elements.total()
    }

    /// All that can be checked without a coordinator: texts and limits, placeholders, elements.
    ///
    /// # Errors
    /// [`Error::Usage`] or [`Error::Template`], naming the first thing that is wrong.
    pub fn check(&self) -> Result<()> {
        let spec = &self.spec;
        match (&spec.command, &spec.call) {
            (Some(command), None) => self.check_command(command)?,
            (None, Some(call)) => self.check_call(call)?,
            (Some(_), Some(_)) => {
                return wrong(
                    "a call has no variables and no directory; give the function what it needs as argument",
                );
            }
            (None, None) => return wrong("there is no command and no function to run"),
        }
        if self.elements.total()? == 0 {
            return wrong("the sources are empty, so there is nothing to run; give at least one element");
        }
        check_texts(spec)?;
        check_numbers(spec)
    }

    fn check_command(&self, command: &model::Command) -> Result<()> {
        Template::parse(&command.argv, command.shell, &self.elements.columns())?;
        if self.elements.sources().iter().any(Source::is_encoded) {
            return wrong("arguments of calls are no values for a command; give it items");
        }
        if self.stdin.len() > model::STDIN_BYTES {
            return wrong(format!(
                "standard input has more than {} MiB; put it into a file that the workers see, and let the program read that",
                model::STDIN_BYTES >> 20
            ));
        }
        check_environment(command)
    }

    fn check_call(&self, call: &model::Call) -> Result<()> {
        if let Some(problem) = &self.problem {
            return Err(problem.clone());
        }
        if !is_function(&call.function) {
            let shape = "1 to 128 letters, digits, '_', '.', ':' and '-', beginning with a letter or '_'";
            return wrong(format!("{:?} is not a function's name: {shape}", call.function));
        }
        if !self.stdin.is_empty() {
            return wrong("a call has no standard input; give the function what it needs as argument");
        }
        let sources = self.elements.sources();
        if sources.len() > 1 || self.elements.columns().len() > 1 {
            return wrong(format!(
                "{} takes one argument, so its elements are one source of one column; join what belongs together \
                 to a list or a structure",
                call.function
            ));
        }
        if sources.len() == 1 && !self.argument.is_empty() {
            return wrong("a call has either an argument or elements, each of which is one");
        }
        if self.argument.len() > VALUE_BYTES {
            return wrong(format!(
                "the argument has {} bytes, and at most {} MiB are allowed; pass where its bytes are",
                self.argument.len(),
                VALUE_BYTES >> 20
            ));
        }
        Ok(())
    }

    fn command_mut(&mut self) -> &mut model::Command {
        self.spec.command.get_or_insert_default()
    }

    fn resources(&mut self) -> &mut model::Resources {
        self.spec.resources.get_or_insert_default()
    }

    fn limits(&mut self) -> &mut model::Limits {
        self.spec.limits.get_or_insert_default()
    }

    fn retry(&mut self) -> &mut model::Retry {
        self.spec.retry.get_or_insert_default()
    }
}

fn check_environment(command: &model::Command) -> Result<()> {
    for (name, value) in &command.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return wrong(format!(
                "{name:?} is no variable for a command: no empty name, no '=' in it, no NUL byte"
            ));
        }
    }
    if !command.cwd.is_empty() && (!command.cwd.starts_with('/') || command.cwd.contains('\0')) {
        return wrong(format!(
            "the working directory {:?} is not an absolute path; write it from /",
            command.cwd
        ));
    }
    Ok(())
}

fn check_texts(spec: &model::JobSpec) -> Result<()> {
    if spec.name.len() > LONGEST_TEXT {
        return wrong(format!(
            "the job's name has {} bytes; at most {LONGEST_TEXT} are allowed",
            spec.name.len()
        ));
    }
    if spec.idempotency_key.len() > LONGEST_TEXT {
        let len = spec.idempotency_key.len();
        return wrong(format!(
            "the idempotency key has {len} bytes; at most {LONGEST_TEXT} are allowed, so use a hash"
        ));
    }
    if !spec.queue.is_empty() && !is_name(&spec.queue) {
        let shape = "1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit";
        return wrong(format!("{:?} is not a queue's name: {shape}", spec.queue));
    }
    if spec.labels.len() > MOST_LABELS {
        return wrong(format!("the job has {} labels; at most {MOST_LABELS} are allowed", spec.labels.len()));
    }
    if spec.labels.contains_key("") {
        return wrong("a label without a name; write KEY=VALUE");
    }
    Ok(())
}

fn check_numbers(spec: &model::JobSpec) -> Result<()> {
    if !(-1000..=1000).contains(&spec.priority) {
        return wrong(format!("priority {} is out of range; use -1000 to 1000", spec.priority));
    }
    match &spec.retry {
        Some(retry) if retry.multiplier != 0.0 && !(1.0..=1000.0).contains(&retry.multiplier) => {
            wrong(format!("backoff cannot grow by {}; use 1 to 1000", retry.multiplier))
        }
        Some(_) | None => Ok(()),
    }
}

/// The shape of queue and worker names.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// The shape of functions' names.
fn is_function(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '-'))
}

fn wrong<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::Usage(text.into()))
}

/// Zero means "default" on the wire, so that the shortest time that can be said is 1 ms.
fn millis(time: Duration) -> u64 {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 && !time.is_zero() { 1 } else { ms }
}
