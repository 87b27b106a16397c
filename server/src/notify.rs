//! What systemd is told of the coordinator, if it has asked (`Type=notify`, `WatchdogSec=`): that it serves, how it is,
//! that it ends.
//!
//! It is ready when its first answer has come back from where all answers come from: through the loop, then through the
//! thread that syncs the disk. Each beat of the watchdog is such an answer, too: if one of the two hangs, or a sync takes
//! longer than half of the watchdog's time, there is none. No timer beats by itself.

use std::time::Duration;

use taskq_core::effect::{Reply, Stats};
use taskq_core::event::{Event, Question};
use tokio::sync::watch;

use crate::coordinator::Handle;

/// How old a status may become.
const FRESH: Duration = Duration::from_secs(5);

/// The service manager that started this process.
#[derive(Clone, Copy, Debug)]
pub struct Manager {
    /// Silence after which it ends the process.
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one that the environment names (`NOTIFY_SOCKET`, `WATCHDOG_USEC`), if there is one.
    #[must_use]
    pub fn find() -> Option<Manager> {
        std::env::var_os("NOTIFY_SOCKET")?;
        Some(Manager { watchdog: sd_notify::watchdog_enabled() })
    }

    /// Tells it until `stopping` turns true, and then that.
    pub(crate) async fn tell(self, handle: Handle, mut stopping: watch::Receiver<bool>) {
        let pause = self.watchdog.map_or(FRESH, |silence| (silence / 2).min(FRESH));
        let mut news = "READY=1";
        // Cancel-safe: an answer that loses is not said.
        while let Some(Ok(Reply::Stats(stats))) = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => None,
            answer = handle.ask_ahead(|request| Event::Ask { request, question: Question::Stats }) => Some(answer),
        } {
            say(format!("{news}\nWATCHDOG=1\nSTATUS={}", status(&stats))).await;
            news = "";
            let over = tokio::time::timeout(pause, stopping.wait_for(|stopping| *stopping)).await;
            if over.is_ok() {
                break;
            }
        }
        say("STOPPING=1\nSTATUS=stopping".to_owned()).await;
    }
}

fn status(stats: &Stats) -> String {
    let waiting = stats.queued + stats.backoff;
    let workers = if stats.workers == 1 { "worker" } else { "workers" };
    let recovering = if stats.recovering { "; waiting for workers known before the restart" } else { "" };
    format!(
        "{} {workers}, {} slots; {} running, {waiting} waiting{recovering}",
        stats.workers, stats.slots, stats.running
    )
}

/// The socket may be full: that holds up nobody but the teller.
async fn say(text: String) {
    let said = tokio::task::spawn_blocking(move || {
        sd_notify::notify(&[sd_notify::NotifyState::Custom(text.trim_start())])
    });
    match said.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the service manager could not be told (NOTIFY_SOCKET)"),
        // Only when the runtime ends.
        Err(_) => {}
    }
}
