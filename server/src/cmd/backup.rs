//! `taskq-server backup`: a running coordinator is asked for it, and goes on as before; a directory that nobody serves is
//! read as it is.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::signal::unix::{SignalKind, signal};

use super::target::{self, Target};
use crate::{
    access::{self, FILE},
    clock,
    config::{self, default_data},
    dial,
    store::{
        self, LogStore, Options, Store as _,
        backup::{About, Error as Failure, Summary},
    },
};

/// Of what, and where to.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The backup; `-` is standard output
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The access file of a running coordinator [env: TASKQ_ACCESS]
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub access: Option<PathBuf>,

    /// A data directory, served or not [env: TASKQ_DATA] [default: $XDG_DATA_HOME/taskq]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Replace FILE if it is there already
    #[arg(long)]
    pub force: bool,

    /// Say what is in it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error(transparent)]
    Target(#[from] target::Error),
    /// The coordinator.
    #[error(transparent)]
    Coordinator(dial::Error),
    /// The store.
    #[error(transparent)]
    Store(Failure),
    /// The access file.
    #[error(transparent)]
    Access(#[from] access::Error),
    /// There is no access file.
    #[error(
        "{path} does not exist; say which coordinator with --access FILE, or which directory with --data DIR"
    )]
    NoAccess {
        /// Where it would be.
        path: PathBuf,
    },
    /// Nobody says which directory.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A signal.
    #[error("interrupted; nothing is kept of the backup")]
    Interrupted,
}

impl Error {
    pub(super) fn code(&self) -> u8 {
        match self {
            Error::Target(error) => error.code(),
            Error::Coordinator(error) => match error {
                dial::Error::Refused { denied: true, .. } => 77,
                dial::Error::Refused { damaged: true, .. } => 78,
                dial::Error::Write(_) => 74,
                dial::Error::Refused { .. }
                | dial::Error::Address { .. }
                | dial::Error::Unreachable { .. }
                | dial::Error::Starting { .. }
                | dial::Error::NotServing { .. }
                | dial::Error::Strange { .. }
                | dial::Error::Lost { .. }
                | dial::Error::Garbled { .. } => 69,
            },
            Error::Store(error) => super::code(error),
            Error::Access(_) | Error::NoAccess { .. } | Error::Config(_) => 78,
            Error::Interrupted => 130,
        }
    }
}

/// Where from.
enum From {
    Coordinator(PathBuf),
    Directory(PathBuf),
}

pub(super) async fn backup(args: &Args) -> Result<(), Error> {
    let start = Instant::now();
    let said = |cause| target::Error::Io { path: args.file.clone(), cause };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(said)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(said)?;
    let (source, target) = (args.source()?, Target::create(&args.file, args.force)?);
    // Cancel-safe: an unfinished file is removed with its target.
    let summary = tokio::select! {
        summary = fill(&target, &source) => summary?,
        _ = interrupt.recv() => return Err(Error::Interrupted),
        _ = terminate.recv() => return Err(Error::Interrupted),
    };
    target.finish()?;
    tell(args, &summary, start.elapsed());
    Ok(())
}

impl Args {
    fn source(&self) -> Result<From, Error> {
        let env = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Ok(match (&self.access, &self.data) {
            (Some(file), _) => From::Coordinator(file.clone()),
            (None, Some(dir)) => From::Directory(dir.clone()),
            (None, None) => match (env("TASKQ_ACCESS"), env("TASKQ_DATA")) {
                (Some(file), _) => From::Coordinator(file),
                (None, Some(dir)) => From::Directory(dir),
                (None, None) => From::Directory(default_data().ok_or(config::Error::NoHome)?),
            },
        })
    }
}

async fn fill(target: &Target, from: &From) -> Result<Summary, Error> {
    let dir = match from {
        From::Coordinator(file) => return ask(target, file).await,
        From::Directory(dir) => dir.clone(),
    };
    let out = target.file()?;
    let read = {
        let dir = dir.clone();
        tokio::task::spawn_blocking(move || read(&dir, out)).await
    };
    match read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())) {
        // Somebody serves it, and can be asked.
        Err(Failure::Store(store::Error::Locked { .. })) => ask(target, &dir.join(FILE)).await,
        Err(Failure::Write(cause)) => Err(target.said(cause).into()),
        read => read.map_err(Error::Store),
    }
}

/// Of a directory that nobody serves.
fn read(dir: &Path, mut out: File) -> Result<Summary, Failure> {
    if !dir.join("sled").is_dir() {
        return Err(Failure::NoStore { dir: dir.to_owned() });
    }
    let store = LogStore::open(&Options::new(dir))?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let about = About { wall: clock::wall(), version, token: access::token_in(dir)?, salvaged: false };
    store.backup(&about, &mut out)
}

/// Of a coordinator.
async fn ask(target: &Target, file: &Path) -> Result<Summary, Error> {
    let Some((addr, token)) = access::way(file)? else {
        return Err(Error::NoAccess { path: file.to_owned() });
    };
    let mut out = target.file()?;
    let mut progress = Progress { shown: Instant::now(), any: false };
    let fetched = dial::backup(&addr, token.reveal(), &mut out, &mut |bytes| progress.show(bytes)).await;
    progress.end();
    let summary = match fetched {
        Err(dial::Error::Write(cause)) => return Err(target.said(cause).into()),
        fetched => fetched.map_err(Error::Coordinator)?,
    };
    Ok(Summary {
        bytes: summary.bytes,
        sha256: summary.sha256.as_ref().try_into().unwrap_or_default(),
        jobs: summary.jobs,
        records: summary.records,
        blobs: summary.blobs,
    })
}

/// How far it has come, on a terminal.
struct Progress {
    shown: Instant,
    any: bool,
}

impl Progress {
    fn show(&mut self, bytes: u64) {
        if self.shown.elapsed() < Duration::from_millis(500) || !io::stderr().is_terminal() {
            return;
        }
        (self.shown, self.any) = (Instant::now(), true);
        // A terminal that is gone has nobody who looks.
        let _shown = write!(io::stderr(), "\r{} MiB", bytes >> 20);
    }

    fn end(&self) {
        if self.any {
            let _shown = writeln!(io::stderr());
        }
    }
}

fn tell(args: &Args, summary: &Summary, took: Duration) {
    let text = match args.json {
        true => serde_json::json!({
            "file": args.file, "bytes": summary.bytes, "jobs": summary.jobs, "records": summary.records,
            "blobs": summary.blobs, "sha256": hex(&summary.sha256), "ms": super::millis(took),
        })
        .to_string(),
        false => format!(
            "{}: {} jobs and {} large values, {}, in {:.1} s; check it with: taskq-server doctor {}",
            args.file.display(),
            summary.jobs,
            summary.blobs,
            super::size(summary.bytes),
            took.as_secs_f64(),
            args.file.display(),
        ),
    };
    // Standard output may be the backup itself.
    if args.file == Path::new("-") { eprintln!("{text}") } else { println!("{text}") }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
