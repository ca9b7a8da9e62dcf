//! Checksums of the chunks of a payload.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::frame::{FrameError, Payload};

/// Bytes of a chunk; the last one of a payload may be shorter.
///
/// A seek costs reading one chunk. Its checksum adds a 32,768th to its size.
pub const CHUNK_LEN: usize = 256 << 10;

/// Bytes of a checksum.
const SUM_LEN: u64 = 8;

/// The XXH3-64 of each chunk of a payload, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums(Vec<u64>);

impl Sums {
    /// Bytes that the checksums take after a payload: one word per chunk, and the checksum of these words.
    pub fn stored_len(payload_len: u64) -> u64 {
        (payload_len.div_ceil(CHUNK_LEN as u64) + 1).saturating_mul(SUM_LEN)
    }

    /// Encodes the checksums as they are stored after the payload.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.0.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    /// Parses and verifies the checksums after a payload of `payload_len` bytes.
    pub fn parse(bytes: &[u8], payload_len: u64) -> Result<Self, FrameError> {
        if bytes.len() as u64 != Self::stored_len(payload_len) {
            return Err(FrameError::Truncated);
        }
        let (words, _) = bytes.as_chunks::<8>();
        let Some((own, sums)) = words.split_last() else { return Err(FrameError::Truncated) };
        if xxh3_64(sums.as_flattened()) != u64::from_le_bytes(*own) {
            return Err(FrameError::Checksum);
        }
        Ok(Self(sums.iter().map(|sum| u64::from_le_bytes(*sum)).collect()))
    }

    /// Whether `bytes` match the checksum of this chunk.
    pub fn matches(&self, chunk: usize, bytes: &[u8]) -> bool {
        self.0.get(chunk).is_some_and(|sum| *sum == xxh3_64(bytes))
    }
}

/// Computes the checksums of a payload that arrives in pieces.
#[derive(Default)]
pub struct Summing {
    whole: Xxh3,
    chunk: Xxh3,
    in_chunk: usize,
    len: u64,
    sums: Sums,
}

impl Summing {
    /// Adds the next bytes. Costs two passes of XXH3 over them.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        self.len += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(CHUNK_LEN - self.in_chunk));
            bytes = rest;
            if now.len() == CHUNK_LEN {
                // A whole chunk is hashed at once, which is faster.
                self.sums.0.push(xxh3_64(now));
                continue;
            }
            self.chunk.update(now);
            self.in_chunk += now.len();
            if self.in_chunk == CHUNK_LEN {
                self.end_chunk();
            }
        }
    }

    /// The payload fields of the head, and the checksums of the chunks.
    pub fn finish(mut self) -> (Payload, Sums) {
        if self.in_chunk > 0 {
            self.end_chunk();
        }
        (Payload { len: self.len, sum: self.whole.digest(), chunked: true }, self.sums)
    }

    fn end_chunk(&mut self) {
        self.sums.0.push(self.chunk.digest());
        self.chunk.reset();
        self.in_chunk = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums_in_pieces_of(payload: &[u8], piece: usize) -> (Payload, Sums) {
        let mut summing = Summing::default();
        payload.chunks(piece).for_each(|bytes| summing.update(bytes));
        summing.finish()
    }

    #[test]
    fn pieces_of_any_length_give_the_same_sums() {
        for len in [0, 1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 3 * CHUNK_LEN] {
            let payload: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let (told, sums) = sums_in_pieces_of(&payload, 1 << 30);
            assert_eq!((told.len, told.sum), (len as u64, xxh3_64(&payload)));
            for piece in [777, CHUNK_LEN, CHUNK_LEN + 13] {
                assert_eq!(sums_in_pieces_of(&payload, piece), (told, sums.clone()), "{len}, {piece}");
            }
            let stored = sums.to_bytes();
            assert_eq!(stored.len() as u64, Sums::stored_len(len as u64));
            assert_eq!(Sums::parse(&stored, len as u64), Ok(sums.clone()));
            for (number, chunk) in payload.chunks(CHUNK_LEN).enumerate() {
                assert!(sums.matches(number, chunk) && !sums.matches(number + 1, chunk));
            }
        }
    }

    #[test]
    fn damaged_checksums_are_rejected() {
        let stored = sums_in_pieces_of(&[7; 1000], 1000).1.to_bytes();
        assert_eq!(Sums::parse(&stored, CHUNK_LEN as u64 + 1), Err(FrameError::Truncated));
        assert_eq!(Sums::parse(&[], 0), Err(FrameError::Truncated));
        for at in 0..stored.len() {
            let mut flipped = stored.clone();
            flipped[at] ^= 1;
            assert_eq!(Sums::parse(&flipped, 1000), Err(FrameError::Checksum), "byte {at}");
        }
    }
}
