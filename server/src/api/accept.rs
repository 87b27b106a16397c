//! Takes connections: a bounded number of them, with small packets sent at once, and only such as begin to speak
//! HTTP/2 within ten seconds. What connects and stays silent, or speaks something else, costs nothing for long.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
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

/// Connections at one time.
const CONNECTIONS: usize = 10_000;
/// Connections that have begun to speak and wait for the server to take them.
const READY: usize = 64;
/// How long a peer may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);
/// What every HTTP/2 client says first (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What a browser or `curl` is told.
const WRONG: &[u8] =
    b"HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\ncontent-type: text/plain\r\n\r\nthis port speaks gRPC; use the taskq command\n";

/// Accepts until the receiver of the stream is gone.
pub fn accept(listener: TcpListener) -> impl Stream<Item = io::Result<Connection>> {
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
                    let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
                    tokio::spawn(greet(stream, peer, permit, sender.clone()));
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

async fn greet(
    mut stream: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
    ready: mpsc::Sender<io::Result<Connection>>,
) {
    let mut begun = [0; PREFACE.len()];
    let read = async {
        let mut filled = 0;
        while filled < begun.len() && PREFACE.starts_with(&begun[..filled]) {
            match stream.read(&mut begun[filled..]).await {
                Ok(0) | Err(_) => return false,
                Ok(bytes) => filled += bytes,
            }
        }
        filled == begun.len() && &begun == PREFACE
    };
    match tokio::time::timeout(PATIENCE, read).await {
        Ok(true) => {}
        Ok(false) => {
            // The peer speaks something else or is gone; whether it reads this is its own affair.
            let _told = tokio::time::timeout(PATIENCE, stream.write_all(WRONG)).await;
            return;
        }
        Err(_silent) => return,
    }
    // A socket that is closing refuses options; the server then sees it closed.
    let _set = stream.set_nodelay(true);
    // An error says that the server has ended.
    let _taken = ready.send(Ok(Connection { stream, peer, replay: 0, _permit: permit })).await;
}

/// Who is at the other end: among a request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// A connection whose preface has been read and is played back to the server.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    replay: usize,
    _permit: OwnedSemaphorePermit,
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
        if self.replay < PREFACE.len() {
            let rest = &PREFACE[self.replay..];
            let part = &rest[..rest.len().min(buf.remaining())];
            buf.put_slice(part);
            self.replay += part.len();
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
