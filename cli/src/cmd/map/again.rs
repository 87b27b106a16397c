//! `taskq map --resume-failed LOG` without a template: the coordinator still has the jobs of the log, so what failed
//! in them is submitted again from there, and the log goes on.

use std::path::Path;

use taskq_client::JobId;
use taskq_client::model::{JobTasks, Selection, Span, Stream};

use super::{Args, Attached, Ended};
use crate::context::Context;
use crate::exit::{self, Exit, Failure};
use crate::holes::Holes;
use crate::interrupt::Interrupts;
use crate::joblog::{Earlier, Writer};
use crate::plan;
use crate::progress::Progress;
use crate::view::Shown;

/// One job after the other: usually there is one. For a program, one document in the end tells of all of them.
pub(super) async fn run(args: &Args, path: &Path, context: &Context) -> anyhow::Result<Exit> {
    if let Err(cause) = std::fs::metadata(path) {
        return Err(Failure::io(format!("--resume-failed {}", path.display()), &cause));
    }
    let earlier = Earlier::read(path)?;
    let failed = earlier.failed();
    if failed.is_empty() {
        context.say(&format!("taskq: nothing failed according to {}", path.display()));
    }
    let command = |index: u32| Ok(earlier.command(u64::from(index) + 1).unwrap_or_default().to_owned());
    if args.dry_run {
        let indices = failed.values().flatten().filter_map(|seq| u32::try_from(seq - 1).ok());
        plan::print_commands(&context.screen, indices, command)?;
        return Ok(Exit::Ok);
    }
    if failed.is_empty() {
        Shown::default().print(&context.screen)?;
        return Ok(Exit::Ok);
    }
    let client = context.client().await?;
    let mut interrupts = Interrupts::listen()?;
    let (mut worst, mut ended) = (Exit::Ok, Vec::new());
    let mut refused = None;
    for (job, seqs) in failed {
        let id = match again(&client, path, job, &seqs).await {
            Ok(id) => id,
            Err(error) => {
                refused = Some(error);
                break;
            }
        };
        let calls = client.get(id).await?.spec.is_some_and(|spec| spec.call.is_some());
        let attached = Attached {
            context,
            client: &client,
            commands: &command,
            progress: Progress::new(args.progress, &context.screen, id.to_string()),
            joblog: Some(Writer::open(path, true)?),
            calls,
            broken: false,
            holes: Holes::new(if calls { &[] } else { &[Stream::Stdout] }),
        };
        let Ended { exit, job } =
            attached.collect(&client.attach(id), args.unordered, args.exit_zero, &mut interrupts).await?;
        ended.extend(job);
        worst = if exit == Exit::Ok { worst } else { exit };
        if exit == Exit::Interrupted {
            break;
        }
    }
    // What has run is told, also if the rest could not.
    Shown::print_ended(&context.screen, &client, ended).await?;
    match refused {
        Some(error) => Err(error),
        None => Ok(worst),
    }
}

async fn again(client: &taskq_client::Client, path: &Path, job: u64, seqs: &[u64]) -> anyhow::Result<JobId> {
    let mut indices: Vec<Span> = Vec::new();
    for index in seqs.iter().filter_map(|seq| u32::try_from(seq - 1).ok()) {
        match indices.last_mut() {
            Some(span) if span.first + span.count == index => span.count += 1,
            _ => indices.push(Span { first: index, count: 1 }),
        }
    }
    if job == 0 {
        let message =
            format!("{} does not say which job ran its commands; give the template as well", path.display());
        return Err(Failure::usage(message));
    }
    let selection = Selection { jobs: vec![JobTasks { job_id: job, indices }], filter: None };
    let acted = client.retry(selection, false).await?;
    match acted.first() {
        Some(one) if one.error_code == 0 && one.new_job_id != 0 => Ok(JobId(one.new_job_id)),
        Some(one) => {
            let exit = if one.error_code == 0 { Exit::Conflict } else { exit::of_grpc(one.error_code) };
            Err(Failure::because(exit, format!("job {job} cannot be retried: {}", one.note)))
        }
        None => Err(Failure::because(
            Exit::NotFound,
            format!("job {job} of {} is not there any more", path.display()),
        )),
    }
}
