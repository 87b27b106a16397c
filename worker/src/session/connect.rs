//! The way to the coordinator: where it is, how to prove who we are, and the channel itself.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use taskq_proto::v1::BuryRequest;
use taskq_proto::v1::workers_client::WorkersClient;

/// A channel that presents the token with each call.
pub(crate) type AuthChannel = InterceptedService<Channel, Bearer>;

/// Windows for a link with latency: tonic's 64 KiB would cap a stream at that much per round trip.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// A dead link is noticed within the sum of the two.
const KEEPALIVE: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest that a link can be dead before it is known.
pub(crate) const BLIND: Duration = Duration::from_secs(9);

/// Where the coordinator is, and the token that it wants.
#[derive(Clone, Debug)]
pub struct Access {
    /// `HOST:PORT`
    pub addr: String,
    /// Never shown.
    pub token: Token,
}

/// A secret that does not appear in logs.
#[derive(Clone)]
pub struct Token(String);

impl From<String> for Token {
    fn from(text: String) -> Token {
        Token(text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

/// Why there is no access.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Neither flags nor environment nor an access file say where the coordinator is.
    #[error(
        "no coordinator is known: give --access FILE, or --addr HOST:PORT with --token-file FILE ({0} was looked for)"
    )]
    Unknown(PathBuf),
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A file lacks what it must say.
    #[error("{path} does not say {what}")]
    Incomplete {
        /// Which.
        path: PathBuf,
        /// What.
        what: &'static str,
    },
    /// The address or the token cannot be sent.
    #[error("{0} is not usable")]
    Unusable(&'static str),
}

impl Access {
    /// Finds the coordinator: what is given here, else `TASKQ_ADDR` and `TASKQ_TOKEN` or `TASKQ_TOKEN_FILE`, else
    /// `TASKQ_ACCESS`, else the access file in the default data directory.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn find(
        addr: Option<&str>,
        token_file: Option<&Path>,
        access_file: Option<&Path>,
    ) -> Result<Access, AccessError> {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let addr = addr.map(str::to_owned).or_else(|| env("TASKQ_ADDR"));
        let token = match (token_file, env("TASKQ_TOKEN"), env("TASKQ_TOKEN_FILE")) {
            (Some(path), _, _) => Some(read(path)?),
            (None, Some(token), _) => Some(token),
            (None, None, Some(path)) => Some(read(Path::new(&path))?),
            (None, None, None) => None,
        };
        if let (Some(addr), Some(token)) = (&addr, &token) {
            return Ok(Access { addr: addr.clone(), token: Token(token.trim().to_owned()) });
        }
        let path = access_file.map(Path::to_owned).or_else(|| env("TASKQ_ACCESS").map(PathBuf::from));
        let path = path.unwrap_or_else(default_file);
        if !path.exists() {
            return Err(AccessError::Unknown(path));
        }
        let text = read(&path)?;
        let entry = |what: &'static str| {
            value(&text, what).ok_or_else(|| AccessError::Incomplete { path: path.clone(), what })
        };
        Ok(Access {
            addr: addr.map_or_else(|| entry("addr"), Ok)?,
            token: Token(token.map_or_else(|| entry("token"), Ok)?.trim().to_owned()),
        })
    }
}

fn read(path: &Path) -> Result<String, AccessError> {
    fs::read_to_string(path).map_err(|cause| AccessError::Unreadable { path: path.to_owned(), cause })
}

fn default_file() -> PathBuf {
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_else(|| PathBuf::from("/"));
        home.join(".local/share")
    });
    data.join("taskq/access.toml")
}

fn value(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// A channel that connects when it is first used, and again when it was lost.
pub(crate) fn connect_lazy(access: &Access) -> Result<AuthChannel, AccessError> {
    let endpoint = Endpoint::from_shared(format!("http://{}", access.addr))
        .map_err(|_| AccessError::Unusable("the coordinator's address"))?
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let mut header: MetadataValue<Ascii> = format!("Bearer {}", access.token.expose())
        .parse()
        .map_err(|_| AccessError::Unusable("the token"))?;
    header.set_sensitive(true);
    Ok(InterceptedService::new(endpoint.connect_lazy(), Bearer(header)))
}

/// Adds the token to each call.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Says that a worker is dead and all that it ran is gone.
pub(crate) async fn bury(access: &Access, incarnation: u64, evidence: &str) -> Result<(), String> {
    let channel = connect_lazy(access).map_err(|error| error.to_string())?;
    let request = BuryRequest { incarnation, evidence: evidence.to_owned() };
    let reply = WorkersClient::new(channel).bury(request).await;
    reply.map(|_| ()).map_err(|status| status.to_string())
}
