//! Writes an export file.

use std::io::{self, Read, Write};
use std::path::Path;

use larder_core::tier::TierKind;
use tempfile::NamedTempFile;
use xxhash_rust::xxh3::Xxh3;

use super::{END, START, kind_of};

/// An export file that is being written, beside its path. Dropping it leaves nothing behind.
pub(crate) struct ExportWriter {
    file: io::BufWriter<NamedTempFile>,
    sum: Xxh3,
    records: u64,
    bytes: u64,
}

impl ExportWriter {
    /// Creates the file, readable by its owner only.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let file = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        let mut writer = Self { file: io::BufWriter::new(file), sum: Xxh3::new(), records: 0, bytes: 0 };
        writer.write(&START)?;
        Ok(writer)
    }

    /// Appends the frame of `len` bytes that `frame` yields.
    pub(crate) fn append(&mut self, tier: TierKind, len: u64, mut frame: impl Read) -> io::Result<()> {
        self.write(&[kind_of(tier)])?;
        self.write(&len.to_le_bytes())?;
        let mut part = vec![0; 256 << 10];
        let mut left = len;
        while left > 0 {
            let room = part.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match frame.read(&mut part[..room])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    self.write(&part[..read])?;
                    left -= read as u64;
                }
            }
        }
        self.records += 1;
        Ok(())
    }

    /// Writes the last record, and makes the file durable and visible at `path`. Returns its length.
    pub(crate) fn finish(mut self, path: &Path) -> io::Result<u64> {
        self.write(&[END])?;
        self.write(&self.records.to_le_bytes())?;
        let sum = self.sum.digest();
        self.write(&sum.to_le_bytes())?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(self.bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}
