//! The ground truth that all processes share in one file: the newest version of each article in the source,
//! and the oldest version that a read may still return.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::{ARTICLES, Outcome, PROBES};

const ALL: u64 = ARTICLES + PROBES;
/// A version and its complement, so that a reader detects a cell that is being written.
const CELL: usize = 16;

/// A table of versions that several processes read. Each cell has one writer.
pub(crate) struct Board(File);

impl Board {
    /// Creates a board in which every article has version zero.
    pub(crate) fn create(path: &Path) -> Outcome<Self> {
        let board = Self(OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?);
        for cell in 0..2 * ALL {
            board.write(cell, 0)?;
        }
        Ok(board)
    }

    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        Ok(Self(OpenOptions::new().read(true).write(true).open(path)?))
    }

    /// Returns the newest version of an article in the source.
    pub(crate) fn source(&self, article: u64) -> Outcome<u64> {
        self.read(article)
    }

    /// Raises the version of an article in the source and returns it.
    pub(crate) fn raise(&self, article: u64) -> Outcome<u64> {
        let version = self.read(article)? + 1;
        self.write(article, version)?;
        Ok(version)
    }

    /// The oldest version that a confirmed read may return from now on.
    pub(crate) fn owed(&self, article: u64) -> Outcome<u64> {
        self.read(ALL + article)
    }

    /// Records that a version was acknowledged more than a lease ago.
    pub(crate) fn owe(&self, article: u64, version: u64) -> Outcome<()> {
        self.write(ALL + article, version)
    }

    fn read(&self, cell: u64) -> Outcome<u64> {
        loop {
            let mut bytes = [0; CELL];
            self.0.read_exact_at(&mut bytes, cell * CELL as u64)?;
            let [version, complement] = halves(&bytes);
            if version == !complement {
                return Ok(version);
            }
            std::hint::spin_loop();
        }
    }

    fn write(&self, cell: u64, version: u64) -> Outcome<()> {
        let mut bytes = [0; CELL];
        bytes[..CELL / 2].copy_from_slice(&version.to_le_bytes());
        bytes[CELL / 2..].copy_from_slice(&(!version).to_le_bytes());
        Ok(self.0.write_all_at(&bytes, cell * CELL as u64)?)
    }
}

fn halves(bytes: &[u8; CELL]) -> [u64; 2] {
    let both = u128::from_le_bytes(*bytes);
    [both as u64, (both >> 64) as u64]
}
