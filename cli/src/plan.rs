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
    argv: Vec<String>,
    shell: bool,
    template: Template,
    pub(crate) elements: Elements,
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
        Ok(Plan { argv, shell, template, elements: values.elements })
    }

    /// How many tasks there are.
    pub(crate) fn total(&self) -> anyhow::Result<u32> {
        Ok(self.elements.total()?)
    }

    /// The job, ready to be submitted.
    pub(crate) fn builder(&self, flags: &Flags<'_>) -> anyhow::Result<JobBuilder> {
        let max_parallel = flags.many.max_parallel.or(flags.sources.max_parallel());
        let many = job::Many { max_parallel, ..flags.many.clone() };
        let builder = flags.job.builder(self.argv.clone(), &many, self.elements.clone())?;
        builder.check()?;
        Ok(builder)
    }

    /// The command of one element, as one would type it in a shell.
    pub(crate) fn command(&self, index: u32) -> anyhow::Result<String> {
        let fields = if self.elements.is_empty() { vec![] } else { self.elements.row(index)? };
        let argv = self.template.expand(&taskq_template::Values {
            job: 0,
            index,
            attempt: 1,
            slot: 0,
            worker: "{worker}",
            fields: &fields,
        });
        let argv: Vec<String> = argv.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        Ok(match (self.shell, argv.as_slice()) {
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
