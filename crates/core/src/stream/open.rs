//! Opens a frame without reading its payload into memory.

use std::io::{self, Read, SeekFrom};

use super::{CHUNK_LEN, Stored, Summing, Sums, Verified};
use crate::frame::{CodecId, FIXED_LEN, FrameError, Head, Header};
use crate::key::EncodedKey;
use crate::{Error, ErrorKind, Result};

/// An opened frame.
#[derive(Debug)]
pub struct OpenedParts {
    /// The fields of its head.
    pub header: Header,
    /// The bytes of its head, which differ between versions of the entry.
    pub head: Vec<u8>,
    /// Its payload as stored, verified as it is read.
    pub payload: Verified,
}

/// Verifies the head of a frame against the requested key, and opens its payload for reading.
///
/// Costs reading the head and the chunk checksums; one pass over the payload if the frame has none.
///
/// # Errors
/// [`ErrorKind::Corrupt`] if it is not a usable frame of `key`; the error of the medium if that cannot be
/// read.
pub fn open(mut stored: Stored, key: &EncodedKey) -> Result<OpenedParts> {
    let bytes = read_head(&mut stored, key)?;
    let head = Head::parse(&bytes).map_err(corrupt)?;
    head.check_key(key).map_err(corrupt)?;
    match stored.len.cmp(&head.frame_len()) {
        std::cmp::Ordering::Less => return Err(corrupt(FrameError::Truncated)),
        std::cmp::Ordering::Greater => return Err(corrupt(FrameError::Trailing)),
        std::cmp::Ordering::Equal => {}
    }
    let sums = if head.chunked { read_sums(&mut stored, &head)? } else { make_sums(&mut stored, &head)? };
    let header = head.header;
    let payload = Verified::new(stored.medium, head.len() as u64, head.payload_len, sums);
    let head_len = head.len();
    let mut head = bytes;
    head.truncate(head_len);
    Ok(OpenedParts { header, head, payload })
}

/// Reads as many bytes as the head of a frame of `key` has, including its tags.
fn read_head(stored: &mut Stored, key: &EncodedKey) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    take(stored, FIXED_LEN as u64, &mut bytes)?;
    // The key of a sealed frame has another length.
    let key_len = match bytes.get(5) {
        Some(codec) if *codec == CodecId::Sealed as u8 => key_len(&bytes),
        _ => key.as_bytes().len() as u64,
    };
    take(stored, key_len, &mut bytes)?;
    let Some(tags) = bytes.get(16..20) else { return Ok(bytes) };
    let mut len = [0; 4];
    len.copy_from_slice(tags);
    // Memory grows with the actual data, not with the claimed length.
    take(stored, u64::from(u32::from_le_bytes(len)), &mut bytes)?;
    Ok(bytes)
}

/// The length of the key that a fixed part claims.
fn key_len(fixed: &[u8]) -> u64 {
    let len = fixed.get(12..).and_then(|rest| rest.first_chunk());
    len.map_or(0, |len| u64::from(u32::from_le_bytes(*len)))
}

fn read_sums(stored: &mut Stored, head: &Head<'_>) -> Result<Sums> {
    stored.medium.seek(SeekFrom::Start(stored.len - head.trailer_len())).map_err(unread)?;
    let mut bytes = Vec::new();
    take(stored, head.trailer_len(), &mut bytes)?;
    Sums::parse(&bytes, head.payload_len).map_err(corrupt)
}

fn make_sums(stored: &mut Stored, head: &Head<'_>) -> Result<Sums> {
    stored.medium.seek(SeekFrom::Start(head.len() as u64)).map_err(unread)?;
    let mut summing = Summing::default();
    let mut left = head.payload_len;
    let mut buffer = vec![0; usize::try_from(left).unwrap_or(CHUNK_LEN).min(CHUNK_LEN)];
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(CHUNK_LEN).min(buffer.len());
        stored.medium.read_exact(&mut buffer[..len]).map_err(unread)?;
        summing.update(&buffer[..len]);
        left -= len as u64;
    }
    let (told, sums) = summing.finish();
    if told.sum != head.payload_sum {
        return Err(corrupt(FrameError::Checksum));
    }
    Ok(sums)
}

fn take(stored: &mut Stored, len: u64, into: &mut Vec<u8>) -> Result<()> {
    (&mut stored.medium).take(len).read_to_end(into).map(drop).map_err(unread)
}

fn corrupt(error: FrameError) -> Error {
    Error::new(ErrorKind::Corrupt, error.to_string()).with_source(error)
}

/// A premature end and invalid data mean a damaged frame; other errors come from the medium.
fn unread(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => corrupt(FrameError::Truncated),
        io::ErrorKind::InvalidData => corrupt(FrameError::Checksum),
        _ => error.into(),
    }
}
