//! Reads an export file. No length in it is trusted: memory grows with the actual data.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use larder_core::frame::{CodecId, FIXED_LEN, Head, Header, Payload};
use larder_core::key::EncodedKey;
use larder_core::tier::TierKind;
use xxhash_rust::xxh3::Xxh3;

use super::{END, START, tier_of};

/// The longest head that is read, in bytes: a key has at most 64 MiB, attributes far less.
const HEAD_LEN_MAX: u64 = 65 << 20;

/// What a whole export file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExportSummary {
    /// Frames for the disk tier.
    pub(crate) disk: u64,
    /// Frames for the file tier.
    pub(crate) file: u64,
    /// Bytes of these frames.
    pub(crate) bytes: u64,
    /// Frames of dictionaries, which are not entries.
    pub(crate) dictionaries: u64,
}

/// The head of a frame in an export file. Its body follows in the file.
pub(crate) struct FrameHead {
    pub(crate) tier: TierKind,
    pub(crate) header: Header,
    pub(crate) key: EncodedKey,
    pub(crate) attributes: Vec<u8>,
    pub(crate) payload: Payload,
    /// Bytes after the head: the payload and the checksums of its chunks.
    pub(crate) body: u64,
}

/// An export file, read from the front.
pub(crate) struct ExportReader {
    file: Summed,
    /// Bytes of the present record that were not read.
    left: u64,
    records: u64,
}

struct Summed {
    file: BufReader<File>,
    sum: Xxh3,
}

impl Read for Summed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(bytes)?;
        self.sum.update(&bytes[..read]);
        Ok(read)
    }
}

impl ExportReader {
    /// Opens a file and checks how it begins.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = Summed { file: BufReader::new(File::open(path)?), sum: Xxh3::new() };
        let mut start = [0; START.len()];
        file.read_exact(&mut start)?;
        if start[..4] != START[..4] {
            return Err(invalid("not an export of larder"));
        }
        if start != START {
            return Err(invalid("an export of a later version"));
        }
        Ok(Self { file, left: 0, records: 0 })
    }

    /// Reads the whole file and verifies its checksum. A damaged frame counts as an entry.
    pub(crate) fn verify(path: &Path) -> io::Result<ExportSummary> {
        let (mut reader, mut summary) = (Self::open(path)?, ExportSummary::default());
        while let Some((tier, len)) = reader.record()? {
            let head = reader.head(tier, len)?;
            if head.is_some_and(|head| head.header.codec == CodecId::Dictionary) {
                summary.dictionaries += 1;
                reader.skip()?;
                continue;
            }
            *(if tier == TierKind::File { &mut summary.file } else { &mut summary.disk }) += 1;
            summary.bytes = summary.bytes.saturating_add(len);
            reader.skip()?;
        }
        Ok(summary)
    }

    /// Reads the head of the next frame; `None` at the end of the file. `Some(None)` for a frame that is
    /// damaged, which is passed over.
    pub(crate) fn next(&mut self) -> io::Result<Option<Option<FrameHead>>> {
        self.skip()?;
        let Some((tier, len)) = self.record()? else { return Ok(None) };
        let head = self.head(tier, len)?;
        Ok(Some(head))
    }

    /// The body of the present frame.
    pub(crate) fn body(&mut self) -> impl Read {
        Body(self)
    }

    fn head(&mut self, tier: TierKind, len: u64) -> io::Result<Option<FrameHead>> {
        let mut bytes = Vec::new();
        self.body().take(FIXED_LEN as u64).read_to_end(&mut bytes)?;
        let word = |at: usize| {
            bytes.get(at..at + 4).and_then(|word| word.first_chunk()).map(|word| u32::from_le_bytes(*word))
        };
        let (Some(key), Some(attributes)) = (word(12), word(16)) else { return Ok(None) };
        let rest = u64::from(key) + u64::from(attributes);
        if rest > HEAD_LEN_MAX {
            return Ok(None);
        }
        self.body().take(rest).read_to_end(&mut bytes)?;
        let Ok(head) = Head::parse(&bytes) else { return Ok(None) };
        let payload = Payload { len: head.payload_len, sum: head.payload_sum, chunked: head.chunked };
        let is_whole = head.frame_len() == len;
        Ok(is_whole.then(|| FrameHead {
            tier,
            header: head.header,
            key: EncodedKey::new(head.key),
            attributes: head.attributes.to_vec(),
            payload,
            body: len - head.len() as u64,
        }))
    }

    /// Reads the front of a record: its tier and the length of its frame. `None` for the last record, after
    /// which the file must end.
    fn record(&mut self) -> io::Result<Option<(TierKind, u64)>> {
        let mut kind = [0];
        self.file.read_exact(&mut kind)?;
        let mut word = [0; 8];
        self.file.read_exact(&mut word)?;
        let number = u64::from_le_bytes(word);
        if kind[0] == END {
            let expected = self.file.sum.digest();
            self.file.read_exact(&mut word)?;
            let is_at_end = self.file.read(&mut [0])? == 0;
            return match number == self.records && u64::from_le_bytes(word) == expected && is_at_end {
                true => Ok(None),
                false => Err(invalid("the export is damaged: its checksum does not match")),
            };
        }
        let tier =
            tier_of(kind[0]).ok_or_else(|| invalid("the export is damaged: a record is of no known kind"))?;
        self.records += 1;
        self.left = number;
        Ok(Some((tier, number)))
    }

    fn skip(&mut self) -> io::Result<()> {
        io::copy(&mut self.body(), &mut io::sink()).map(drop)
    }
}

/// The rest of the present record. Ends early only with an error.
struct Body<'a>(&'a mut ExportReader);

impl Read for Body<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let room = bytes.len().min(usize::try_from(self.0.left).unwrap_or(usize::MAX));
        let read = self.0.file.read(&mut bytes[..room])?;
        if read == 0 && room > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.0.left -= read as u64;
        Ok(read)
    }
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::ExportWriter;

    fn written(path: &Path) -> Vec<u8> {
        let mut writer = ExportWriter::create(path).unwrap();
        writer.append(TierKind::Disk, 5, &b"frame"[..]).unwrap();
        writer.append(TierKind::File, 0, &b""[..]).unwrap();
        writer.append(TierKind::File, 300_000, io::repeat(7)).unwrap();
        writer.finish(path).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn export_is_verified_and_any_damage_is_detected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("export");
        let bytes = written(&path);
        let expected = ExportSummary { disk: 1, file: 2, bytes: 300_005, dictionaries: 0 };
        assert_eq!(ExportReader::verify(&path).unwrap(), expected);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no file is left beside it");
        let ends = [0, 7, 8, 9, 16, 20, 30, 31, 50, bytes.len() - 17, bytes.len() - 1];
        for cut in ends {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(ExportReader::verify(&path).is_err(), "cut at {cut}");
        }
        for at in (0..60).chain(bytes.len() - 20..bytes.len()) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            std::fs::write(&path, flipped).unwrap();
            assert!(ExportReader::verify(&path).is_err(), "flipped at {at}");
        }
        std::fs::write(&path, [&bytes[..], b"x"].concat()).unwrap();
        assert!(ExportReader::verify(&path).is_err(), "a byte follows");
    }

    #[test]
    fn frame_that_is_none_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("export");
        written(&path);
        let mut reader = ExportReader::open(&path).unwrap();
        let mut damaged = 0;
        while let Some(frame) = reader.next().unwrap() {
            assert!(frame.is_none());
            damaged += 1;
        }
        assert_eq!(damaged, 3);
    }
}
