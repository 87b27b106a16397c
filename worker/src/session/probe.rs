//! Whether the coordinator is still at the other end. A link that died without a word (a cable, a firewall, a router that
//! forgot) looks like one on which there is nothing to say; the lease runs out meanwhile.
//!
//! The question is the standard health check, over the link's own connection: it is answered without the disk, so that a
//! coordinator that waits for its disk is not taken for one that is gone.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::connect::AuthChannel;

/// Parts of the lease. The last word that arrived may be a heartbeat old (a fifth), then comes the pause, then the wait:
/// half the lease together, and the rest is there to connect again, before a worker that ends its tasks with its lease
/// begins to (at three quarters of a short one).
const PAUSE: u32 = 10;
const PATIENCE: u32 = 5;

/// How long a new connection may take under this lease.
pub(super) fn patience(lease: Duration) -> Duration {
    lease / PATIENCE
}

/// Returns when the connection no longer answers. An error is an answer, or the session hears of it as well.
pub(super) async fn silence(channel: AuthChannel, lease: Duration) {
    let mut health = HealthClient::new(channel);
    loop {
        sleep(lease / PAUSE).await;
        let asked = health.check(HealthCheckRequest::default());
        if timeout(patience(lease), asked).await.is_err() {
            return;
        }
    }
}
