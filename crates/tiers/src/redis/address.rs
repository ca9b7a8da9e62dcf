//! Where a server is: URLs, and streams to what they name.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use larder_core::{Error, Result};
use redis::{ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

const ALLOWED: &str = "redis://[user:password@]host[:port][/database], redis+unix:///path[?db=n&pass=..]";

/// A server, and how to introduce oneself. Never shows a password.
#[derive(Clone)]
pub(super) struct Address {
    place: Place,
    pub(super) settings: RedisConnectionInfo,
}

#[derive(Clone)]
enum Place {
    Tcp(String, u16),
    #[cfg(unix)]
    Unix(std::path::PathBuf),
}

impl Address {
    /// Reads a URL.
    ///
    /// # Errors
    /// `ErrorKind::Config`; the message repeats no more of the URL than its scheme.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let refused = |why: &str| Error::config("redis", format_args!("{} ({why})", veiled(url)), ALLOWED);
        let info = url.into_connection_info().map_err(|error| refused(error.category()))?;
        let place = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Place::Tcp(host.clone(), *port),
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => Place::Unix(path.clone()),
            _ => return Err(refused("this build has no such connections")),
        };
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        Ok(Self { place, settings })
    }

    /// Opens a stream. Small requests go out at once (`TCP_NODELAY`).
    pub(super) async fn connect(&self) -> std::io::Result<Watched> {
        let stream = match &self.place {
            Place::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
            #[cfg(unix)]
            Place::Unix(path) => Stream::Unix(tokio::net::UnixStream::connect(path).await?),
        };
        Ok(Watched { stream, moved: Arc::default(), full: false })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp(host, port) => write!(f, "{host}:{port}"),
            #[cfg(unix)]
            Place::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The scheme of a URL: what follows may hold a password.
fn veiled(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, _)) if scheme.len() <= 16 => format!("`{scheme}://…`"),
        _ => "no URL".to_owned(),
    }
}

enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
}

/// A stream that counts the bytes it moves, so that a slow answer can be told
/// from none. What is written counts where the stream was full before: only
/// then does it say that the server takes it.
pub(super) struct Watched {
    stream: Stream,
    moved: Arc<AtomicU64>,
    full: bool,
}

impl Watched {
    /// The bytes moved so far, in both directions.
    pub(super) fn moved(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.moved)
    }

    fn count(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

macro_rules! forward {
    ($watched:ident, $stream:ident => $call:expr) => {
        match &mut $watched.stream {
            Stream::Tcp($stream) => $call,
            #[cfg(unix)]
            Stream::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let read = forward!(self, stream => Pin::new(stream).poll_read(cx, buf));
        self.count(buf.filled().len().saturating_sub(before));
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = forward!(self, stream => Pin::new(stream).poll_write(cx, bytes));
        if let (Poll::Ready(Ok(len)), true) = (&written, self.full) {
            self.count(*len);
        }
        self.full = written.is_pending();
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        forward!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        forward!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
