//! The few pages for who speaks HTTP/1: `/metrics` for Prometheus, `/healthz` for who asks whether anybody is there.
//!
//! One request a connection, small heads, little time: a peer that dawdles, floods or repeats itself costs little, and
//! nothing of what gRPC needs. Who may read the metrics is decided in `may_read`.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use taskq_core::id::WallTime;
use tokio::sync::Semaphore;

use super::{
    Context,
    accept::Connection,
    ask,
    auth::{Offered, offered},
    status::Failure,
};
use crate::{access::Token, clock, metrics::scrape::Scrape};

/// Requests that are read or answered at one time; others wait for their turn.
const AT_ONCE: usize = 256;
/// Metrics that are gathered at one time.
const GATHERED: usize = 2;
/// How long a peer may take to say what it wants.
const HEAD: Duration = Duration::from_secs(10);
/// How long all of it may take, with the wait for a turn.
const WHOLE: Duration = Duration::from_secs(30);
/// How long the coordinator may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// The longest head.
const HEAD_BYTES: usize = 16 << 10;
/// The most header lines.
const HEADER_LINES: usize = 64;

/// Text, and what Prometheus calls its format.
const PLAIN: &str = "text/plain; charset=utf-8";
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers connections that speak HTTP/1.
#[derive(Debug)]
pub struct Pages {
    context: Context,
    token: Token,
    turns: Semaphore,
    gathers: Semaphore,
}

impl Pages {
    /// Pages about this coordinator, for who has the token.
    #[must_use]
    pub fn new(context: Context, token: Token) -> Pages {
        Pages { context, token, turns: Semaphore::new(AT_ONCE), gathers: Semaphore::new(GATHERED) }
    }

    /// Answers one request, and ends: the peer is served, was too slow, or the coordinator stops.
    pub(super) async fn serve(&self, connection: Connection, peer: SocketAddr) {
        let answered = async {
            // Never closed: whoever has no turn yet waits.
            let _turn = self.turns.acquire().await;
            let answer =
                service_fn(|request| async move { Ok::<_, Infallible>(self.answer(peer, request).await) });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(HEAD_BYTES)
                .max_headers(HEADER_LINES)
                .keep_alive(false)
                .half_close(true)
                .serve_connection(TokioIo::new(connection), answer)
                .await;
            if let Err(error) = served {
                tracing::debug!(%peer, %error, "an HTTP request came to nothing");
            }
        };
        // Cancel-safe: what loses is over with the connection.
        tokio::select! {
            _in_time = tokio::time::timeout(WHOLE, answered) => {}
            () = self.context.stopped() => {}
        }
    }

    async fn answer(&self, peer: SocketAddr, request: Request<Incoming>) -> Response<String> {
        let path = request.uri().path();
        if !matches!(path, "/metrics" | "/healthz") {
            let hint = "there are /metrics and /healthz here; the rest of this port speaks gRPC: use the taskq command\n";
            return plain(StatusCode::NOT_FOUND, hint);
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        if path == "/healthz" {
            return plain(StatusCode::OK, "serving\n");
        }
        if let Err(why) = may_read(peer, request.headers(), &self.token) {
            let mut refused = plain(StatusCode::UNAUTHORIZED, why);
            refused.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return refused;
        }
        match tokio::time::timeout(ANSWER, self.metrics()).await {
            Ok(Ok(text)) => page(StatusCode::OK, EXPOSITION, text),
            Ok(Err(failure)) => plain(StatusCode::SERVICE_UNAVAILABLE, &format!("{}\n", failure.message)),
            Err(_late) => plain(StatusCode::SERVICE_UNAVAILABLE, "the coordinator is busy; try again\n"),
        }
    }

    async fn metrics(&self) -> Result<String, Failure> {
        let _turn = self.gathers.acquire().await;
        let context = &self.context;
        let overview = context.ask_ahead(ask::Everything).await?;
        let metrics = &context.metrics;
        let uptime_ms = u64::try_from(context.start.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let scrape = Scrape {
            overview,
            workers: context.handle.sessions.processes(),
            submits: metrics.submits.read(),
            commits: metrics.commits.read(),
            grpc: metrics.grpc.read(),
            http: metrics.http.read(),
            turned_away: metrics.turned_away.load(Ordering::Relaxed),
            started: WallTime(clock::wall().0.saturating_sub(uptime_ms)),
        };
        let (store, room) = (Arc::clone(&context.store), context.room.clone());
        let written = tokio::task::spawn_blocking(move || {
            let read_only = room.reserve(&*store, 0).is_err();
            scrape.text(&*store, read_only)
        });
        let text = written.await.map_err(|_| super::broken("the metrics panicked"))?;
        text.map_err(|error| super::broken(&format!("the metrics cannot be written: {error}")))
    }
}

/// The token is always good, and a wrong one never. Without one, who is on this machine may read, by an address that no
/// name stands for: a web page whose name was made to point here reaches us from this machine as well, and says its name.
fn may_read(peer: SocketAddr, headers: &HeaderMap, token: &Token) -> Result<(), &'static str> {
    match offered(headers, token) {
        Offered::Right => Ok(()),
        Offered::Nothing if !peer.ip().to_canonical().is_loopback() => Err(
            "no token; send `authorization: Bearer TOKEN` with the one in the coordinator's access.toml\n",
        ),
        Offered::Nothing if headers.get(header::HOST).is_some_and(|host| !is_literal(host)) => {
            Err("without a token only by an address, such as 127.0.0.1, or as localhost\n")
        }
        Offered::Nothing => Ok(()),
        Offered::Wrong => Err("wrong token; take the one in the coordinator's access.toml\n"),
    }
}

/// Whether a `Host` is an address or `localhost`.
fn is_literal(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || bare.parse::<std::net::IpAddr>().is_ok()
}

fn plain(status: StatusCode, text: &str) -> Response<String> {
    page(status, PLAIN, text.to_owned())
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Response<String> {
    let mut page = Response::new(text);
    *page.status_mut() = status;
    page.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    page.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(peer: &str, host: &str, authorization: Option<&str>) -> bool {
        let token = Token::random();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a host"));
        if let Some(value) = authorization {
            let value = value.replace("TOKEN", token.reveal());
            headers.insert(header::AUTHORIZATION, value.parse().expect("a value"));
        }
        may_read(peer.parse().expect("an address"), &headers, &token).is_ok()
    }

    #[test]
    fn the_token_opens_from_everywhere() {
        assert!(may("10.0.0.1:5", "taskq.example", Some("Bearer TOKEN")));
        assert!(!may("10.0.0.1:5", "10.0.0.2", None));
        assert!(!may("10.0.0.1:5", "127.0.0.1", Some("Bearer tq_00")));
    }

    #[test]
    fn this_machine_needs_none_but_a_wrong_one_is_refused() {
        for peer in ["127.0.0.1:5", "127.8.8.8:5", "[::1]:5", "[::ffff:127.0.0.1]:5"] {
            assert!(may(peer, "127.0.0.1:7733", None), "{peer}");
            assert!(!may(peer, "127.0.0.1:7733", Some("Bearer tq_00")), "{peer}");
        }
        assert!(!may("[::ffff:10.0.0.1]:5", "127.0.0.1", None));
    }

    #[test]
    fn a_name_that_points_here_is_no_address() {
        for host in ["localhost", "localhost:7733", "127.0.0.1", "[::1]:7733", "[::1]", "10.0.0.4:1"] {
            assert!(may("127.0.0.1:5", host, None), "{host}");
        }
        for host in
            ["evil.example", "evil.example:7733", "localhost.evil.example", "127.0.0.1.evil.example:80"]
        {
            assert!(!may("127.0.0.1:5", host, None), "{host}");
            assert!(may("127.0.0.1:5", host, Some("Bearer TOKEN")), "{host}");
        }
    }
}
