//! A sorted run: an immutable file of rows in key order, as in an LSM tree. Its file ends in `.pack`.
//!
//! ```text
//! 4   LRDP
//! 1   version, 1
//! 3   0
//! 8   the number of the run, as in its file name
//! blocks of rows in ascending order, each of about 4 KiB, then the last block
//! ```
//!
//! A [`RunWriter`](crate::disk::run::writer::RunWriter) writes the file once and renames it into place. So
//! a run is either complete or damaged.
//!
//! In memory, a run has the first row key of each block, a Bloom filter of all rows, and one bit a
//! row that says whether it was read since it was written here.

use std::cmp::Ordering as Order;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use larder_core::{Error, ErrorKind, Result};
use parking_lot::RwLock;
use sled::IVec;

use crate::disk::counts::Counts;
use crate::disk::layout::unavailable;
use crate::disk::run::bitmap::Bitmap;
use crate::disk::run::block::{self, HEAD_LEN, Head, Rows};
use crate::disk::run::index::{RunContents, RunIndex};
use crate::disk::segment::file::ReadAt;

const MAGIC: &[u8; 4] = b"LRDP";
const VERSION: u8 = 1;
pub(in crate::disk) const START_LEN: usize = 16;

/// The first bytes of run `number`.
pub(in crate::disk) fn start(number: u64) -> [u8; START_LEN] {
    let mut start = [0; START_LEN];
    start[..4].copy_from_slice(MAGIC);
    start[4] = VERSION;
    start[8..].copy_from_slice(&number.to_le_bytes());
    start
}

/// An open sorted run.
pub(in crate::disk) struct SortedRun {
    /// The number of the memtable whose rows it has. Later runs have higher numbers.
    pub(in crate::disk) number: u64,
    /// Counts the valid rows of this run.
    pub(in crate::disk) counts: Counts,
    /// Whether the run was rewritten from an earlier run of the same number.
    pub(in crate::disk) is_rewritten: bool,
    path: PathBuf,
    file: ReadAt,
    len: u64,
    contents: RunContents,
    read: Bitmap,
    copied: RwLock<Option<Copied>>,
}

/// Rows of a run that were copied to the run that will replace it.
struct Copied {
    rows: Bitmap,
    counts: Counts,
}

/// A row that was found in a run.
pub(in crate::disk) struct Found {
    /// Its position among the rows of the run.
    pub(in crate::disk) ordinal: u32,
    /// Its value, or a tombstone.
    pub(in crate::disk) value: IVec,
}

impl SortedRun {
    /// Opens a run that was just written.
    pub(in crate::disk) fn new(
        number: u64,
        path: PathBuf,
        file: File,
        len: u64,
        contents: RunContents,
    ) -> Self {
        Self {
            number,
            counts: Counts::default(),
            is_rewritten: false,
            path,
            file: ReadAt::new(file),
            len,
            read: Bitmap::new(contents.rows as usize),
            contents,
            copied: RwLock::new(None),
        }
    }

    /// Opens an existing run and reads all of it. `None` if it is damaged.
    pub(in crate::disk) fn open(number: u64, path: PathBuf) -> Result<Option<Self>> {
        let opened = File::open(&path).and_then(|file| Ok((read(&file, number)?, file)));
        match opened {
            Ok((Some((contents, len)), file)) => {
                Ok(Some(Self::new(number, path, file, len, contents.finish())))
            }
            Ok((None, _)) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(unavailable(&path, error)),
        }
    }

    /// Opens a run whose contents a snapshot has. Each block is verified when it is read.
    pub(in crate::disk) fn restored(number: u64, path: PathBuf, contents: RunContents) -> Result<Self> {
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (len, file) = opened.map_err(|error| unavailable(&path, error))?;
        Ok(Self::new(number, path, file, len, contents))
    }

    /// What the run has in memory.
    pub(in crate::disk) fn contents(&self) -> &RunContents {
        &self.contents
    }

    /// The path of the file.
    pub(in crate::disk) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub(in crate::disk) fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether another program removed the file.
    pub(in crate::disk) fn is_removed(&self) -> bool {
        self.file.is_removed()
    }

    /// Number of rows with a value, valid or dead. Tombstones are not counted.
    pub(in crate::disk) fn values(&self) -> u64 {
        self.contents.values
    }

    /// Bytes that an eviction of the run frees. Pointers into segments and tombstones are copied
    /// always.
    pub(in crate::disk) fn droppable(&self) -> u64 {
        self.len.saturating_sub(self.contents.kept_bytes)
    }

    /// Returns whether the run may have a row with this hash.
    pub(in crate::disk) fn may_hold(&self, hash: u64) -> bool {
        self.contents.filter.may_hold(hash)
    }

    /// Finds a row by its key and its hash.
    pub(in crate::disk) fn find(&self, row: &[u8], hash: u64) -> Result<Option<Found>> {
        if !self.may_hold(hash) {
            return Ok(None);
        }
        let index = &self.contents.index;
        let Some(at) = index.block_of(row) else { return Ok(None) };
        let bytes = self.block(at)?;
        for (ordinal, (found, value)) in (index.ordinal(at)..).zip(Rows::new(&bytes, HEAD_LEN)) {
            match found.cmp(row) {
                Order::Less => {}
                Order::Equal => return Ok(Some(Found { ordinal, value: value.into() })),
                Order::Greater => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Marks a row as read.
    pub(in crate::disk) fn mark_read(&self, ordinal: u32) {
        self.read.set(ordinal);
    }

    /// Number of rows that were read since they were written here.
    pub(in crate::disk) fn rows_read(&self) -> u64 {
        self.read.count()
    }

    /// Returns whether a row was read since it was written here.
    pub(in crate::disk) fn was_read(&self, ordinal: u32) -> bool {
        self.read.has(ordinal)
    }

    /// Stops counting a row as valid. The caller holds its stripe lock.
    pub(in crate::disk) fn leave(&self, ordinal: u32, row: &[u8], value: &[u8]) {
        self.counts.subtract(row, value);
        if let Some(copied) = self.copied.read().as_ref().filter(|copied| copied.rows.has(ordinal)) {
            copied.counts.subtract(row, value);
        }
    }

    /// Begins to track the rows that are copied to another run.
    ///
    /// Replaces the counts of an earlier attempt. A thread that still decrements those does no
    /// harm.
    pub(in crate::disk) fn track_copies(&self) {
        let rows = Bitmap::new(self.contents.rows as usize);
        *self.copied.write() = Some(Copied { rows, counts: Counts::default() });
    }

    /// Records that a row was copied to another run. The caller holds its stripe lock.
    pub(in crate::disk) fn mark_copied(&self, ordinal: u32, row: &[u8], value: &[u8]) {
        if let Some(copied) = self.copied.read().as_ref() {
            copied.rows.set(ordinal);
            copied.counts.add(row, value);
        }
    }

    /// Counts the copied rows that are still valid.
    pub(in crate::disk) fn live_copies(&self) -> Counts {
        let counts = Counts::default();
        self.copied.read().iter().for_each(|copied| counts.add_all(&copied.counts));
        counts
    }

    /// Reads a block, including its head.
    fn block(&self, at: usize) -> Result<Vec<u8>> {
        let (offset, end) = self.contents.index.range(at);
        let mut bytes = vec![0; end.saturating_sub(offset) as usize];
        self.file.read_exact_at(&mut bytes, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(),
            _ => error.into(),
        })?;
        match bytes.split_first_chunk() {
            Some((head, rows)) if Head::parse(head).fits(rows, self.number, offset) => Ok(bytes),
            _ => Err(self.damaged()),
        }
    }

    fn damaged(&self) -> Error {
        Error::new(ErrorKind::Corrupt, format!("{}: the sorted run is damaged", self.path.display()))
    }
}

/// Reads a file from beginning to end. `None` if it is not a complete run of that number.
fn read(file: &File, number: u64) -> io::Result<Option<(RunIndex, u64)>> {
    let len = file.metadata()?.len();
    let mut file = BufReader::with_capacity(256 << 10, file);
    let mut found = [0; START_LEN];
    file.read_exact(&mut found)?;
    let mut contents = RunIndex::default();
    let mut offset = START_LEN as u64;
    let mut rows = Vec::new();
    while found == start(number) {
        let mut head = [0; HEAD_LEN];
        file.read_exact(&mut head)?;
        let head = Head::parse(&head);
        let end = offset + HEAD_LEN as u64 + u64::from(head.len);
        if head.len == 0 {
            let whole = head.ends(contents.rows(), number, offset) && end == len;
            contents.index.end(offset);
            return Ok(whole.then_some((contents, len)));
        }
        if end > len {
            return Ok(None);
        }
        rows.resize(head.len as usize, 0);
        file.read_exact(&mut rows)?;
        if !head.fits(&rows, number, offset) {
            return Ok(None);
        }
        Rows::new(&rows, 0).for_each(|(row, value)| contents.add(row, value, offset));
        offset = end;
    }
    Ok(None)
}

/// Iterates over the rows of a run in key order.
pub(in crate::disk) struct Cursor {
    run: Arc<SortedRun>,
    next: usize,
    block: Vec<u8>,
    at: usize,
    ordinal: u32,
}

impl Cursor {
    /// Begins with the first row.
    pub(in crate::disk) fn new(run: Arc<SortedRun>) -> Self {
        Self { run, next: 0, block: Vec::new(), at: 0, ordinal: 0 }
    }

    /// The run.
    pub(in crate::disk) fn run(&self) -> &Arc<SortedRun> {
        &self.run
    }

    /// The next row, with its value and its position.
    pub(in crate::disk) fn next(&mut self) -> Result<Option<(IVec, Found)>> {
        loop {
            let mut rows = Rows::new(&self.block, self.at);
            if let Some((row, value)) = rows.next() {
                let found = Found { ordinal: self.ordinal, value: value.into() };
                let row = IVec::from(row);
                self.at = rows.at();
                self.ordinal += 1;
                return Ok(Some((row, found)));
            }
            if self.next == self.run.contents.index.blocks() {
                return Ok(None);
            }
            self.block = self.run.block(self.next)?;
            self.next += 1;
            self.at = HEAD_LEN;
        }
    }
}

/// Returns whether a block is large enough to be ended.
pub(in crate::disk) fn is_full(block: &[u8]) -> bool {
    block.len() >= 4 << 10
}

/// The last bytes of a run.
pub(in crate::disk) fn end(rows: u64, number: u64, offset: u64) -> [u8; HEAD_LEN] {
    block::last(rows, number, offset)
}
