//! Bytes to write to a server, in order.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use larder_core::Bytes;
use tokio::io::AsyncWrite;

/// From this length on, bytes are written from where they are, and not copied.
const SHARED_MIN: usize = 16 << 10;

/// A longer buffer is not kept for later commands.
const KEPT_MAX: usize = 256 << 10;

/// Encoded commands. Long values are kept apart.
#[derive(Default)]
pub(in crate::redis) struct Outgoing {
    parts: VecDeque<Bytes>,
    tail: Vec<u8>,
    /// How much of the first part is written.
    written: usize,
}

impl Outgoing {
    /// The buffer to append to.
    pub(in crate::redis) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Appends bytes, without a copy if they are many.
    pub(in crate::redis) fn push(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_MIN {
            self.tail.extend_from_slice(bytes);
            return;
        }
        self.end_part();
        self.parts.push_back(bytes.clone());
    }

    /// Moves everything from `other` to the end of this.
    pub(in crate::redis) fn append(&mut self, other: &mut Self) {
        if !other.parts.is_empty() {
            self.end_part();
            self.parts.append(&mut other.parts);
        }
        if self.tail.is_empty() {
            // The other one gets the empty buffer to use again.
            std::mem::swap(&mut self.tail, &mut other.tail);
        } else {
            self.tail.append(&mut other.tail);
        }
    }

    /// How many bytes there are.
    pub(in crate::redis) fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum::<usize>() + self.tail.len()
    }

    pub(in crate::redis) fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.tail.is_empty()
    }

    fn end_part(&mut self) {
        if !self.tail.is_empty() {
            self.parts.push_back(std::mem::take(&mut self.tail).into());
        }
    }

    /// Writes as much as the stream takes. Ready when nothing is left.
    pub(in crate::redis) fn poll_write(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let part = self.parts.front().map_or(&self.tail[..], |part| &part[..]);
            let len = part.len();
            let written = ready!(Pin::new(&mut *stream).poll_write(context, &part[self.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            if self.written == len {
                self.written = 0;
                if self.parts.pop_front().is_none() {
                    self.tail.clear();
                    self.tail.shrink_to(KEPT_MAX);
                }
            }
        }
        Pin::new(stream).poll_flush(context)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes at most seven bytes at once.
    #[derive(Default)]
    struct Slow(Vec<u8>);

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let len = bytes.len().min(7);
            self.0.extend_from_slice(&bytes[..len]);
            Poll::Ready(Ok(len))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn bytes_are_written_in_order_and_long_ones_are_not_copied() {
        let long = Bytes::from(vec![b'l'; SHARED_MIN]);
        let (mut outgoing, mut expected) = (Outgoing::default(), Vec::new());
        for short in ["first", "second"] {
            let mut next = Outgoing::default();
            next.tail().extend_from_slice(short.as_bytes());
            next.push(&long);
            next.push(&Bytes::from_static(b"third"));
            assert!(next.parts.back().is_some_and(|part| part.as_ptr() == long.as_ptr()));
            outgoing.append(&mut next);
            assert!(next.is_empty());
            expected.extend_from_slice(&[short.as_bytes(), &long, b"third"].concat());
        }
        let mut stream = Slow::default();
        let written = outgoing.poll_write(&mut stream, &mut Context::from_waker(Waker::noop()));
        assert!(matches!(written, Poll::Ready(Ok(()))) && outgoing.is_empty());
        assert!(stream.0 == expected);
    }
}
