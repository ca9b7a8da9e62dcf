//! Merges the rows of all memtables and sorted runs in key order. Each row comes from the first
//! place that has it.

use std::sync::Arc;

use larder_core::Result;
use sled::IVec;

use crate::disk::run::sorted_run::Cursor;
use crate::disk::table::memtable::Rows;
use crate::disk::table::tables::Tables;

/// A merging iterator over all rows.
pub(in crate::disk) struct Merge {
    places: Vec<Peeked>,
}

/// A place and its next row.
struct Peeked {
    rows: Source,
    head: Option<(IVec, IVec)>,
}

enum Source {
    Memtable(Rows),
    SortedRun(Cursor),
}

impl Peeked {
    fn of(rows: Source) -> Result<Self> {
        let mut ahead = Self { rows, head: None };
        ahead.advance()?;
        Ok(ahead)
    }

    fn advance(&mut self) -> Result<Option<(IVec, IVec)>> {
        let next = match &mut self.rows {
            Source::Memtable(rows) => rows.next(),
            Source::SortedRun(cursor) => cursor.next()?.map(|(row, found)| (row, found.value)),
        };
        Ok(std::mem::replace(&mut self.head, next))
    }
}

impl Merge {
    /// Begins with the first row.
    pub(in crate::disk) fn new(tables: &Tables) -> Result<Self> {
        let sources = tables.each_memtable().map(|memtable| Source::Memtable(memtable.rows()));
        let runs = tables.runs.iter().map(|run| Source::SortedRun(Cursor::new(Arc::clone(run))));
        Ok(Self { places: sources.chain(runs).map(Peeked::of).collect::<Result<_>>()? })
    }

    /// The next row: the index of the place that has it, its key and its value.
    pub(in crate::disk) fn next(&mut self) -> Result<Option<(usize, IVec, IVec)>> {
        let ahead = |place: &Peeked| place.head.as_ref().map(|(row, _)| row.clone());
        let Some(least) = self.places.iter().filter_map(ahead).min() else { return Ok(None) };
        let mut first = None;
        for (number, place) in self.places.iter_mut().enumerate() {
            if place.head.as_ref().is_some_and(|(row, _)| *row == least) {
                let (row, value) = place.advance()?.unwrap_or_default();
                first.get_or_insert((number, row, value));
            }
        }
        Ok(first)
    }
}
