//! Every setting, once: flag, environment variable, default, and what it does.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use taskq_core::id::Millis;

use crate::{cmd::Command, store::Retention};

/// The port that clients and workers try when they are told nothing.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:7733";

/// The taskq coordinator: keeps jobs on disk and hands their tasks to workers.
///
/// Without a command it serves, until it is told to stop.
///
/// Exit codes: 0 stopped or done, 2 usage, 69 cannot listen or nobody serves, 73 something is there already, 74 the disk
/// failed, 75 the data directory is in use, 77 wrong token, 78 wrong configuration, corrupt store or damaged backup.
#[derive(Clone, Debug, Parser)]
#[command(name = "taskq-server", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// How to serve.
    #[command(flatten)]
    pub serve: Args,
}

/// How to serve.
#[derive(Clone, Debug, Parser)]
#[command(name = "taskq-server")]
pub struct Args {
    /// Directory for jobs, results and access.toml; made if missing [default: $XDG_DATA_HOME/taskq]
    #[arg(long, env = "TASKQ_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Address to listen on; port 0 takes a free one (access.toml says which)
    #[arg(long, env = "TASKQ_LISTEN", default_value = DEFAULT_LISTEN, value_name = "ADDR:PORT")]
    pub listen: SocketAddr,

    /// Take the token from this file (one line, readable by its owner only) instead of making one; access.toml gets it, too
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Listen beyond this machine without encryption: tokens and jobs can be read on the way
    #[arg(long)]
    pub insecure_plaintext: bool,

    /// Keep jobs in memory only: everything is lost at the end
    #[arg(long)]
    pub ephemeral: bool,

    /// Silence after which a worker's tasks are given to others
    #[arg(long, default_value = "15s", value_name = "TIME", value_parser = span)]
    pub lease: Duration,

    /// How long ended jobs are kept
    #[arg(long, default_value = "7d", value_name = "TIME", value_parser = span)]
    pub keep_for: Duration,

    /// How many ended jobs are kept
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub keep_jobs: usize,

    /// Jobs that may wait or run at one time; beyond it submits are told to try again
    #[arg(long, default_value_t = 20_000_000, value_name = "N")]
    pub max_jobs: u64,

    /// How log lines look; JSON: one object a line, also for panics and the error that ends the program
    #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "TASKQ_LOG_FORMAT")]
    pub log_format: LogFormat,

    /// Serve what is left of a store that has, or may have, lost jobs that were acknowledged; for one start
    #[arg(long)]
    pub accept_loss: bool,

    /// Acknowledge before the disk has synced; for the tests that must see data lost
    #[arg(long, hide = true)]
    pub unsafe_no_sync: bool,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the store is; `None` = in memory.
    pub data: Option<PathBuf>,
    /// Where the token is that others know already; `None` = the one in `access.toml`.
    pub token_file: Option<PathBuf>,
    /// Silence after which a worker's tasks are given to others.
    pub lease: Millis,
    /// How long ended jobs are kept.
    pub keep: Retention,
    /// Jobs that may wait or run at one time.
    pub max_jobs: u64,
    /// Whether a store is served that may have lost acknowledged jobs.
    pub accept_loss: bool,
    /// Whether commits are synced; only tests say no.
    pub guard: bool,
    /// Whether `access.toml` in the data directory tells others how to come in.
    pub advertise: bool,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Everybody on the network could read the token.
    #[error(
        "--listen {0} is reachable from other machines and there is no encryption; listen on 127.0.0.1, or say \
         --insecure-plaintext if the network is trusted"
    )]
    Exposed(SocketAddr),
    /// There is no home directory to put the data in.
    #[error("no --data was given and neither XDG_DATA_HOME nor HOME is set; give --data DIR")]
    NoHome,
    /// A lease must leave room for a few heartbeats.
    #[error("--lease must be from 1s to 1h")]
    Lease,
}

impl Args {
    /// Checks the settings.
    ///
    /// # Errors
    /// If they contradict each other or the rules above.
    pub fn check(&self) -> Result<Config, Error> {
        if !self.listen.ip().is_loopback() && !self.insecure_plaintext {
            return Err(Error::Exposed(self.listen));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(3_600)).contains(&self.lease) {
            return Err(Error::Lease);
        }
        let data = match (&self.data, self.ephemeral) {
            (_, true) => None,
            (Some(dir), false) => Some(dir.clone()),
            (None, false) => Some(default_data().ok_or(Error::NoHome)?),
        };
        Ok(Config {
            data,
            token_file: self.token_file.clone(),
            lease: millis(self.lease),
            keep: Retention { age: millis(self.keep_for), jobs: self.keep_jobs },
            max_jobs: self.max_jobs,
            accept_loss: self.accept_loss,
            guard: !self.unsafe_no_sync,
            advertise: true,
        })
    }
}

impl Config {
    /// The defaults, with the store in this directory or in memory; for embedding.
    #[must_use]
    pub fn new(data: Option<PathBuf>) -> Config {
        let args = Args::parse_from(["taskq-server"]);
        let keep = Retention { age: millis(args.keep_for), jobs: args.keep_jobs };
        Config {
            data,
            token_file: None,
            lease: millis(args.lease),
            keep,
            max_jobs: args.max_jobs,
            accept_loss: false,
            guard: true,
            advertise: true,
        }
    }
}

/// `$XDG_DATA_HOME/taskq`, or `~/.local/share/taskq`.
#[must_use]
pub fn default_data() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")))?;
    Some(base.join("taskq"))
}

fn millis(span: Duration) -> Millis {
    Millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

/// `500ms`, `15s`, `5m`, `2h`, `7d`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time; write it like 500ms, 15s, 5m, 2h or 7d");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &[&str]) -> Result<Config, Error> {
        Args::try_parse_from([&["taskq-server", "--data", "/x"], args].concat()).unwrap().check()
    }

    #[test]
    fn only_loopback_may_be_plain() {
        assert!(check(&["--listen", "[::1]:1"]).is_ok());
        assert!(matches!(check(&["--listen", "0.0.0.0:1"]), Err(Error::Exposed(_))));
        assert!(check(&["--listen", "0.0.0.0:1", "--insecure-plaintext"]).is_ok());
    }

    #[test]
    fn times_have_units() {
        assert_eq!(span("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(span("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "15", "s", "1w", "-1s", "99999999999999999999d", "18446744073709551615d"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert!(matches!(check(&["--lease", "10ms"]), Err(Error::Lease)));
    }
}
