//! `--per-core`: one worker for each core that this process may use, each held to its core, and all looked after by the
//! process that was started.
//!
//! ```text
//! taskq-worker --per-core --name NAME          looks after the others, and runs nothing
//!   ├─ taskq-worker ...     NAME-0, one slot, core 0   (seat.rs: the same command line, and a seat)
//!   └─ taskq-worker ...     NAME-1, one slot, core 1
//! ```
//!
//! A worker that dies is started again, after a pause that grows while it keeps dying. One that ends as it should, because
//! an operator drained it, stays away. What all of them would end with (a wrong token, a wrong configuration) ends them all.

mod seat;

use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use crate::cgroup;
use crate::config::{Args, Config};
use crate::notify::{Manager, beat_due};

pub(crate) use seat::Seat;

/// Before a worker that died is started again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Who has lived for so long is not one that keeps dying.
const LONG_LIFE: Duration = Duration::from_secs(60);
/// With these no worker begins to work: the next one would end in the same way.
const HOPELESS: [i32; 3] = [2, 77, 78];

/// Starts the workers and looks after them until none is left; returns the exit code.
pub(crate) fn supervise(args: &Args) -> anyhow::Result<u8> {
    let config = Config::try_from(args.clone()).context("find the coordinator")?;
    // What the workers will look for, each by itself: they inherit the place that this process has.
    let _places = cgroup::find();
    let seats = Seat::all(&config.name)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let mut workers = Workers::start(seats);
        let code = workers.look_after().await?;
        info!(code, "no worker is left");
        Ok(code)
    })
}

struct Workers {
    all: Vec<Worker>,
    /// How often they were told to stop: once drains, twice stops what runs.
    told: u32,
    /// The first bad end of one that is not started again.
    code: Option<u8>,
}

struct Worker {
    seat: Seat,
    life: Life,
    pause: Duration,
}

enum Life {
    Runs { process: std::process::Child, since: Instant },
    Rests { until: Instant },
    Over,
}

impl Workers {
    fn start(seats: Vec<Seat>) -> Workers {
        info!(workers = seats.len(), "one worker per core");
        let rests = |seat| Worker { seat, life: Life::Rests { until: Instant::now() }, pause: FIRST_PAUSE };
        let mut workers = Workers { all: seats.into_iter().map(rests).collect(), told: 0, code: None };
        workers.wake();
        workers
    }

    async fn look_after(&mut self) -> anyhow::Result<u8> {
        let listen = |kind| signal(kind).context("listen for signals");
        let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let mut ended = listen(SignalKind::child())?;
        let mut manager = Manager::find();
        manager.iter().for_each(Manager::ready);
        // Those that ended before anybody listened.
        self.reap();
        while !self.all.iter().all(|worker| matches!(worker.life, Life::Over)) {
            let next = self.next_start();
            tokio::select! {
                _ = term.recv() => self.stop(),
                _ = int.recv() => self.stop(),
                _ = ended.recv() => self.reap(),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => self.wake(),
                () = beat_due(manager.as_mut()) => {
                    manager.iter().for_each(|manager| manager.beat(&self.status()));
                }
            }
        }
        if let Some(manager) = manager {
            manager.stopping().await;
        }
        Ok(self.code.unwrap_or(0))
    }

    fn next_start(&self) -> Option<Instant> {
        let starts = self.all.iter().filter_map(|worker| match worker.life {
            Life::Rests { until } => Some(until),
            Life::Runs { .. } | Life::Over => None,
        });
        starts.min()
    }

    /// Starts those whose pause is over.
    fn wake(&mut self) {
        let now = Instant::now();
        for worker in &mut self.all {
            if !matches!(worker.life, Life::Rests { until } if until <= now) {
                continue;
            }
            worker.life = match worker.seat.start() {
                Ok(process) => {
                    info!(name = worker.seat.name, pid = process.id(), "started");
                    Life::Runs { process, since: now }
                }
                Err(cause) => {
                    error!(name = worker.seat.name, %cause, "a worker cannot be started; trying again");
                    worker.rest()
                }
            };
        }
    }

    /// Takes leave of those that have ended.
    fn reap(&mut self) {
        let mut hopeless = false;
        for worker in &mut self.all {
            let Life::Runs { process, since } = &mut worker.life else { continue };
            let Ok(Some(status)) = process.try_wait() else { continue };
            if since.elapsed() >= LONG_LIFE {
                worker.pause = FIRST_PAUSE;
            }
            let is_hopeless = status.code().is_some_and(|code| HOPELESS.contains(&code));
            if self.told > 0 || status.success() || is_hopeless {
                info!(name = worker.seat.name, end = %status, "ended");
                worker.life = Life::Over;
                if !status.success() {
                    self.code.get_or_insert(code(status));
                }
                hopeless |= is_hopeless;
            } else {
                warn!(name = worker.seat.name, end = %status, pause = ?worker.pause, "died; starting it again");
                worker.life = worker.rest();
            }
        }
        if hopeless && self.told == 0 {
            self.stop();
        }
    }

    /// Passes on the word to stop. Who waits to be started again is not.
    fn stop(&mut self) {
        self.told += 1;
        for worker in &mut self.all {
            match &worker.life {
                Life::Runs { process, .. } => {
                    // Not reaped, so nobody else has its number.
                    let pid = Pid::from_raw(process.id().cast_signed());
                    _ = pid.map(|pid| kill_process(pid, Signal::TERM));
                }
                Life::Rests { .. } => worker.life = Life::Over,
                Life::Over => {}
            }
        }
    }

    fn status(&self) -> String {
        let running = self.all.iter().filter(|worker| matches!(worker.life, Life::Runs { .. })).count();
        let draining = if self.told > 0 { "draining, " } else { "" };
        format!("{draining}{running} of {} workers run, one per core", self.all.len())
    }
}

impl Worker {
    fn rest(&mut self) -> Life {
        let until = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Life::Rests { until }
    }
}

/// As a shell would say it.
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
