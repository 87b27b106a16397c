//! An address and a token become a gRPC channel that shows the token with each call. Connects when first used,
//! and again whenever the connection is lost.

use crate::access::Access;
use crate::address::{self, Address, Port};
use crate::error::{Error, Result};
use std::net::IpAddr;
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// A channel to one coordinator; cheap to clone, and shared by its clones.
pub type AuthChannel = InterceptedService<Channel, Auth>;

/// Room for what the other side may send unasked: enough for the bandwidth of a fast network times its delay.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent connection is probed this often, and given up if the probe is not answered in time. Nothing of a client runs
/// out meanwhile: it goes on from its cursor, and is late by this. A worker, which has a lease, looks for itself.
const PROBE_EVERY: Duration = Duration::from_secs(3);
const PROBE_TIMEOUT: Duration = Duration::from_secs(4);

/// Adds the token to each call.
#[derive(Clone)]
pub struct Auth {
    header: MetadataValue<Ascii>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auth(..)")
    }
}

impl Interceptor for Auth {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.header.clone());
        Ok(request)
    }
}

/// A channel that connects by itself when it is used. To be called inside a tokio runtime.
///
/// # Errors
/// The address or token is malformed.
pub fn connect_lazy(access: &Access) -> Result<AuthChannel> {
    Ok(Dial::new(access)?.channel(CONNECT_TIMEOUT))
}

/// The way to one coordinator, for those who want a connection of their own whenever they doubt the last one.
#[derive(Clone, Debug)]
pub struct Dial {
    endpoint: Endpoint,
    auth: Auth,
}

impl Dial {
    /// Connects nowhere yet.
    ///
    /// # Errors
    /// The address or token is malformed.
    pub fn new(access: &Access) -> Result<Dial> {
        let uri = format!("http://{}", Address::of(access, Port::Defaulted)?);
        let endpoint =
            Endpoint::from_shared(uri).map_err(|error| address::refused(access, &error.to_string()))?;
        let endpoint = endpoint
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(PROBE_EVERY)
            .keep_alive_timeout(PROBE_TIMEOUT)
            .keep_alive_while_idle(true);
        let text = format!("Bearer {}", access.token.reveal());
        let mut header: MetadataValue<Ascii> = text
            .parse()
            .map_err(|_| Error::Usage("the token cannot be sent: it is not printable ASCII".into()))?;
        header.set_sensitive(true);
        Ok(Dial { endpoint, auth: Auth { header } })
    }

    /// The same way, from this address of this machine, where it has several.
    #[must_use]
    pub fn from_address(self, source: Option<IpAddr>) -> Dial {
        Dial { endpoint: self.endpoint.local_address(source), ..self }
    }

    /// A channel with a connection of its own, made when it is first used. A try to connect takes at most `patience`, or
    /// five seconds. To be called inside a tokio runtime.
    #[must_use]
    pub fn channel(&self, patience: Duration) -> AuthChannel {
        let channel = self.endpoint.clone().connect_timeout(patience.min(CONNECT_TIMEOUT)).connect_lazy();
        InterceptedService::new(channel, self.auth.clone())
    }
}
