//! An address and a token become a gRPC channel that shows the token with each call. Connects when first used,
//! and again whenever the connection is lost.

use crate::access::{Access, DEFAULT_ADDR, Place};
use crate::error::{Error, Result};
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
/// A silent connection is probed this often, and given up if the probe is not answered in time: together half of the
/// default lease (15 s), so that a worker has time to come back on another connection.
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
    let uri = format!("http://{}", authority(&access.addr).map_err(|problem| bad(access, &problem))?);
    let endpoint = Endpoint::from_shared(uri).map_err(|error| bad(access, &error.to_string()))?;
    let channel = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(PROBE_EVERY)
        .keep_alive_timeout(PROBE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_lazy();
    let text = format!("Bearer {}", access.token.reveal());
    let mut header: MetadataValue<Ascii> = text
        .parse()
        .map_err(|_| Error::Usage("the token cannot be sent: it is not printable ASCII".into()))?;
    header.set_sensitive(true);
    Ok(InterceptedService::new(channel, Auth { header }))
}

fn bad(access: &Access, problem: &str) -> Error {
    let from = match &access.origin.addr {
        Place::Given => String::new(),
        place => format!(" (from {place})"),
    };
    Error::Usage(format!(
        "{:?}{from} is not an address: {problem}; write HOST:PORT, such as {DEFAULT_ADDR}",
        access.addr
    ))
}

/// `host:port` of an address in any of the forms that users write.
fn authority(addr: &str) -> std::result::Result<String, String> {
    let addr = addr.trim();
    if addr.starts_with("https://") {
        return Err("https is not supported; use http:// or no scheme on a network that you trust".into());
    }
    let rest = addr.strip_prefix("http://").unwrap_or(addr).trim_end_matches('/');
    if rest.is_empty() || rest.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '@' | '?' | '#')) {
        return Err("there is more or less in it than a host and a port".into());
    }
    let (host, port) = if rest.parse::<std::net::Ipv6Addr>().is_ok() {
        (format!("[{rest}]"), None)
    } else {
        match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host.to_owned(), Some(port)),
            _ => (rest.to_owned(), None),
        }
    };
    let port = match port.map(str::parse::<u16>) {
        None => 7733,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => return Err("the port is not a number from 1 to 65535".into()),
    };
    if host.is_empty() {
        return Err("the host is missing".into());
    }
    Ok(format!("{}:{port}", host.to_lowercase()))
}

/// Whether two addresses, however written, are the same one.
pub(crate) fn same_address(a: &str, b: &str) -> bool {
    matches!((authority(a), authority(b)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        for (written, meant) in [
            ("127.0.0.1:7733", "127.0.0.1:7733"),
            ("http://127.0.0.1:7733/", "127.0.0.1:7733"),
            (" Example.org ", "example.org:7733"),
            ("[::1]:80", "[::1]:80"),
            ("::1", "[::1]:7733"),
            ("[::1]", "[::1]:7733"),
        ] {
            assert_eq!(authority(written).as_deref(), Ok(meant));
        }
        for written in ["", "https://h:1", "h:", "h:0", "h:99999", ":1", "h/x", "u@h:1", "a b"] {
            assert!(authority(written).is_err(), "{written:?}");
        }
        assert!(same_address("http://localhost:7733", "LOCALHOST"));
    }
}
