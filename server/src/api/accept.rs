//! Takes connections: a bounded number of them, with small packets sent at once, and only such as begin to speak within
//! ten seconds. HTTP/2 is for the gRPC server, HTTP/1 for `pages`. What connects and stays silent, or speaks something
//! else, costs nothing for long.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Weak, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::transport::server::Connected;

use super::pages::Pages;
use crate::metrics::{Counted, Metrics};

/// Connections at one time.
const CONNECTIONS: usize = 10_000;
/// Connections that have begun to speak and wait for the server to take them.
const READY: usize = 64;
/// How long a peer may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);
/// What every HTTP/2 client says first (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What is told to who speaks neither.
const WRONG: &[u8] =
    b"HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\ncontent-type: text/plain\r\n\r\nthis port speaks gRPC, without TLS; use the taskq command\n";

/// Accepts until the receiver of the stream is gone. Who speaks HTTP/1 gets `pages`, as long as somebody keeps them.
pub fn accept(
    listener: TcpListener,
    pages: Weak<Pages>,
    metrics: Arc<Metrics>,
) -> impl Stream<Item = io::Result<Connection>> {
    let (sender, ready) = mpsc::channel(READY);
    tokio::spawn(async move {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            // Cancel-safe: a connection that loses against the end of the server is closed with it.
            let accepted = tokio::select! {
                () = sender.closed() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // Without room the connection is closed at once; the peer tries again.
                    let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                        metrics.turned_away.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    let connection = Connection::new(stream, peer, permit);
                    let (pages, metrics) = (pages.clone(), Arc::clone(&metrics));
                    tokio::spawn(greet(connection, pages, metrics, sender.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    // Out of descriptors: wait until some are free instead of spinning.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    });
    ReceiverStream::new(ready)
}

/// What a peer has begun to speak.
enum Speaks {
    Http2,
    Http1,
    Neither,
}

async fn greet(
    mut connection: Connection,
    pages: Weak<Pages>,
    metrics: Arc<Metrics>,
    ready: mpsc::Sender<io::Result<Connection>>,
) {
    // A peer that is silent or gone is not told anything.
    let Ok(Some(speaks)) = tokio::time::timeout(PATIENCE, connection.begin()).await else { return };
    // A socket that is closing refuses options; whoever reads from it then sees it closed.
    let _set = connection.stream.set_nodelay(true);
    match speaks {
        Speaks::Http2 => {
            connection.counted = Some(metrics.grpc.count());
            // An error says that the server has ended.
            let _taken = ready.send(Ok(connection)).await;
        }
        Speaks::Http1 => {
            connection.counted = Some(metrics.http.count());
            let peer = connection.peer;
            if let Some(pages) = pages.upgrade() {
                pages.serve(connection, peer).await;
            }
        }
        Speaks::Neither => {
            // Whether the peer reads this is its own affair.
            let _told = tokio::time::timeout(PATIENCE, connection.stream.write_all(WRONG)).await;
        }
    }
}

/// Who is at the other end: among a request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// A connection whose first bytes have been read and are played back to who serves it.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    begun: [u8; PREFACE.len()],
    /// How many of these were read.
    filled: usize,
    /// How many were played back.
    replayed: usize,
    counted: Option<Counted>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) -> Connection {
        let begun = [0; PREFACE.len()];
        Connection { stream, peer, begun, filled: 0, replayed: 0, counted: None, _permit: permit }
    }

    /// Reads until it is clear what the peer speaks; `None` if it goes before.
    async fn begin(&mut self) -> Option<Speaks> {
        while PREFACE.starts_with(&self.begun[..self.filled]) {
            if self.filled == PREFACE.len() {
                return Some(Speaks::Http2);
            }
            match self.stream.read(&mut self.begun[self.filled..]).await {
                Ok(0) | Err(_) => return None,
                Ok(bytes) => self.filled += bytes,
            }
        }
        // Methods are words in capitals; a TLS hello, say, begins otherwise.
        Some(if self.begun[0].is_ascii_uppercase() { Speaks::Http1 } else { Speaks::Neither })
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        Peer(self.peer)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.replayed < self.filled {
            let rest = &self.begun[self.replayed..self.filled];
            let part = &rest[..rest.len().min(buf.remaining())];
            buf.put_slice(part);
            self.replayed += part.len();
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
