//! `taskq map`: one task per element, their output in order, a job log, resumable. For those who know GNU parallel.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::ValueHint;
use taskq_client::model::{Span, Stream};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::holes::Holes;
use crate::interrupt::Interrupts;
use crate::joblog::{Earlier, Writer};
use crate::plan::{Flags, Plan};
use crate::progress::{self, Progress};
use crate::sources;
use crate::view::Shown;
use crate::{job, text, words};

use self::attached::{Attached, Ended};

mod again;
mod attached;
mod misplaced;
mod write;

/// Run a command once per element and print the outputs in order
///
/// The template is given as separate words, or as one string that is split at spaces and quotes like a shell would, but
/// without a shell (-c asks for one). Placeholders: {} the element, {.} without extension, {/} file name, {//}
/// directory, {/.} file name without extension, {#} number from 1, {%} slot, {1} {2} of several sources, {name} of a
/// CSV or JSON field. Without a placeholder the element is appended.
///
/// With -o jsonl, a line for each task as it ends instead of its output, then one for the job; with --json, the
/// document of `taskq show` at the end. The outputs are then left to `taskq result`.
///
/// With --call, a function that workers offer is called with each element, and what it returns is printed, a line of
/// JSON each; what it prints itself goes to standard error. Elements are then the lines of --jsonl, any JSON; the records
/// of --csv as objects; and values and lines, which are JSON if they can be read as such, and else text. An element whose
/// call failed has no line here, only a message: to tell which line belongs to which element, `taskq result last -o jsonl`
/// has index, state and value of each.
///
/// Ctrl-C cancels what has not ended; a second one does not wait for the end of what runs.
#[derive(clap::Args, Debug)]
#[command(after_help = job::help("Examples:\n  \
    taskq map gzip -k9 {} ::: *.txt\n  \
    taskq map 'convert {} -resize 50% {.}.small.png' ::: *.jpg\n  \
    taskq map ./fit --rate {1} --seed {2} ::: 0.1 0.01 ::: 1 2 3\n  \
    find . -name '*.log' -print0 | taskq map --each-null - xz\n  \
    taskq map --joblog jobs.tsv -j 50 --retries 2 'curl -sfO {}' :::: urls.txt\n  \
    taskq map --resume-failed jobs.tsv\n  \
    taskq map --call resize --jsonl items.jsonl\n  \
    taskq map --call fib ::: 10 20 30\n\n\
    Options of taskq come before the template. Exit codes: 0 all succeeded, 1 some failed, 6 cancelled,\n\
    74 standard output is not whole or could not be written, 130 Ctrl-C. All codes: taskq --help"))]
pub(crate) struct Args {
    #[command(flatten)]
    job: job::Args,
    #[command(flatten)]
    many: job::Many,
    #[command(flatten)]
    sources: sources::Args,
    /// Call this function with each element instead of running a command
    #[arg(long, value_name = "FUNCTION")]
    call: Option<String>,
    /// Print outputs in the order of the elements; this is the default
    #[arg(short, long, overrides_with = "unordered")]
    keep_order: bool,
    /// Print outputs as tasks end
    #[arg(short, long, overrides_with = "keep_order")]
    unordered: bool,
    /// Write a tab-separated line per ended task to this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    joblog: Option<PathBuf>,
    /// Leave out the elements that this job log has already, and go on writing it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["resume_failed", "joblog"])]
    resume: Option<PathBuf>,
    /// The same, but run again what failed; without a template, only that
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "joblog")]
    resume_failed: Option<PathBuf>,
    #[command(flatten)]
    progress: progress::Args,
    /// Print the commands, and run nothing
    #[arg(long)]
    dry_run: bool,
    /// Exit with 0 even if tasks fail
    #[arg(long)]
    exit_zero: bool,
    /// The command with placeholders, then perhaps `::: VALUES` or `:::: FILES`
    #[arg(value_name = "TEMPLATE", required_unless_present_any = ["resume_failed", "call"], trailing_var_arg = true, value_hint = ValueHint::CommandWithArguments)]
    template: Vec<OsString>,
}

impl Args {
    /// The job log of an earlier run, if there was one.
    fn resumes(&self) -> Option<&Path> {
        self.resume.as_deref().or(self.resume_failed.as_deref())
    }
}

pub(crate) async fn run(mut args: Args, context: &Context) -> anyhow::Result<Exit> {
    if let (Some(path), None, true) = (&args.resume_failed, &args.call, args.template.is_empty()) {
        return again::run(&args, path, context).await;
    }
    misplaced::check(&context.typed, &args.template)?;
    args.job.keep_all_output();
    if let Some(function) = args.call.as_deref().filter(|_| !args.dry_run) {
        context.refuse_local_calls(function)?;
    }
    let flags = Flags { job: &args.job, many: &args.many, sources: &args.sources };
    let (template, trailing) = sources::split(args.template.clone())?;
    let plan = match &args.call {
        Some(function) if template.is_empty() => Plan::read_call(&flags, function, trailing).await?,
        Some(function) => {
            return Err(Failure::usage(format!(
                "--call {function} takes no template, only elements: put ::: before {}",
                text::short(&template[0].to_string_lossy())
            )));
        }
        None => {
            let shell = args.job.shell();
            let argv = template_words(job::argv(template, shell)?, shell)?;
            Plan::read(&flags, argv, trailing).await?
        }
    };
    if plan.elements.is_empty() {
        let hint = misplaced::hint(&args.template).unwrap_or_default();
        return Err(Failure::usage(format!(
            "there is nothing to map over; add elements: `::: a b c`, `:::: FILE`, --each-line FILE, --array 1-10{hint}"
        )));
    }
    let left = left_to_do(&args, &plan)?;
    let tasks: u64 = left.iter().map(|span| u64::from(span.count)).sum();
    if tasks == 0 {
        context.say("taskq: nothing to do");
    }
    if args.dry_run {
        plan.print(&context.screen, left.iter().flat_map(|span| span.first..span.first + span.count))?;
        return Ok(Exit::Ok);
    }
    if tasks == 0 {
        Shown::default().print(&context.screen)?;
        return Ok(Exit::Ok);
    }
    let joblog = match (&args.joblog, args.resumes()) {
        (_, Some(path)) => Some(Writer::open(path, true)?),
        (Some(path), None) => Some(Writer::open(path, false)?),
        (None, None) => None,
    };
    let builder = plan.builder(&flags)?;
    let client = context.client().await?;
    let mut interrupts = Interrupts::listen()?;
    let mut spec = client.prepare(builder).await?;
    if args.resumes().is_some() {
        spec.elements.get_or_insert_default().only = left;
    }
    let ids = client.submit_all(vec![spec]).await?;
    let id = *ids
        .first()
        .ok_or_else(|| Failure::because(Exit::Internal, "the coordinator gave the job no number"))?;
    let handle = client.attach(id);
    let attached = Attached {
        context,
        client: &client,
        commands: &|index| plan.command(index),
        progress: Progress::new(args.progress, &context.screen, id.to_string()),
        joblog,
        calls: args.call.is_some(),
        broken: false,
        holes: Holes::new(if args.call.is_some() { &[] } else { &[Stream::Stdout] }),
    };
    let Ended { exit, job } =
        attached.collect(&handle, args.unordered, args.exit_zero, &mut interrupts).await?;
    if let Some(job) = job {
        Shown::print_ended(&context.screen, &client, [job]).await?;
    }
    Ok(exit)
}

/// One string with spaces is a whole command line.
fn template_words(argv: Vec<String>, shell: bool) -> anyhow::Result<Vec<String>> {
    match argv.as_slice() {
        [line] if !shell && line.contains(char::is_whitespace) => Ok(words::split(line)?),
        _ => Ok(argv),
    }
}

/// The elements that are to run: all, or what an earlier run has left.
fn left_to_do(args: &Args, plan: &Plan) -> anyhow::Result<Vec<Span>> {
    let total = plan.total()?;
    let Some(path) = args.resumes() else {
        return Ok(if total == 0 { vec![] } else { vec![Span { first: 0, count: total }] });
    };
    let earlier = Earlier::read(path)?;
    let mut left = Vec::new();
    let mut next = 0_u32;
    for seq in earlier.done(args.resume_failed.is_some()) {
        let index = u32::try_from(seq - 1).ok().filter(|index| *index < total).ok_or_else(|| {
            Failure::usage(format!(
                "{} has a line for element {seq}, but there are {total}; it belongs to another map",
                path.display()
            ))
        })?;
        let command = plan.command(index)?;
        if let Some(logged) = earlier.other_command(seq, &command) {
            return Err(Failure::usage(format!(
                "{} says that element {seq} was `{}`, but now it is `{}`; use another --joblog for another map",
                path.display(),
                text::short(logged),
                text::short(&command),
            )));
        }
        if index > next {
            left.push(Span { first: next, count: index - next });
        }
        next = index + 1;
    }
    if next < total {
        left.push(Span { first: next, count: total - next });
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_string_is_a_command_line_and_words_stay_words() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let split = template_words(words(&["convert {} 'a b'"]), false).expect("split");
        assert_eq!(split, ["convert", "{}", "a b"]);
        assert_eq!(template_words(words(&["gzip"]), false).expect("one word"), ["gzip"]);
        assert_eq!(template_words(words(&["a b", "{}"]), false).expect("two words"), ["a b", "{}"]);
        assert_eq!(template_words(words(&["cat {} | wc"]), true).expect("script"), ["cat {} | wc"]);
        assert!(template_words(words(&["cat {} | wc"]), false).is_err());
    }
}
