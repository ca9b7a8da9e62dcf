//! Writes a sorted run, a few rows with each `put`.
//!
//! The rows come from the frozen memtable and from sorted runs that are to be replaced. These are
//! still read meanwhile, and their rows may be overwritten or removed. So a copied row may be dead
//! when the new run takes its place. That does no harm, because the newer row is found first.
//!
//! # Invariants
//! - Every row of the frozen memtable that is valid when the new run takes its place was copied.
//! - A tombstone is copied while an older place may have the row. A run that is to be replaced
//!   counts as such a place, since it may outlive the process.
//! - A tombstone is written for an evicted row too, while an older run may have the row.
//! - Pointers into segments are always copied. Otherwise the frames would be lost.

use std::sync::Arc;

use larder_core::Result;
use sled::IVec;

use crate::disk::row::{REMOVED, Row};
use crate::disk::run::sorted_run::{Cursor, Found, SortedRun};
use crate::disk::run::writer::RunWriter;
use crate::disk::space::eviction::Survivors;
use crate::disk::store::Store;
use crate::disk::table::memtable::{Memtable, Rows};

/// At least this many bytes of a replaced run may be copied, even if that is more than half of it.
/// So a small remainder of a run, all of it read, is not halved again and again.
const SMALL_BYTES: u64 = 64 << 10;

/// A sorted run that is being written.
pub(in crate::disk) struct CompactionJob {
    writer: RunWriter,
    frozen: Option<Peeked<Rows, IVec>>,
    sources: Vec<ReplacedRun>,
}

/// A sorted run that is to be replaced.
struct ReplacedRun {
    rows: Peeked<Cursor, Found>,
    survivors: Survivors,
    allowance: u64,
}

/// An iterator over rows, with its next row.
struct Peeked<R, V> {
    rows: R,
    head: Option<(IVec, V)>,
}

impl ReplacedRun {
    fn begin(run: &Arc<SortedRun>, survivors: Survivors, room: u64) -> Result<Self> {
        run.track_copies();
        let half = (run.droppable() / 2).min(room).max(SMALL_BYTES);
        let allowance = if survivors == Survivors::Live { u64::MAX } else { half };
        let mut rows = Cursor::new(Arc::clone(run));
        let head = rows.next()?;
        Ok(Self { rows: Peeked { rows, head }, survivors, allowance })
    }

    fn run(&self) -> &Arc<SortedRun> {
        self.rows.rows.run()
    }
}

/// The sources that a finished sorted run replaces.
pub(in crate::disk) struct Sources {
    /// Whether the run has the rows of the frozen memtable.
    pub(in crate::disk) frozen: bool,
    /// The sorted runs to delete, lowest number first. In the other order, a crash could leave an
    /// old run that shows values overwritten in a newer one.
    pub(in crate::disk) runs: Vec<Arc<SortedRun>>,
}

impl CompactionJob {
    /// Begins a run. The writer has the number of the source that the run replaces.
    pub(in crate::disk) fn begin(
        writer: RunWriter,
        frozen: Option<&Memtable>,
        replaced: &[(&Arc<SortedRun>, Survivors)],
        room: u64,
    ) -> Result<Self> {
        let ahead = |frozen: &Memtable| {
            let mut rows = frozen.rows();
            let head = rows.next();
            Peeked { rows, head }
        };
        let frozen = frozen.map(ahead);
        let room = room / replaced.len().max(1) as u64;
        let sources = replaced.iter().map(|(run, survivors)| ReplacedRun::begin(run, *survivors, room));
        Ok(Self { writer, frozen, sources: sources.collect::<Result<_>>()? })
    }

    /// Processes up to `rows` rows. Returns whether the end was reached.
    pub(in crate::disk) fn step(&mut self, store: &Store, rows: u64) -> Result<bool> {
        for _ in 0..rows {
            if !self.advance(store)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn advance(&mut self, store: &Store) -> Result<bool> {
        let frozen = self.frozen.as_ref().and_then(|ahead| ahead.head.as_ref()).map(|(row, _)| row);
        let sources = self.sources.iter().enumerate();
        let source = sources.filter_map(|(at, source)| Some((&source.rows.head.as_ref()?.0, at))).min();
        match (frozen, source) {
            (None, None) => return Ok(false),
            (Some(row), Some((other, at))) if row > other => self.advance_run(store, at)?,
            (None, Some((_, at))) => self.advance_run(store, at)?,
            (Some(_), _) => self.advance_frozen(store)?,
        }
        Ok(true)
    }

    fn advance_frozen(&mut self, store: &Store) -> Result<()> {
        let Some(ahead) = &mut self.frozen else { return Ok(()) };
        let next = ahead.rows.next();
        let Some((row, value)) = std::mem::replace(&mut ahead.head, next) else { return Ok(()) };
        let tables = &store.tables;
        let is_needed = &*value != REMOVED || tables.runs_may_hold(&row, |_| true);
        if is_needed && !tables.newest.contains(&row) { self.writer.push(&row, &value) } else { Ok(()) }
    }

    fn advance_run(&mut self, store: &Store, at: usize) -> Result<()> {
        let Some(source) = self.sources.get_mut(at) else { return Ok(()) };
        let next = source.rows.rows.next()?;
        let Some((row, found)) = std::mem::replace(&mut source.rows.head, next) else { return Ok(()) };
        let run = Arc::clone(source.run());
        if &*found.value == REMOVED {
            return self.copy_tombstone(store, &run, &row);
        }
        let bytes = (row.len() + found.value.len()) as u64;
        let is_pointer = Row::pointer(&found.value).is_some();
        let wanted = source.survivors == Survivors::Live || run.was_read(found.ordinal);
        if !is_pointer && (!wanted || bytes > source.allowance) {
            return self.copy_tombstone(store, &run, &row);
        }
        let _stripe = store.lock(&row);
        if store.tables.is_shadowed(&row, run.number)? {
            return Ok(());
        }
        self.writer.push(&row, &found.value)?;
        run.mark_copied(found.ordinal, &row, &found.value);
        if !is_pointer {
            source.allowance = source.allowance.saturating_sub(bytes);
        }
        Ok(())
    }

    /// Writes a tombstone for a row, if an older run may have the row.
    fn copy_tombstone(&mut self, store: &Store, run: &SortedRun, row: &[u8]) -> Result<()> {
        let tables = &store.tables;
        let is_needed = tables.runs_may_hold(row, |other| other.number < run.number);
        if is_needed && !tables.is_shadowed(row, run.number)? {
            self.writer.push(row, REMOVED)
        } else {
            Ok(())
        }
    }

    /// Closes the sources and returns the writer, ready to be finished.
    pub(in crate::disk) fn end(self) -> (RunWriter, Sources) {
        let mut runs: Vec<_> = self.sources.iter().map(|source| Arc::clone(source.run())).collect();
        runs.sort_unstable_by_key(|run| run.number);
        (self.writer, Sources { frozen: self.frozen.is_some(), runs })
    }
}
