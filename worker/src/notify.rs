//! What systemd is told of the worker, if it has asked (`Type=notify`, `WatchdogSec=`).
//!
//! It is ready when its loop runs, whether or not there is a coordinator yet: workers may start first, and who starts one
//! does not wait for another machine. Beats of the watchdog and the status come out of the loop itself, so that one that
//! hangs says nothing. That it stops is said when nothing runs any more: from that word on systemd counts down, and a drain
//! may last as long as its tasks do. How long a `systemctl stop` may take is for the unit to say (`TimeoutStopSec=`), hence
//! no `EXTEND_TIMEOUT_USEC`: a machine that shuts down does not wait for a task of a day.

use std::future::pending;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tracing::warn;

/// How old a status may become.
const FRESH: Duration = Duration::from_secs(5);
/// Messages that may wait for a manager that does not read; more are dropped, and the next beat says what they did.
const WAITING: usize = 16;
/// How long the last one may take.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The service manager that started this process.
pub(crate) struct Manager {
    messages: mpsc::Sender<String>,
    sending: JoinHandle<()>,
    beats: Interval,
}

impl Manager {
    /// The one that the environment names (`NOTIFY_SOCKET`, `WATCHDOG_USEC`), if there is one. To be called inside a tokio
    /// runtime.
    pub(crate) fn find() -> Option<Manager> {
        std::env::var_os("NOTIFY_SOCKET")?;
        let pause = sd_notify::watchdog_enabled().map_or(FRESH, |silence| (silence / 2).min(FRESH));
        let mut beats = interval(pause.max(Duration::from_millis(1)));
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (messages, inbox) = mpsc::channel(WAITING);
        Some(Manager { messages, sending: tokio::spawn(send(inbox)), beats })
    }

    pub(crate) fn ready(&self) {
        self.say("READY=1".to_owned());
    }

    pub(crate) fn beat(&self, status: &str) {
        self.say(format!("WATCHDOG=1\nSTATUS={status}"));
    }

    /// The last word.
    pub(crate) async fn stopping(self) {
        self.say("STOPPING=1\nSTATUS=nothing runs any more".to_owned());
        let Manager { messages, sending, .. } = self;
        drop(messages);
        // A manager that does not listen holds up nothing.
        let _ = timeout(LAST_WORD, sending).await;
    }

    fn say(&self, text: String) {
        let _ = self.messages.try_send(text);
    }
}

/// Waits until a manager, if there is one, is to hear a beat. Cancel-safe.
pub(crate) async fn beat_due(manager: Option<&mut Manager>) {
    match manager {
        Some(manager) => _ = manager.beats.tick().await,
        None => pending().await,
    }
}

/// In order, and beside the loop: the socket may be full.
async fn send(mut inbox: mpsc::Receiver<String>) {
    while let Some(text) = inbox.recv().await {
        let said = move || sd_notify::notify(&[NotifyState::Custom(&text)]);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(said).await {
            warn!(%error, "the service manager could not be told (NOTIFY_SOCKET)");
        }
    }
}
