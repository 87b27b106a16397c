//! The spawner's last word: the worker is dead, and so is all that it ran.

use std::io;
use std::time::Duration;

use super::wire::Setup;
use taskq_client::{Access, Token};

use crate::session::connect;

/// Longer than a coordinator needs for a restart; after that the lease has run out anyway.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);

/// Tells the coordinator, trying again while it cannot be reached.
pub(super) fn bury(setup: &Setup) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let token = Token::new(setup.token.as_str()).map_err(io::Error::other)?;
    let access = Access::new(setup.addr.as_str(), token);
    let source = setup.source_address.parse().ok();
    let evidence =
        format!("the process of worker {} ended, and all that it had started was killed", setup.worker);
    let patient = async {
        loop {
            match connect::bury(&access, source, setup.incarnation, &evidence).await {
                Ok(()) => return,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, patient).await }).map_err(io::Error::other)
}
