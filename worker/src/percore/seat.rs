//! A worker's place under `--per-core`: its number, and the core that it is held to. Its process is this program with the
//! same command line; the seat is in its environment, which tasks do not get.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tracing::warn;

use crate::config::{Args, Slots};

/// `NAME CORE SUPERVISOR`; the core is `-` if there is none.
const VARIABLE: &str = "TASKQ_SEAT";
/// What a name may be long.
const NAME_BYTES: usize = 64;

/// One of the places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    /// Of the worker.
    pub name: String,
    core: Option<usize>,
}

impl Seat {
    /// One for each core that this process may use. Where a quota gives it less than that, there are as many as it gives,
    /// and they move freely: held to the first cores, the workers of several containers would all sit on the same.
    pub(super) fn all(name: &str) -> anyhow::Result<Vec<Seat>> {
        let allowed = sched_getaffinity(None).context("ask which cores this process may use")?;
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
        let given = std::thread::available_parallelism().map_or(cores.len(), usize::from);
        if given < cores.len() {
            warn!(
                cores = cores.len(),
                given, "a quota gives less than these cores: workers are not held to one"
            );
        }
        let seats = seats(name, &cores, given);
        match seats.iter().find(|seat| seat.name.len() > NAME_BYTES) {
            Some(long) => bail!("--name is too long: {} has more than {NAME_BYTES} letters", long.name),
            None => Ok(seats),
        }
    }

    /// Starts its worker, in a process group of its own: Ctrl-C reaches the supervisor, which passes it on.
    pub(super) fn start(&self) -> io::Result<Child> {
        let core = self.core.map_or("-".to_owned(), |core| core.to_string());
        let mut words = std::env::args_os();
        let mut command = Command::new("/proc/self/exe");
        if let Some(program) = words.next() {
            command.arg0(program);
        }
        command.args(words).stdin(Stdio::null()).process_group(0);
        command.env(VARIABLE, format!("{} {core} {}", self.name, std::process::id()));
        // Systemd speaks to the supervisor.
        for private in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
            command.env_remove(private);
        }
        command.spawn()
    }

    /// The one that this process was started for: goes to its core, and drains when the supervisor is gone. To be called
    /// before there are threads.
    pub(crate) fn take(args: &mut Args) -> anyhow::Result<bool> {
        let Ok(text) = std::env::var(VARIABLE) else { return Ok(false) };
        let (name, core, supervisor) = parse(&text).with_context(|| format!("{VARIABLE}={text:?}"))?;
        set_parent_process_death_signal(Some(Signal::TERM)).context("watch the supervisor")?;
        if getppid().map(Pid::as_raw_nonzero).map(std::num::NonZero::get) != Some(supervisor) {
            bail!("the process that looks after this worker has ended already");
        }
        if let Some(core) = core {
            let mut only = CpuSet::new();
            only.set(core);
            sched_setaffinity(None, &only).with_context(|| format!("go to core {core}"))?;
        }
        args.name = Some(name);
        args.slots = Some(Slots::Count(1));
        args.per_core = false;
        Ok(true)
    }
}

fn seats(name: &str, cores: &[usize], given: usize) -> Vec<Seat> {
    let seat = |number: usize| Seat {
        name: format!("{name}-{number}"),
        core: cores.get(number).copied().filter(|_| given >= cores.len()),
    };
    (0..cores.len().min(given).max(1)).map(seat).collect()
}

fn parse(text: &str) -> anyhow::Result<(String, Option<usize>, i32)> {
    let parts: Vec<&str> = text.split(' ').collect();
    let &[name, core, supervisor] = &parts[..] else { bail!("is not a seat") };
    let core = if core == "-" { None } else { Some(core.parse()?) };
    Ok((name.to_owned(), core, supervisor.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_has_a_core_unless_there_are_fewer_seats_than_cores() {
        let places = |cores: &[usize], given| -> Vec<(String, Option<usize>)> {
            seats("w", cores, given).into_iter().map(|seat| (seat.name, seat.core)).collect()
        };
        assert_eq!(places(&[2, 5], 2), [("w-0".to_owned(), Some(2)), ("w-1".to_owned(), Some(5))]);
        assert_eq!(places(&[0, 1, 2, 3], 1), [("w-0".to_owned(), None)]);
        assert_eq!(places(&[], 1), [("w-0".to_owned(), None)]);
    }

    #[test]
    fn seats_are_read_as_they_are_written() {
        assert_eq!(parse("w-3 7 41").expect("a seat"), ("w-3".to_owned(), Some(7), 41));
        assert_eq!(parse("w-0 - 41").expect("a seat"), ("w-0".to_owned(), None, 41));
        for wrong in ["", "w 2", "w 1 x", "w x 2", "w 2 3 4"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
