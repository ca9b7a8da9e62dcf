//! A stream to a server that counts its bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream in both directions.
pub(in crate::redis) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Counts transferred bytes, so that a slow answer can be distinguished from a missing one. Written bytes
/// count only if the stream was full before: only then do they show that the server reads.
pub(in crate::redis) struct CountedStream {
    stream: Box<dyn Duplex>,
    bytes_transferred: Arc<AtomicU64>,
    full: bool,
}

impl CountedStream {
    pub(in crate::redis) fn new(stream: impl Duplex + 'static) -> Self {
        Self { stream: Box::new(stream), bytes_transferred: Arc::default(), full: false }
    }

    /// The number of bytes transferred so far, in both directions.
    pub(in crate::redis) fn bytes_transferred(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.bytes_transferred)
    }

    fn count(&self, bytes: usize) {
        self.bytes_transferred.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl AsyncRead for CountedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.count(buf.filled().len().saturating_sub(before));
        read
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let (Poll::Ready(Ok(len)), true) = (&written, self.full) {
            self.count(*len);
        }
        self.full = written.is_pending();
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
