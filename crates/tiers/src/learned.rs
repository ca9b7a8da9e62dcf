//! What the selector of a cache has learned, in one file of its directory.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use larder_core::Result;
use larder_core::place::LearnedFile;

use crate::private_file;

const NAME: &str = "learned";
/// The largest file that is read, in bytes.
const BYTES_MAX: u64 = 16 << 20;

/// The file `learned` of a directory. The selector chooses and checks the bytes.
#[derive(Debug)]
pub struct FileLearned {
    path: PathBuf,
}

impl FileLearned {
    /// The file in `dir`. Opens nothing.
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join(NAME) }
    }
}

impl LearnedFile for FileLearned {
    fn write(&self, bytes: &[u8]) -> Result<()> {
        let next = self.path.with_extension("next");
        private_file::create(&next)?.write_all(bytes)?;
        fs::rename(&next, &self.path)?;
        Ok(())
    }

    fn read(&self) -> Vec<u8> {
        let Ok(file) = fs::File::open(&self.path) else { return Vec::new() };
        let mut bytes = Vec::new();
        let read = file.take(BYTES_MAX).read_to_end(&mut bytes);
        if read.is_ok() { bytes } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = FileLearned::new(dir.path());
        assert!(file.read().is_empty());
        file.write(b"first").unwrap();
        file.write(b"second").unwrap();
        assert_eq!(file.read(), b"second");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no file is left beside it");
    }
}
