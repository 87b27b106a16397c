//! Ctrl-C and SIGTERM as something to wait for. What they mean is up to each command: `run` and `map` cancel
//! their job, everything else detaches; a second one always ends the command.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;

/// Both signals, as one stream.
pub(crate) struct Interrupts {
    int: Signal,
    term: Signal,
}

impl Interrupts {
    /// From here on the signals no longer end the process by themselves.
    pub(crate) fn listen() -> anyhow::Result<Interrupts> {
        let listen = |kind| signal(kind).map_err(|cause| Failure::io("cannot listen for signals", &cause));
        Ok(Interrupts { int: listen(SignalKind::interrupt())?, term: listen(SignalKind::terminate())? })
    }

    /// The next one. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }
}
