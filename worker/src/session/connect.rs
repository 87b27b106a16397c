//! The way to the coordinator: the client crate's channel, and the one call that needs no session.

use std::net::IpAddr;
use std::time::Duration;

pub(crate) use taskq_client::Access;
pub(crate) use taskq_client::channel::{AuthChannel, Dial};
use taskq_proto::v1::BuryRequest;
use taskq_proto::v1::workers_client::WorkersClient;

/// Says that a worker is dead and all that it ran is gone.
pub(crate) async fn bury(
    access: &Access,
    source: Option<IpAddr>,
    incarnation: u64,
    evidence: &str,
) -> Result<(), String> {
    let dial = Dial::new(access).map_err(|error| error.to_string())?.from_address(source);
    let channel = dial.channel(Duration::MAX);
    let request = BuryRequest { incarnation, evidence: evidence.to_owned() };
    let reply = WorkersClient::new(channel).bury(request).await;
    reply.map(|_| ()).map_err(|status| status.to_string())
}
