//! `taskq-server restore`: a backup becomes a data directory that a coordinator can be started on.

use std::path::PathBuf;

use crate::{
    clock,
    config::{self, default_data},
    store::backup,
};

/// What, and where to.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// An empty or missing directory, which becomes the data directory [default: $XDG_DATA_HOME/taskq]
    #[arg(long, env = "TASKQ_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Make a new token: workers and clients must be given the new access.toml
    #[arg(long)]
    pub new_token: bool,

    /// Say what was restored as JSON
    #[arg(long)]
    pub json: bool,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// See there.
    #[error(transparent)]
    Backup(#[from] backup::Error),
    /// Nobody says which directory.
    #[error(transparent)]
    Config(#[from] config::Error),
}

impl Error {
    pub(super) fn code(&self) -> u8 {
        match self {
            Error::Backup(error) => super::code(error),
            Error::Config(_) => 78,
        }
    }
}

pub(super) fn restore(args: &Args) -> Result<(), Error> {
    let dir = match &args.data {
        Some(dir) => dir.clone(),
        None => default_data().ok_or(config::Error::NoHome)?,
    };
    let now = clock::wall();
    let restored = backup::restore(&args.file, &dir, args.new_token, now)?;
    let (report, access) = (&restored.report, dir.join(crate::access::FILE));
    let taken = report.made.as_ref().map_or(0, |(wall, _)| wall.0);
    if args.json {
        let told = serde_json::json!({
            "data": dir, "jobs": report.jobs, "records": report.records, "blobs": report.blobs,
            "taken_unix_ms": taken, "same_token": restored.same_token, "jobs_above": restored.highest.0,
        });
        println!("{told}");
        return Ok(());
    }
    println!(
        "{}: {} jobs and {} large values, as they were {} ago",
        dir.display(),
        report.jobs,
        report.blobs,
        super::span(now.0.saturating_sub(taken)),
    );
    match restored.same_token {
        true => println!(
            "the token is the former one: workers and clients come in as before (--new-token makes another)"
        ),
        false => println!("there is a new token in {}: give it to workers and clients", access.display()),
    }
    println!(
        "new jobs get numbers above {}; what may run somewhere since the backup is waited for at the first start, and \
         counts as attempt 1,001 or more",
        restored.highest
    );
    println!("start it with: taskq-server --data {}", dir.display());
    Ok(())
}
