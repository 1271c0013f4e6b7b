//! Connections that end by themselves: clients that neither take what they asked for nor ask for more are cut off.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// How long a client may take to accept the next bytes, or to ask for something after it had its last answer. Reading
/// does not count: a request that trickles in byte by byte is cut off, too.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many connections there can be; further ones wait until one ends.
const CONNECTIONS: usize = 512;

/// Listens for connections, as many as there may be.
pub(super) struct Listener {
    tcp: TcpListener,
    free: Arc<Semaphore>,
    patience: Duration,
}

impl Listener {
    pub(super) fn new(tcp: TcpListener) -> Self {
        Self { tcp, free: Arc::new(Semaphore::new(CONNECTIONS)), patience: PATIENCE }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, address) = axum::serve::Listener::accept(&mut self.tcp).await;
        let patience = self.patience;
        (Connection { stream, patience, deadline: Box::pin(tokio::time::sleep(patience)), _permit: permit }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// A connection with a deadline that every written byte moves.
pub(super) struct Connection {
    stream: TcpStream,
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn or_late<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            return result;
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn wrote(&mut self) {
        let deadline = Instant::now() + self.patience;
        self.deadline.as_mut().reset(deadline);
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.or_late(cx, result)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        if result.is_ready() {
            self.wrote();
        }
        self.or_late(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if result.is_ready() {
            self.wrote();
        }
        self.or_late(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.or_late(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.or_late(cx, result)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use axum::Router;

    use super::*;

    /// Says what a client gets that writes `bytes` and then waits.
    fn client(bytes: &'static [u8]) -> String {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(1).build().unwrap();
        let tcp = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let mut stream = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        // Before anybody accepts it, so that it is there whenever the deadline begins.
        stream.write_all(bytes).unwrap();
        let listener = Listener { patience: Duration::from_millis(20), ..Listener::new(tcp) };
        let app = Router::new().fallback(|| async { "answer" });
        runtime.spawn(async move { axum::serve(listener, app).await });
        let mut text = String::new();
        // Ends because the server closes the connection, and only then.
        let _ = stream.read_to_string(&mut text);
        text
    }

    #[test]
    fn a_client_that_never_finishes_its_request_is_cut_off() {
        assert_eq!(client(b"GET / HTTP/1.1\r\nHost: x\r\n"), "");
    }

    #[test]
    fn a_client_that_asks_for_nothing_more_is_cut_off() {
        assert!(client(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").ends_with("answer"));
    }
}
