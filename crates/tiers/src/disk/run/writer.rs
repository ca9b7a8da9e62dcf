//! Writes a sorted run.
//!
//! The file has a temporary name until it is complete. It is deleted if the writer is dropped
//! before.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;

use larder_core::{Durability, Error, ErrorKind, Result};

use crate::disk::layout::{Layout, rounded};
use crate::disk::run::block;
use crate::disk::run::index::RunIndex;
use crate::disk::run::sorted_run::{self, SortedRun};
use crate::disk_budget::BudgetShare;
use crate::private_file;

/// Bytes that are buffered before a write.
const BUFFER_BYTES: usize = 64 << 10;

/// Writes rows, which the caller adds in ascending order.
pub(in crate::disk) struct RunWriter {
    number: u64,
    path: PathBuf,
    finished: PathBuf,
    file: File,
    budget: Arc<BudgetShare>,
    contents: RunIndex,
    block: Vec<u8>,
    buffer: Vec<u8>,
    /// Bytes of all finished blocks.
    len: u64,
    /// Bytes that are counted in the share.
    charged: u64,
}

impl RunWriter {
    /// Begins run `number`.
    pub(in crate::disk) fn create(layout: &Layout, number: u64, budget: &Arc<BudgetShare>) -> Result<Self> {
        let path = layout.draft(number);
        let options = &mut OpenOptions::new();
        let file = private_file::open(options.read(true).write(true).create(true).truncate(true), &path)?;
        let buffer = sorted_run::start(number).to_vec();
        let mut block = Vec::new();
        block::begin(&mut block);
        Ok(Self {
            number,
            path,
            finished: layout.run(number),
            file,
            budget: Arc::clone(budget),
            contents: RunIndex::default(),
            block,
            len: buffer.len() as u64,
            buffer,
            charged: 0,
        })
    }

    /// Adds the next row.
    pub(in crate::disk) fn push(&mut self, row: &[u8], value: &[u8]) -> Result<()> {
        if !block::push(&mut self.block, row, value) {
            return Err(Error::new(ErrorKind::Corrupt, "the row is longer than the format allows"));
        }
        self.contents.add(row, value, self.len);
        if sorted_run::is_full(&self.block) { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<()> {
        block::seal(&mut self.block, self.number, self.len);
        self.len += self.block.len() as u64;
        self.buffer.extend_from_slice(&self.block);
        block::begin(&mut self.block);
        if self.buffer.len() >= BUFFER_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        let charged = rounded(self.len);
        self.budget.grow(charged.saturating_sub(self.charged));
        self.charged = self.charged.max(charged);
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Finishes the run, renames it into place and opens it. `None` if it has no rows.
    ///
    /// Replaces an earlier run of the same number. The caller waits until the directory entry is
    /// durable.
    pub(in crate::disk) fn finish(mut self, durability: Durability) -> Result<Option<SortedRun>> {
        if self.contents.rows() == 0 {
            return Ok(None);
        }
        if self.block.len() > block::HEAD_LEN {
            self.end_block()?;
        }
        let last = sorted_run::end(self.contents.rows(), self.number, self.len);
        self.contents.index.end(self.len);
        self.buffer.extend_from_slice(&last);
        self.len += last.len() as u64;
        self.write()?;
        if durability == Durability::Synced {
            self.file.sync_data()?;
        }
        let file = self.file.try_clone()?;
        fs::rename(&self.path, &self.finished)?;
        self.charged = 0;
        let contents = mem::take(&mut self.contents);
        Ok(Some(SortedRun::new(self.number, self.finished.clone(), file, self.len, contents.finish())))
    }
}

impl Drop for RunWriter {
    fn drop(&mut self) {
        self.budget.shrink(self.charged);
        let _ = fs::remove_file(&self.path);
    }
}
