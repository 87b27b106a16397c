//! `taskq-server doctor`: reads all of a backup or of a data directory, says what is damaged and what that costs, and saves
//! the rest into a new backup.

use std::path::PathBuf;

use super::target::{self, Target};
use crate::store::backup::{self, Report, Source, Summary};

/// Lines of each kind on a terminal; `--json` has them all.
const LINES: usize = 50;

/// What, and where the rest goes.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A backup, or a data directory that no server uses meanwhile
    #[arg(value_name = "FILE|DIR")]
    pub path: PathBuf,

    /// Write what is whole into a new backup; `-` is standard output
    #[arg(long, value_name = "OUT")]
    pub salvage: Option<PathBuf>,

    /// Replace OUT if it is there already
    #[arg(long, requires = "salvage")]
    pub force: bool,

    /// Say what was found as JSON
    #[arg(long)]
    pub json: bool,
}

/// What ails it, or why that cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// See there.
    #[error(transparent)]
    Backup(#[from] backup::Error),
    /// The new backup.
    #[error(transparent)]
    Target(#[from] target::Error),
    /// It was told on standard output.
    #[error("{path} is damaged: {places} places, {lost} losses; {next}", path = path.display())]
    Damaged {
        /// The file or directory.
        path: PathBuf,
        /// Damaged places.
        places: usize,
        /// Losses of jobs.
        lost: usize,
        /// What to do.
        next: String,
    },
}

impl Error {
    pub(super) fn code(&self) -> u8 {
        match self {
            Error::Backup(error) => super::code(error),
            Error::Target(error) => error.code(),
            Error::Damaged { .. } => 78,
        }
    }
}

pub(super) fn doctor(args: &Args) -> Result<(), Error> {
    let target = args.salvage.as_ref().map(|out| Target::create(out, args.force)).transpose()?;
    let source = Source::open(&args.path)?;
    let report = backup::check(&source)?;
    let saved = match target {
        Some(target) => Some(save(&source, &report, target)?),
        None => None,
    };
    match args.json {
        true => say(args, &json(&report, saved.as_ref()).to_string()),
        false => text(args, &report, saved.as_ref()),
    }
    if report.is_whole() {
        return Ok(());
    }
    let next = match (&args.salvage, args.path.is_dir()) {
        (Some(out), _) => format!("the rest is in {}: taskq-server restore {0} --data DIR", out.display()),
        (None, _) => format!("save the rest with: taskq-server doctor {} --salvage OUT", args.path.display()),
    };
    let (places, lost) = (report.damages.len(), report.lost.len());
    Err(Error::Damaged { path: args.path.clone(), places, lost, next })
}

fn save(source: &Source, report: &Report, target: Target) -> Result<Summary, Error> {
    let mut out = target.file()?;
    let saved = match backup::salvage(source, report, &mut out) {
        Err(backup::Error::Write(cause)) => return Err(target.said(cause).into()),
        saved => saved?,
    };
    target.finish()?;
    Ok(saved)
}

fn text(args: &Args, report: &Report, saved: Option<&Summary>) {
    list(args, report.damages.iter().map(ToString::to_string).collect());
    list(args, report.lost.iter().map(|(job, what)| format!("job {job}: {what}")).collect());
    let state = if report.is_whole() { "whole" } else { "what is left" };
    let held = format!(
        "{}: {state}: {} jobs, {} records and {} large values in {}",
        args.path.display(),
        report.jobs,
        report.records,
        report.blobs,
        super::size(report.bytes),
    );
    say(args, &held);
    if let (Some(saved), Some(out)) = (saved, &args.salvage) {
        say(args, &format!("{}: {} jobs, {}", out.display(), saved.jobs, super::size(saved.bytes)));
    }
}

fn list(args: &Args, lines: Vec<String>) {
    for line in lines.iter().take(LINES) {
        say(args, line);
    }
    if lines.len() > LINES {
        say(args, &format!("and {} more (--json lists them all)", lines.len() - LINES));
    }
}

/// Standard output may be the new backup.
fn say(args: &Args, line: &str) {
    let taken = args.salvage.as_ref().is_some_and(|out| out.as_os_str() == "-");
    if taken { eprintln!("{line}") } else { println!("{line}") }
}

fn json(report: &Report, saved: Option<&Summary>) -> serde_json::Value {
    let damages: Vec<_> = report
        .damages
        .iter()
        .map(|damage| {
            let jobs: Vec<_> = damage.jobs.iter().map(|(first, last)| [first.0, last.0]).collect();
            serde_json::json!({
                "file": damage.file, "from": damage.bytes.map(|b| b.0), "to": damage.bytes.map(|b| b.1),
                "what": damage.what, "jobs": jobs,
            })
        })
        .collect();
    let lost: Vec<_> =
        report.lost.iter().map(|(job, what)| serde_json::json!({ "job": job.0, "what": what })).collect();
    serde_json::json!({
        "path": report.path, "whole": report.is_whole(), "bytes": report.bytes, "jobs": report.jobs,
        "records": report.records, "blobs": report.blobs, "damages": damages, "lost": lost,
        "taken_unix_ms": report.made.as_ref().map(|(wall, _)| wall.0),
        "saved_jobs": saved.map(|saved| saved.jobs),
    })
}
