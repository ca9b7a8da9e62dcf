//! Arrow record batches, stored as an Arrow IPC stream.

use std::io;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::root_as_message;
use arrow_ipc::writer::StreamWriter;
use bytes::Bytes;

use super::serde::{Natural, as_bytes};
use crate::codec::Sink;
use crate::{Error, ErrorKind, Result};

/// A data frame: an Arrow [`RecordBatch`] with its schema.
///
/// ```
/// use std::sync::Arc;
///
/// use arrow_array::{Int64Array, RecordBatch};
/// use larder_core::natural::Frame;
///
/// let days = Arc::new(Int64Array::from(vec![1, 2, 3])) as _;
/// let frame = Frame::from(RecordBatch::try_from_iter([("day", days)]).unwrap());
/// assert_eq!(Frame::decode(frame.encode().unwrap()).unwrap(), frame);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Frame(RecordBatch);

impl From<RecordBatch> for Frame {
    fn from(batch: RecordBatch) -> Self {
        Self(batch)
    }
}

impl From<Frame> for RecordBatch {
    fn from(frame: Frame) -> Self {
        frame.0
    }
}

impl Deref for Frame {
    type Target = RecordBatch;

    fn deref(&self) -> &RecordBatch {
        &self.0
    }
}

impl Frame {
    /// The length of [`encode`](Self::encode), in bytes, found by counting without a buffer.
    ///
    /// # Errors
    /// The same as [`encode`](Self::encode).
    pub fn encoded_len(&self) -> Result<u64> {
        let mut sink = Sink::default();
        self.write(&mut sink)?;
        Ok(sink.len())
    }

    /// Encodes an Arrow IPC stream of the schema and one batch.
    ///
    /// # Errors
    /// `ErrorKind::Codec` if Arrow cannot write it.
    pub fn encode(&self) -> Result<Bytes> {
        let mut bytes = Vec::with_capacity(self.0.get_array_memory_size());
        self.write(&mut bytes)?;
        Ok(bytes.into())
    }

    fn write(&self, to: impl io::Write) -> Result<()> {
        let mut writer = StreamWriter::try_new(to, &self.0.schema()).map_err(failed)?;
        writer.write(&self.0).and_then(|()| writer.finish()).map_err(failed)
    }

    /// Decodes the result of [`encode`](Self::encode). Columns that are aligned in `bytes` share its buffer.
    ///
    /// # Errors
    /// `ErrorKind::Corrupt` for other bytes.
    pub fn decode(bytes: Bytes) -> Result<Self> {
        if !is_whole(&bytes) {
            return Err(damaged());
        }
        // Arrow does not promise to check everything it reads: a malicious stream must not panic the thread.
        let read = catch_unwind(AssertUnwindSafe(|| read(bytes)));
        read.map_err(|_| damaged())?
    }
}

fn read(bytes: Bytes) -> Result<Frame> {
    let mut buffer = Buffer::from(bytes);
    let mut decoder = StreamDecoder::new();
    let undecodable = |error| damaged().with_source(error);
    let batch = decoder.decode(&mut buffer).map_err(undecodable)?.ok_or_else(damaged)?;
    // The end of the stream follows the one batch.
    if decoder.decode(&mut buffer).map_err(undecodable)?.is_some() || !buffer.is_empty() {
        return Err(damaged());
    }
    decoder.finish().map_err(undecodable)?;
    Ok(Frame(batch))
}

/// Whether each message is as long as it claims, up to the end of the stream. So no claimed length leads to
/// an allocation.
fn is_whole(mut bytes: &[u8]) -> bool {
    while let Some((len, rest)) = message_len(bytes) {
        if len == 0 {
            return rest.is_empty();
        }
        match after_message(len, rest) {
            Some(next) => bytes = next,
            None => return false,
        }
    }
    false
}

/// The claimed length of the next message, and the bytes after that length.
fn message_len(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (len, rest) = bytes.strip_prefix(&[0xff; 4])?.split_at_checked(size_of::<u32>())?;
    Some((usize::try_from(u32::from_le_bytes(len.try_into().ok()?)).ok()?, rest))
}

/// The bytes after a message and its body; `None` if they are incomplete.
fn after_message(len: usize, bytes: &[u8]) -> Option<&[u8]> {
    let (message, rest) = bytes.split_at_checked(len)?;
    let body = usize::try_from(root_as_message(message).ok()?.bodyLength()).ok()?;
    rest.get(body..)
}

fn failed(error: arrow_schema::ArrowError) -> Error {
    Error::new(ErrorKind::Codec, format!("the frame cannot be encoded: {error}")).with_source(error)
}

fn damaged() -> Error {
    Error::new(ErrorKind::Corrupt, "the payload is not an Arrow IPC stream of one batch")
}

impl Natural for Frame {
    fn to_bytes(&self) -> Result<Bytes> {
        self.encode()
    }

    fn from_bytes(bytes: Bytes) -> Result<Self> {
        Self::decode(bytes)
    }
}

as_bytes!(Frame);
