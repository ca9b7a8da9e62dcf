//! Decompresses a payload as it is read.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use zstd::stream::read::Decoder;

use super::Verified;
use super::verified::{damaged, sought};
use crate::frame::FrameError;

type Inner = Decoder<'static, BufReader<Verified>>;

/// A zstd payload, read as the decompressed value.
///
/// A seek forward decompresses the bytes in between; a seek back starts again from the beginning. Memory is
/// the zstd window: 8 MiB up to level 19.
pub(super) struct Unpacked {
    /// `None` after a restart failed.
    decoder: Option<Inner>,
    len: u64,
    /// The position in the value up to which it is decompressed.
    decoded: u64,
    position: u64,
}

impl Unpacked {
    pub(super) fn new(stored: Verified, len: u64) -> io::Result<Self> {
        Ok(Self { decoder: Some(Decoder::new(stored)?), len, decoded: 0, position: 0 })
    }

    /// Advances the decoder to the position.
    fn catch_up(&mut self) -> io::Result<&mut Inner> {
        if self.decoded > self.position || self.decoder.is_none() {
            self.begin_anew()?;
        }
        let Some(decoder) = &mut self.decoder else { return Err(damaged(FrameError::Checksum)) };
        let skip = self.position - self.decoded;
        let skipped = io::copy(&mut decoder.take(skip), &mut io::sink())?;
        self.decoded += skipped;
        if skipped == skip { Ok(decoder) } else { Err(damaged(FrameError::Truncated)) }
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        let Some(decoder) = self.decoder.take() else { return Err(damaged(FrameError::Checksum)) };
        let mut stored = decoder.finish().into_inner();
        stored.seek(SeekFrom::Start(0))?;
        self.decoder = Some(Decoder::new(stored)?);
        self.decoded = 0;
        Ok(())
    }
}

impl Read for Unpacked {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.len || into.is_empty() {
            return Ok(0);
        }
        let left = self.len - self.position;
        let room = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let decoder = self.catch_up()?;
        let read = decoder.read(&mut into[..room])?;
        if read == 0 {
            return Err(damaged(FrameError::Truncated));
        }
        // The last bytes are returned only if no bytes follow them.
        let trails = read as u64 == left && has_more(decoder);
        self.decoded += read as u64;
        if trails {
            return Err(damaged(FrameError::Trailing));
        }
        self.position = self.decoded;
        Ok(read)
    }
}

fn has_more(decoder: &mut Inner) -> bool {
    !matches!(decoder.read(&mut [0]), Ok(0))
}

impl Seek for Unpacked {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = sought(to, self.position, self.len)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::{CHUNK_LEN, Medium, Summing};
    use super::*;

    fn unpacked(plain: &[u8], claimed: u64) -> Unpacked {
        let stored = zstd::bulk::compress(plain, 1).unwrap();
        let mut summing = Summing::default();
        summing.update(&stored);
        let (told, sums) = summing.finish();
        let medium: Box<dyn Medium> = Box::new(Cursor::new(stored));
        Unpacked::new(Verified::new(medium, 0, told.len, sums), claimed).unwrap()
    }

    fn plain() -> Vec<u8> {
        (0..5 * CHUNK_LEN).map(|at| (at * at / 1000 % 253) as u8).collect()
    }

    #[test]
    fn seeks_forward_and_back_find_the_same_bytes() {
        let plain = plain();
        let mut reader = unpacked(&plain, plain.len() as u64);
        for at in [0, 1000, 3 * CHUNK_LEN, 10, plain.len() - 1, plain.len() - 500, 0] {
            reader.seek(SeekFrom::Start(at as u64)).unwrap();
            let mut read = vec![0; 500.min(plain.len() - at)];
            reader.read_exact(&mut read).unwrap();
            assert!(read == plain[at..at + read.len()], "at {at}");
        }
        reader.seek(SeekFrom::Start(0)).unwrap();
        let mut whole = Vec::new();
        reader.read_to_end(&mut whole).unwrap();
        assert!(whole == plain);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn wrong_length_is_an_error_on_every_read() {
        let plain = plain();
        for claimed in [plain.len() as u64 - 1, plain.len() as u64 + 1] {
            let mut reader = unpacked(&plain, claimed);
            for _ in 0..2 {
                let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{claimed}");
            }
        }
    }
}
