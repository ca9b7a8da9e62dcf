//! The index of a sorted run in memory.

use crate::disk::row::{REMOVED, Row};
use crate::disk::run::filter::Filter;
use crate::disk::run::{block, filter};
use crate::disk::snapshot::words::{Reader, Writer};

/// Index data that is collected row by row, while a run is written or read.
#[derive(Default)]
pub(in crate::disk) struct RunIndex {
    /// The position of each block.
    pub(in crate::disk) index: Index,
    /// The hash of each row.
    pub(in crate::disk) hashes: Vec<u64>,
    /// Bytes of the rows that an eviction always copies: pointers into segments, and tombstones.
    pub(in crate::disk) kept_bytes: u64,
    /// Number of rows with a value.
    pub(in crate::disk) values: u64,
}

/// What an open run has in memory.
pub(in crate::disk) struct RunContents {
    /// The position of each block.
    pub(in crate::disk) index: Index,
    /// The filter of all rows.
    pub(in crate::disk) filter: Filter,
    /// Number of rows.
    pub(in crate::disk) rows: u64,
    /// Number of rows with a value.
    pub(in crate::disk) values: u64,
    /// Bytes of the rows that an eviction always copies.
    pub(in crate::disk) kept_bytes: u64,
}

impl RunContents {
    /// Writes the contents to a snapshot.
    pub(in crate::disk) fn encode(&self, to: &mut Writer) {
        [self.rows, self.values, self.kept_bytes].into_iter().for_each(|word| to.word(word));
        self.filter.encode(to);
        self.index.encode(to);
    }

    /// Reads the contents from a snapshot. `None` if they are not those of a run.
    pub(in crate::disk) fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let (rows, values, kept_bytes) = (from.word()?, from.word()?, from.word()?);
        let (filter, index) = (Filter::decode(from)?, Index::decode(from)?);
        Some(Self { index, filter, rows, values, kept_bytes })
    }
}

impl RunIndex {
    /// Ends the collection.
    pub(in crate::disk) fn finish(self) -> RunContents {
        let Self { index, hashes, kept_bytes, values } = self;
        let (filter, rows) = (Filter::of(&hashes), hashes.len() as u64);
        RunContents { index, filter, rows, values, kept_bytes }
    }

    /// Number of rows.
    pub(in crate::disk) fn rows(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// Adds the next row, which is in the block at `offset`.
    pub(in crate::disk) fn add(&mut self, row: &[u8], value: &[u8], offset: u64) {
        if self.index.blocks.last().is_none_or(|block| block.offset != offset) {
            self.index.begin(row, offset, self.hashes.len() as u32);
        }
        let is_removed = value == REMOVED;
        self.values += u64::from(!is_removed);
        if is_removed || Row::pointer(value).is_some() {
            self.kept_bytes += block::row_len(row, value);
        }
        self.hashes.push(filter::hash(row));
    }
}

/// The first row key of each block: about 30 bytes for every 4 KiB.
#[derive(Default)]
pub(in crate::disk) struct Index {
    /// For each block, the length of its first row key and the key.
    firsts: Vec<u8>,
    blocks: Vec<Block>,
    end: u64,
}

struct Block {
    offset: u64,
    first: u32,
    ordinal: u32,
}

impl Index {
    fn begin(&mut self, row: &[u8], offset: u64, ordinal: u32) {
        self.blocks.push(Block { offset, first: self.firsts.len() as u32, ordinal });
        self.firsts.push(row.len() as u8);
        self.firsts.extend_from_slice(row);
    }

    fn encode(&self, to: &mut Writer) {
        to.word(self.end);
        to.word(self.blocks.len() as u64);
        for Block { offset, first, ordinal } in &self.blocks {
            to.word(*offset);
            to.word(u64::from(*first) << 32 | u64::from(*ordinal));
        }
        to.bytes(&self.firsts);
    }

    /// Blocks that do not follow one another are not an index.
    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let end = from.word()?;
        let count = from.word()?;
        let mut blocks: Vec<Block> = Vec::new();
        for _ in 0..count {
            let (offset, word) = (from.word()?, from.word()?);
            if blocks.last().is_some_and(|last| last.offset >= offset) || offset >= end {
                return None;
            }
            blocks.push(Block { offset, first: (word >> 32) as u32, ordinal: word as u32 });
        }
        Some(Self { firsts: from.bytes()?.to_vec(), blocks, end })
    }

    /// Sets where the last block ends.
    pub(in crate::disk) fn end(&mut self, offset: u64) {
        self.end = offset;
    }

    /// Number of blocks.
    pub(in crate::disk) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The only block that may have the row.
    pub(in crate::disk) fn block_of(&self, row: &[u8]) -> Option<usize> {
        self.blocks.partition_point(|block| self.first(block) <= row).checked_sub(1)
    }

    /// Position of the first row of a block among all rows.
    pub(in crate::disk) fn ordinal(&self, at: usize) -> u32 {
        self.blocks.get(at).map_or(0, |block| block.ordinal)
    }

    /// Where a block begins and ends.
    pub(in crate::disk) fn range(&self, at: usize) -> (u64, u64) {
        let offset = |at: usize| self.blocks.get(at).map_or(self.end, |block| block.offset);
        (offset(at), offset(at + 1))
    }

    fn first(&self, block: &Block) -> &[u8] {
        let rest = self.firsts.get(block.first as usize..).unwrap_or_default();
        let Some((len, rest)) = rest.split_first() else { return &[] };
        rest.get(..usize::from(*len)).unwrap_or_default()
    }
}
