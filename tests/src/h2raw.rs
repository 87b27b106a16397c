//! gRPC by hand over a real HTTP/2 connection: for what no client library would send.

use crate::Access;
use bytes::Bytes;
use h2::client;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// What came back.
#[derive(Debug)]
pub enum Answer {
    /// A response that ended: HTTP status, `grpc-status` and `grpc-message` if there were any, the body's length.
    Reply {
        /// HTTP status.
        http: u16,
        /// `grpc-status`.
        code: Option<i32>,
        /// `grpc-message`, percent-encoded as it came.
        message: String,
        /// Bytes of body.
        body: usize,
    },
    /// The stream or the connection was ended by an error.
    Reset(String),
    /// Nothing within the time given.
    Silence,
}

impl Answer {
    /// The gRPC code, if the answer has one.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Reply { code, .. } => *code,
            Self::Reset(_) | Self::Silence => None,
        }
    }

    /// True unless the call was accepted: an error status, a plain HTTP error, or a reset.
    pub fn refused(&self) -> bool {
        match self {
            Self::Reply { http, code, .. } => *http != 200 || code.is_some_and(|code| code != 0),
            Self::Reset(_) => true,
            Self::Silence => false,
        }
    }
}

/// One HTTP/2 connection.
pub struct Connection {
    sender: SendRequest<Bytes>,
    driver: JoinHandle<()>,
    authority: String,
    token: String,
}

impl Connection {
    /// Connects to a coordinator.
    pub async fn open(access: &Access) -> Self {
        let stream = TcpStream::connect(&access.address).await.expect("connect to the coordinator");
        let (sender, connection) = client::handshake(stream).await.expect("an HTTP/2 handshake");
        let driver = tokio::spawn(async move {
            // The answers tell how the connection ended.
            let _ = connection.await;
        });
        Self { sender, driver, authority: access.address.clone(), token: access.token.clone() }
    }

    /// A well-formed call's headers, to be spoiled.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        headers.insert("authorization", text(&format!("Bearer {}", self.token)));
        headers
    }

    /// Sends one request with this body, in one piece, and ends it.
    pub async fn call(&self, path: &str, headers: HeaderMap, body: Vec<u8>) -> Answer {
        match tokio::time::timeout(Duration::from_secs(20), self.exchange(path, headers, body)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(cause)) => Answer::Reset(cause.to_string()),
            Err(_) => Answer::Silence,
        }
    }

    async fn exchange(&self, path: &str, headers: HeaderMap, body: Vec<u8>) -> Result<Answer, h2::Error> {
        let uri = format!("http://{}{path}", self.authority);
        let mut request = Request::builder().method(Method::POST).uri(uri).body(()).expect("a request");
        *request.headers_mut() = headers;
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut upload) = sender.send_request(request, false)?;
        upload.send_data(Bytes::from(body), true)?;
        finish(response.await?).await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn finish(response: Response<h2::RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut stream) = response.into_parts();
    let mut body = 0;
    while let Some(chunk) = stream.data().await {
        let chunk = chunk?;
        body += chunk.len();
        stream.flow_control().release_capacity(chunk.len())?;
    }
    let trailers = stream.trailers().await?.unwrap_or_default();
    let field =
        |name: &str| trailers.get(name).or_else(|| head.headers.get(name)).and_then(|v| v.to_str().ok());
    Ok(Answer::Reply {
        http: head.status.as_u16(),
        code: field("grpc-status").and_then(|text| text.parse().ok()),
        message: field("grpc-message").unwrap_or_default().to_owned(),
        body,
    })
}

/// A gRPC frame: flag, length, message.
pub fn frame(message: &[u8]) -> Vec<u8> {
    frame_with(0, message.len() as u32, message)
}

/// A gRPC frame whose flag and length say what they like.
pub fn frame_with(flag: u8, length: u32, message: &[u8]) -> Vec<u8> {
    let mut frame = vec![flag];
    frame.extend(length.to_be_bytes());
    frame.extend(message);
    frame
}

/// A header value of any bytes that HTTP/2 can carry.
pub fn text(value: &str) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).expect("a header value")
}

/// A header name.
pub fn name(name: &str) -> HeaderName {
    HeaderName::from_bytes(name.as_bytes()).expect("a header name")
}
