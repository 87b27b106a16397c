//! A job as it is to be submitted: its command, its elements, and the commands that they make. `submit` and `map` share
//! it; nothing here talks to a coordinator.

use serde::Serialize;
use taskq_client::{Elements, JobBuilder};
use taskq_template::Template;

use crate::exit::{Exit, Failure};
use crate::output::{self, Array, Format, Out};
use crate::screen::Screen;
use crate::sources::{self, Trailing};
use crate::{job, words};

/// The flags that say what a job of many tasks is.
pub(crate) struct Flags<'a> {
    pub(crate) job: &'a job::Args,
    pub(crate) many: &'a job::Many,
    pub(crate) sources: &'a sources::Args,
}

/// What will run, with every template checked. What is known on the worker only stays a placeholder.
pub(crate) struct Plan {
    work: Work,
    pub(crate) elements: Elements,
}

enum Work {
    Command {
        argv: Vec<String>,
        shell: bool,
        template: Template,
    },
    /// A function, by its name.
    Call(String),
}

impl Plan {
    /// Reads the sources without holding up the runtime: standard input may be a slow pipe.
    pub(crate) async fn read(
        flags: &Flags<'_>,
        argv: Vec<String>,
        trailing: Vec<Trailing>,
    ) -> anyhow::Result<Plan> {
        if flags.job.takes_stdin() && flags.sources.takes_stdin() {
            return Err(sources::Error::StdinTwice.into());
        }
        let sources = flags.sources.clone();
        let read = tokio::task::spawn_blocking(move || sources.read(trailing)).await;
        let values = read.map_err(|cause| Failure::because(Exit::Internal, cause.to_string()))??;
        let shell = flags.job.shell();
        let mut template = Template::parse(&argv, shell, &values.elements.columns());
        if values.fields_unknown && values.elements.total()? == 0 {
            // No command is made of it, so that its fields need not be known.
            template = Template::parse(&argv, false, &[]);
        }
        let template = template.map_err(taskq_client::Error::from)?;
        values.check(&template)?;
        Ok(Plan { work: Work::Command { argv, shell, template }, elements: values.elements })
    }

    /// The same for a function, which is called with each element.
    pub(crate) async fn read_call(
        flags: &Flags<'_>,
        function: &str,
        trailing: Vec<Trailing>,
    ) -> anyhow::Result<Plan> {
        if let Some(option) = flags.job.of_programs_only() {
            return Err(Failure::usage(format!("{option} is for programs, and --call calls a function")));
        }
        let sources = flags.sources.clone();
        let read = tokio::task::spawn_blocking(move || sources.read_arguments(trailing)).await;
        let elements = read.map_err(|cause| Failure::because(Exit::Internal, cause.to_string()))??;
        Ok(Plan { work: Work::Call(function.to_owned()), elements })
    }

    /// How many tasks there are.
    pub(crate) fn total(&self) -> anyhow::Result<u32> {
        Ok(self.elements.total()?)
    }

    /// The job, ready to be submitted.
    pub(crate) fn builder(&self, flags: &Flags<'_>) -> anyhow::Result<JobBuilder> {
        let max_parallel = flags.many.max_parallel.or(flags.sources.max_parallel());
        let many = job::Many { max_parallel, ..flags.many.clone() };
        let builder = match &self.work {
            Work::Command { argv, .. } => flags.job.builder(argv.clone(), &many, self.elements.clone())?,
            Work::Call(function) => {
                let call = JobBuilder::call_encoded(function, "json", "").elements(self.elements.clone());
                many.apply(flags.job.common().apply(call)?)
            }
        };
        builder.check()?;
        Ok(builder)
    }

    /// The command of one element, as one would type it in a shell; of a call, as it is written in programs.
    pub(crate) fn command(&self, index: u32) -> anyhow::Result<String> {
        let fields = if self.elements.is_empty() { vec![] } else { self.elements.row(index)? };
        let (shell, template) = match &self.work {
            Work::Command { shell, template, .. } => (*shell, template),
            Work::Call(function) => {
                let argument = fields.first().map(|field| String::from_utf8_lossy(field));
                return Ok(format!("{function}({})", argument.unwrap_or_default()));
            }
        };
        let argv = template.expand(&taskq_template::Values {
            job: 0,
            index,
            attempt: 1,
            slot: 0,
            worker: "{worker}",
            fields: &fields,
        });
        let argv: Vec<String> = argv.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        Ok(match (shell, argv.as_slice()) {
            (true, [script]) => script.clone(),
            _ => words::join(argv.iter().map(String::as_str)),
        })
    }

    /// What a dry run shows.
    pub(crate) fn print(&self, screen: &Screen, indices: impl Iterator<Item = u32>) -> anyhow::Result<()> {
        print_commands(screen, indices, |index| self.command(index))
    }
}

/// The commands that a dry run leaves alone, by their elements.
pub(crate) fn print_commands(
    screen: &Screen,
    indices: impl Iterator<Item = u32>,
    command: impl Fn(u32) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    const SCHEMA: &str = "taskq.v1.commands";
    let (mut out, mut array) = (Out::new(), Array::new(SCHEMA));
    for index in indices {
        let planned = Planned { index, command: command(index)? };
        let written = match screen.format {
            Format::Json => array.element(&mut out, &planned),
            Format::Jsonl => out.record(SCHEMA, &planned),
            Format::Table | Format::Tsv | Format::Id => out.line(&planned.command),
        };
        written.map_err(|cause| output::stdout_failed(&cause))?;
    }
    let ended = if screen.format == Format::Json { array.end(&mut out) } else { Ok(()) };
    ended.and_then(|()| out.flush()).map_err(|cause| output::stdout_failed(&cause))
}

#[derive(Serialize)]
struct Planned {
    index: u32,
    command: String,
}
