//! A pack: rows of a database that takes no more writes, sorted and without gaps.
//!
//! ```text
//! 4   LRDP
//! 1   version, 1
//! 3   0
//! 8   the number of the pack, that of its name
//! blocks of rows in ascending order, each of about 4 KiB, then the last one
//! ```
//!
//! Written once, by a [`RunWriter`](crate::disk::run::writer::RunWriter), then renamed into place: so a
//! pack is whole or damaged. In memory it has the first row of each block, a filter
//! over all rows, and a bit a row: whether it was read since it was written here.

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
use crate::disk::run::filter::Filter;
use crate::disk::run::index::{Index, RunIndex};
use crate::disk::segment::file::ReadAt;

const MAGIC: &[u8; 4] = b"LRDP";
const VERSION: u8 = 1;
pub(in crate::disk) const START_LEN: usize = 16;

/// The first bytes of pack `number`.
pub(in crate::disk) fn start(number: u64) -> [u8; START_LEN] {
    let mut start = [0; START_LEN];
    start[..4].copy_from_slice(MAGIC);
    start[4] = VERSION;
    start[8..].copy_from_slice(&number.to_le_bytes());
    start
}

/// A file of sorted rows.
pub(in crate::disk) struct SortedRun {
    /// Later packs have higher numbers: that of the database whose rows these were.
    pub(in crate::disk) number: u64,
    /// Its valid rows.
    pub(in crate::disk) counts: Counts,
    /// No later journal has a record of a row that is valid here.
    pub(in crate::disk) journal: u64,
    /// Whether it is what was left of the pack of this number.
    pub(in crate::disk) is_rest: bool,
    path: PathBuf,
    file: ReadAt,
    len: u64,
    rows: u64,
    values: u64,
    kept_bytes: u64,
    index: Index,
    filter: Filter,
    read: Bitmap,
    carrying: RwLock<Option<Carrying>>,
}

/// What of a pack is in another one already, that will stand in for it.
struct Carrying {
    rows: Bitmap,
    counts: Counts,
}

/// A row that was found.
pub(in crate::disk) struct Found {
    /// Its place among the rows of the pack.
    pub(in crate::disk) ordinal: u32,
    /// Its value, or that it was removed.
    pub(in crate::disk) value: IVec,
}

impl SortedRun {
    /// A pack that was just written.
    pub(in crate::disk) fn new(number: u64, path: PathBuf, file: File, len: u64, contents: RunIndex) -> Self {
        let RunIndex { index, hashes, kept_bytes, values } = contents;
        Self {
            number,
            counts: Counts::default(),
            journal: 0,
            is_rest: false,
            path,
            file: ReadAt::new(file),
            len,
            rows: hashes.len() as u64,
            values,
            kept_bytes,
            index,
            filter: Filter::of(&hashes),
            read: Bitmap::new(hashes.len()),
            carrying: RwLock::new(None),
        }
    }

    /// Opens the file of an earlier pack, and reads all of it; `None` when it is damaged.
    pub(in crate::disk) fn open(number: u64, path: PathBuf) -> Result<Option<Self>> {
        let opened = File::open(&path).and_then(|file| Ok((read(&file, number)?, file)));
        match opened {
            Ok((Some((contents, len)), file)) => Ok(Some(Self::new(number, path, file, len, contents))),
            Ok((None, _)) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(unavailable(&path, error)),
        }
    }

    /// Where the file lies.
    pub(in crate::disk) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub(in crate::disk) fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file was removed by others.
    pub(in crate::disk) fn is_removed(&self) -> bool {
        self.file.is_removed()
    }

    /// Rows that have a value, valid or not.
    pub(in crate::disk) fn values(&self) -> u64 {
        self.values
    }

    /// What dropping it frees: all but pointers into segments and removals.
    pub(in crate::disk) fn droppable(&self) -> u64 {
        self.len.saturating_sub(self.kept_bytes)
    }

    /// Whether it may have a row with this hash.
    pub(in crate::disk) fn may_hold(&self, hash: u64) -> bool {
        self.filter.may_hold(hash)
    }

    /// The row, which has this hash.
    pub(in crate::disk) fn find(&self, row: &[u8], hash: u64) -> Result<Option<Found>> {
        if !self.filter.may_hold(hash) {
            return Ok(None);
        }
        let Some(at) = self.index.block_of(row) else { return Ok(None) };
        let bytes = self.block(at)?;
        for (ordinal, (found, value)) in (self.index.ordinal(at)..).zip(Rows::new(&bytes, HEAD_LEN)) {
            match found.cmp(row) {
                Order::Less => {}
                Order::Equal => return Ok(Some(Found { ordinal, value: value.into() })),
                Order::Greater => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Remembers that a row was read.
    pub(in crate::disk) fn mark(&self, ordinal: u32) {
        self.read.set(ordinal);
    }

    /// How many rows were read since they were written here.
    pub(in crate::disk) fn marked(&self) -> u64 {
        self.read.count()
    }

    /// Whether a row was read since it was written here.
    pub(in crate::disk) fn was_read(&self, ordinal: u32) -> bool {
        self.read.has(ordinal)
    }

    /// Counts a row as valid no more. The caller holds its stripe.
    pub(in crate::disk) fn leave(&self, ordinal: u32, row: &[u8], value: &[u8]) {
        self.counts.leave(row, value);
        if let Some(carrying) = self.carrying.read().as_ref().filter(|carrying| carrying.rows.has(ordinal)) {
            carrying.counts.leave(row, value);
        }
    }

    /// Nothing of it is in another one. What an earlier attempt had counted is
    /// forgotten whole: who is counting it down meanwhile harms nobody.
    pub(in crate::disk) fn begin_carrying(&self) {
        let rows = Bitmap::new(self.rows as usize);
        *self.carrying.write() = Some(Carrying { rows, counts: Counts::default() });
    }

    /// A row is in another one now. The caller holds its stripe.
    pub(in crate::disk) fn carry(&self, ordinal: u32, row: &[u8], value: &[u8]) {
        if let Some(carrying) = self.carrying.read().as_ref() {
            carrying.rows.set(ordinal);
            carrying.counts.enter(row, value);
        }
    }

    /// What is in another one and still valid.
    pub(in crate::disk) fn carried(&self) -> Counts {
        let carried = Counts::default();
        self.carrying.read().iter().for_each(|carrying| carried.absorb(&carrying.counts));
        carried
    }

    /// A block with its head.
    fn block(&self, at: usize) -> Result<Vec<u8>> {
        let (offset, end) = self.index.range(at);
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
        Error::new(ErrorKind::Corrupt, format!("{}: a pack is damaged", self.path.display()))
    }
}

/// Reads a file from its beginning to its end; `None` when it is not a whole
/// pack of that number.
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

/// Goes over the rows of a pack in their order.
pub(in crate::disk) struct Cursor {
    pack: Arc<SortedRun>,
    next: usize,
    block: Vec<u8>,
    at: usize,
    ordinal: u32,
}

impl Cursor {
    /// Begins with the first row.
    pub(in crate::disk) fn new(pack: Arc<SortedRun>) -> Self {
        Self { pack, next: 0, block: Vec::new(), at: 0, ordinal: 0 }
    }

    /// The pack.
    pub(in crate::disk) fn pack(&self) -> &Arc<SortedRun> {
        &self.pack
    }

    /// The next row, its value and its place.
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
            if self.next == self.pack.index.blocks() {
                return Ok(None);
            }
            self.block = self.pack.block(self.next)?;
            self.next += 1;
            self.at = HEAD_LEN;
        }
    }
}

/// Where a block ends that has enough in it.
pub(in crate::disk) fn is_full(block: &[u8]) -> bool {
    block.len() >= 4 << 10
}

/// The last bytes of a pack.
pub(in crate::disk) fn end(rows: u64, number: u64, offset: u64) -> [u8; HEAD_LEN] {
    block::last(rows, number, offset)
}
