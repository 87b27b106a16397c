//! The way to the coordinator: the client crate's channel, and the one call that needs no session.

pub(crate) use taskq_client::Access;
pub(crate) use taskq_client::channel::{AuthChannel, Dial, connect_lazy};
use taskq_proto::v1::BuryRequest;
use taskq_proto::v1::workers_client::WorkersClient;

/// Says that a worker is dead and all that it ran is gone.
pub(crate) async fn bury(access: &Access, incarnation: u64, evidence: &str) -> Result<(), String> {
    let channel = connect_lazy(access).map_err(|error| error.to_string())?;
    let request = BuryRequest { incarnation, evidence: evidence.to_owned() };
    let reply = WorkersClient::new(channel).bury(request).await;
    reply.map(|_| ()).map_err(|status| status.to_string())
}
