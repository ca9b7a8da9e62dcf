//! Verifies the bytes of a payload before they are returned.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use super::{CHUNK_LEN, Medium, Sums};
use crate::frame::FrameError;

/// The payload of a frame, as stored.
///
/// Reading needs memory for one chunk. Every read of a damaged chunk fails with an error of kind
/// [`InvalidData`](io::ErrorKind::InvalidData), and returns none of its bytes.
pub struct Verified {
    medium: Box<dyn Medium>,
    /// The position of the payload on the medium.
    starts: u64,
    len: u64,
    sums: Sums,
    position: u64,
    /// The chunk in `buffer`.
    held: Option<usize>,
    buffer: Vec<u8>,
}

impl Verified {
    pub(super) fn new(medium: Box<dyn Medium>, starts: u64, len: u64, sums: Sums) -> Self {
        Self { medium, starts, len, sums, position: 0, held: None, buffer: Vec::new() }
    }

    /// The length of the payload in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads a whole chunk and verifies it.
    fn fetch(&mut self, chunk: usize, into: &mut [u8]) -> io::Result<()> {
        self.medium.seek(SeekFrom::Start(self.starts + (chunk * CHUNK_LEN) as u64))?;
        self.medium.read_exact(into).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged(FrameError::Truncated),
            _ => error,
        })?;
        if self.sums.matches(chunk, into) { Ok(()) } else { Err(damaged(FrameError::Checksum)) }
    }

    fn hold(&mut self, chunk: usize, len: usize) -> io::Result<()> {
        if self.held == Some(chunk) {
            return Ok(());
        }
        self.held = None;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(len, 0);
        let fetched = self.fetch(chunk, &mut buffer);
        self.buffer = buffer;
        fetched?;
        self.held = Some(chunk);
        Ok(())
    }
}

impl Read for Verified {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.len || into.is_empty() {
            return Ok(0);
        }
        let chunk = usize::try_from(self.position / CHUNK_LEN as u64).map_err(io::Error::other)?;
        let within = (self.position % CHUNK_LEN as u64) as usize;
        let chunk_len = (self.len - self.position + within as u64).min(CHUNK_LEN as u64) as usize;
        let read = if within == 0 && into.len() >= chunk_len && self.held != Some(chunk) {
            self.fetch(chunk, &mut into[..chunk_len])?;
            chunk_len
        } else {
            self.hold(chunk, chunk_len)?;
            (&self.buffer[within..]).read(into)?
        };
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for Verified {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = sought(to, self.position, self.len)?;
        Ok(self.position)
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("len", &self.len).finish_non_exhaustive()
    }
}

/// The target of a seek; beyond the end is allowed, as with files.
pub(super) fn sought(to: SeekFrom, position: u64, len: u64) -> io::Result<u64> {
    let target = match to {
        SeekFrom::Start(at) => Some(at),
        SeekFrom::Current(by) => position.checked_add_signed(by),
        SeekFrom::End(by) => len.checked_add_signed(by),
    };
    target.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the seek position is before the beginning")
    })
}

pub(super) fn damaged(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::Summing;
    use super::*;

    fn payload(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at / 7 % 251) as u8).collect()
    }

    /// The payload after three other bytes, with its checksums.
    fn verified(payload: &[u8], stored: &[u8]) -> Verified {
        let mut summing = Summing::default();
        summing.update(payload);
        let medium = [b"abc", stored].concat();
        Verified::new(Box::new(Cursor::new(medium)), 3, payload.len() as u64, summing.finish().1)
    }

    #[test]
    fn reads_of_any_length_return_the_payload() {
        let payload = payload(2 * CHUNK_LEN + 100);
        for piece in [1000, CHUNK_LEN, CHUNK_LEN + 1, 4 * CHUNK_LEN] {
            let mut reader = verified(&payload, &payload);
            let (mut read, mut buffer) = (Vec::new(), vec![0; piece]);
            loop {
                match reader.read(&mut buffer).unwrap() {
                    0 => break,
                    len => read.extend_from_slice(&buffer[..len]),
                }
            }
            assert!(read == payload, "in pieces of {piece}");
        }
    }

    #[test]
    fn seek_moves_to_the_given_byte() {
        let payload = payload(2 * CHUNK_LEN + 100);
        let mut reader = verified(&payload, &payload);
        for at in [5, CHUNK_LEN - 1, CHUNK_LEN, 2 * CHUNK_LEN + 99, 0] {
            assert_eq!(reader.seek(SeekFrom::Start(at as u64)).unwrap(), at as u64);
            let mut byte = [0];
            reader.read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], payload[at], "at {at}");
        }
        assert_eq!(reader.seek(SeekFrom::End(-100)).unwrap(), 2 * CHUNK_LEN as u64);
        assert_eq!(reader.seek(SeekFrom::Current(1000)).unwrap(), 2 * CHUNK_LEN as u64 + 1000);
        assert_eq!(reader.read(&mut [0; 10]).unwrap(), 0, "beyond the end");
        assert!(reader.seek(SeekFrom::Current(i64::MIN)).is_err());
    }

    #[test]
    fn damaged_chunk_is_an_error_and_other_chunks_are_read() {
        let payload = payload(3 * CHUNK_LEN);
        let mut stored = payload.clone();
        stored[CHUNK_LEN + 77] ^= 1;
        let mut reader = verified(&payload, &stored);
        let mut chunk = vec![0; CHUNK_LEN];
        reader.read_exact(&mut chunk).unwrap();
        for piece in [10, CHUNK_LEN] {
            let error = reader.read(&mut vec![0; piece]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        reader.seek(SeekFrom::Start(2 * CHUNK_LEN as u64)).unwrap();
        reader.read_exact(&mut chunk).unwrap();
        assert!(chunk == payload[2 * CHUNK_LEN..]);
        let mut short = verified(&payload, &payload[..2 * CHUNK_LEN]);
        short.seek(SeekFrom::End(-1)).unwrap();
        assert_eq!(short.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
