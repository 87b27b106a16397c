//! Every setting of the worker once: as it is typed, and as it is used.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use taskq_client::{Access, Address, Port, Sources};

/// The most slots of one worker.
const SLOTS_MAX: u32 = 4_096;
/// The most asynchronous calls at once.
const ASYNC_SLOTS_MAX: u32 = 65_536;
/// Enough to wait for a thousand other machines at once.
const ASYNC_SLOTS: u32 = 1_000;
/// Waiting tasks per slot that the coordinator may send ahead: about 50 ms of the shortest ones.
const AHEAD: u32 = 128;
/// The same for calls, which may be a hundred times as short.
const CALLS_AHEAD: u32 = 4_096;
const WINDOW_MAX: u32 = 65_536;

/// Takes tasks from a taskq coordinator and runs them on this machine: commands, and calls of functions.
///
/// SIGTERM or SIGINT drains: nothing new is taken, what has not started is given back, what runs is finished; a
/// second one stops what runs. Exit codes: 0 drained, 2 usage, 77 the token was refused, 78 configuration.
#[derive(Clone, Debug, Parser)]
#[command(name = "taskq-worker", version)]
pub struct Args {
    /// The coordinator, with its port. Default: what the access file says.
    #[arg(long, value_name = "HOST:PORT")]
    pub addr: Option<String>,
    /// File with the token [env: TASKQ_TOKEN or TASKQ_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// File with address and token, as the coordinator wrote it [env: TASKQ_ACCESS] [default: in the data directory]
    #[arg(long, value_name = "FILE")]
    pub access: Option<PathBuf>,
    /// How many tasks may run at once; auto: one for each core that this process may use, by its affinity and its
    /// container's quota. Default: auto.
    #[arg(long, env = "TASKQ_SLOTS", value_name = "N|auto", value_parser = slots)]
    pub slots: Option<Slots>,
    /// Start a worker with one slot for each core, NAME-0, NAME-1, ..., each held to its core with all that it runs, and look
    /// after them. Right where tasks keep a core busy each, and suffer from being moved: simulations, encoders, benchmarks.
    /// One worker with many slots (the default) is right for everything else: it costs less memory, lets the kernel choose
    /// the core, and alone can run a task of several slots. The exit code is the first bad one of theirs.
    #[arg(long, conflicts_with_all = ["slots", "resources"])]
    pub per_core: bool,
    /// Name of this worker. Default: HOSTNAME-PID. Give one that stays to be known again after a restart.
    #[arg(long, env = "TASKQ_NAME", value_parser = name)]
    pub name: Option<String>,
    /// A label that jobs can ask for; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// A countable resource that jobs can ask for, such as gpu=1; may be repeated
    #[arg(long = "resource", value_name = "NAME=COUNT", value_parser = resource)]
    pub resources: Vec<(String, u64)>,
    /// How many asynchronous calls may run at once, beside the slots
    #[arg(long, env = "TASKQ_ASYNC_SLOTS", default_value_t = ASYNC_SLOTS,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(ASYNC_SLOTS_MAX)))]
    pub async_slots: u32,
    /// Take calls of functions only, no commands
    #[arg(long)]
    pub no_commands: bool,
    /// A program whose functions can be called here: it is started once per slot, by `sh`, and speaks the protocol for
    /// children (docs/CHILD_PROTOCOL.md)
    #[arg(long, value_name = "COMMAND")]
    pub child: Option<String>,
    /// The address of this machine from which to connect, where it has several
    #[arg(long, value_name = "IP")]
    pub source_address: Option<IpAddr>,
    /// Niceness of tasks above the worker's own; keeps the machine responsive when all cores are busy
    #[arg(long, env = "TASKQ_NICE", default_value_t = 10, value_parser = clap::value_parser!(i32).range(0..=19))]
    pub nice: i32,
    /// What becomes of running tasks when the coordinator has been out of reach for longer than the lease
    #[arg(long, value_enum, default_value_t = OnLeaseLost::Finish)]
    pub on_lease_lost: OnLeaseLost,
    /// How the log on standard error looks
    #[arg(long, env = "TASKQ_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// What a worker does that the coordinator may have given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnLeaseLost {
    /// Tasks go on, so that they survive a coordinator that is down for long. Results that come too late are
    /// refused; side effects may overlap with those of the next attempt.
    #[default]
    Finish,
    /// Tasks are killed before another worker can get them.
    Kill,
}

/// How many slots a worker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// One for each core that it may use.
    Auto,
    /// So many: 1 to 4,096.
    Count(u32),
}

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object per line.
    Json,
}

/// What a worker needs to know, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the coordinator is.
    pub access: Access,
    /// `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`
    pub name: String,
    /// 1 to 4,096.
    pub slots: u32,
    /// What jobs can ask for.
    pub labels: BTreeMap<String, String>,
    /// What jobs can use up.
    pub resources: BTreeMap<String, u64>,
    /// Asynchronous calls at once, beside the slots; 1 to 65,536.
    pub async_slots: u32,
    /// Calls only.
    pub no_commands: bool,
    /// A shell command for children with functions of their own.
    pub child: Option<String>,
    /// From which of this machine's addresses to connect. None: whichever leads there.
    pub source_address: Option<IpAddr>,
    /// Added to the worker's own niceness for tasks; 0 to 19.
    pub nice: i32,
    /// What becomes of tasks whose lease may be over.
    pub on_lease_lost: OnLeaseLost,
    /// The coordinator lives in this very process, or ends with it, so that nobody is left to be told when the process is
    /// killed.
    pub coordinator_is_here: bool,
    /// Whether systemd is told how this process is, if its environment asks for it (`NOTIFY_SOCKET`).
    pub tell_manager: bool,
    /// An executable that calls [`maybe_become`](crate::spawner::maybe_become) first in its `main`. Default: this
    /// process's own. Children for process functions are started from it, too: it has to have the same functions.
    pub spawner: PathBuf,
}

impl Config {
    /// A worker with one slot per core, named after host and process.
    #[must_use]
    pub fn new(access: Access) -> Config {
        Config {
            access,
            name: default_name(),
            slots: cores(),
            labels: BTreeMap::new(),
            resources: BTreeMap::new(),
            async_slots: ASYNC_SLOTS,
            no_commands: false,
            child: None,
            source_address: None,
            nice: 10,
            on_lease_lost: OnLeaseLost::default(),
            coordinator_is_here: false,
            tell_manager: false,
            spawner: PathBuf::from("/proc/self/exe"),
        }
    }

    /// How many tasks the coordinator may entrust to this worker at once.
    pub(crate) fn window(&self, has_functions: bool) -> u32 {
        let commands = self.slots * (1 + AHEAD);
        if !has_functions {
            return commands;
        }
        let calls = self.slots.saturating_mul(1 + CALLS_AHEAD).min(WINDOW_MAX);
        calls.max(2 * self.async_slots).max(if self.no_commands { 0 } else { commands })
    }
}

impl TryFrom<Args> for Config {
    type Error = taskq_client::Error;

    fn try_from(args: Args) -> Result<Config, taskq_client::Error> {
        let access = Access::find(&Sources {
            addr: args.addr,
            token_file: args.token_file,
            access_file: args.access,
        })?;
        // A worker tries for ever to reach what may be an address, so what cannot be one is told at once. Unlike a
        // client it takes no port for granted: a typed name without one is more often a slip.
        Address::of(&access, Port::Required)?;
        let default = Config::new(access);
        Ok(Config {
            name: args.name.unwrap_or(default.name),
            slots: match args.slots {
                Some(Slots::Count(slots)) => slots,
                Some(Slots::Auto) | None => default.slots,
            },
            labels: args.labels.into_iter().collect(),
            resources: args.resources.into_iter().collect(),
            async_slots: args.async_slots,
            no_commands: args.no_commands,
            child: args.child,
            source_address: args.source_address,
            nice: args.nice,
            on_lease_lost: args.on_lease_lost,
            ..default
        })
    }
}

fn cores() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores).unwrap_or(SLOTS_MAX).min(SLOTS_MAX)
}

/// The name of this machine.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn default_name() -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let host: String =
        host().chars().filter(allowed).skip_while(|c| !c.is_ascii_alphanumeric()).take(48).collect();
    let host = if host.is_empty() { "worker" } else { &host };
    format!("{host}-{}", std::process::id())
}

fn name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && text.len() <= 64 && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("a name is 1 to 64 letters, digits, dots, underscores or dashes, and starts with a letter or digit".into())
    }
}

fn slots(text: &str) -> Result<Slots, String> {
    match text.parse() {
        _ if text == "auto" => Ok(Slots::Auto),
        Ok(count @ 1..=SLOTS_MAX) => Ok(Slots::Count(count)),
        Ok(_) | Err(_) => Err(format!("write a number from 1 to {SLOTS_MAX}, or auto")),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("write KEY=VALUE".to_owned()),
    }
}

fn resource(text: &str) -> Result<(String, u64), String> {
    let wrong = || "write NAME=COUNT, such as gpu=1".to_owned();
    let (key, count) = label(text).map_err(|_| wrong())?;
    Ok((name(&key)?, count.parse().map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(name("gpu-1.rack_2").is_ok());
        for wrong in ["", "-a", "a b", "ä", &"x".repeat(65)] {
            assert!(name(wrong).is_err(), "{wrong:?}");
        }
        assert!(name(&default_name()).is_ok());
    }

    #[test]
    fn an_address_needs_a_port() {
        let folder = tempfile::tempdir().expect("a folder");
        let configured = |addr: &str| {
            let file = folder.path().join("access.toml");
            let token = taskq_client::Token::new("t").expect("a token");
            Access::new(addr, token).write(&file).expect("written");
            let args = Args::try_parse_from(["taskq-worker".as_ref(), "--access".as_ref(), file.as_os_str()]);
            Config::try_from(args.expect("valid"))
        };
        assert_eq!(configured("localhost:1").expect("an address").access.addr, "localhost:1");
        for wrong in ["localhost", "[::1]", "m\u{fc}nchen.de:80"] {
            let said = configured(wrong).expect_err(wrong).to_string();
            assert!(said.contains("write HOST:PORT"), "{wrong:?}: {said}");
        }
    }

    #[test]
    fn the_window_is_wider_for_calls() {
        let access = Access::new("localhost:1", taskq_client::Token::new("t").expect("a token"));
        let config = Config { slots: 2, async_slots: 1_000, ..Config::new(access) };
        assert_eq!(config.window(false), 258);
        assert_eq!(config.window(true), 8_194);
        assert_eq!(Config { slots: 64, ..config.clone() }.window(true), 65_536);
        assert_eq!(Config { async_slots: 50_000, ..config.clone() }.window(true), 100_000);
        assert!(Config { slots: 4_096, ..config }.window(true) >= 4_096);
    }

    #[test]
    fn arguments_are_read() {
        let args =
            ["taskq-worker", "--slots", "3", "--label", "zone=a", "--resource", "gpu=2", "--nice", "0"];
        let args = Args::try_parse_from(args).expect("valid");
        assert_eq!(args.slots, Some(Slots::Count(3)));
        assert_eq!(args.labels, [("zone".to_owned(), "a".to_owned())]);
        assert_eq!(args.resources, [("gpu".to_owned(), 2)]);
        for wrong in [["--slots", "0"], ["--slots", "4097"], ["--resource", "gpu"], ["--resource", "gpu=-1"]]
        {
            assert!(Args::try_parse_from(["taskq-worker"].into_iter().chain(wrong)).is_err(), "{wrong:?}");
        }
    }
}
