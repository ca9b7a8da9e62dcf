//! All rows of all places in one order, each from the first place that has it.

use std::sync::Arc;

use larder_core::Result;
use sled::IVec;

use crate::disk::db::database::Rows;
use crate::disk::db::databases::Databases;
use crate::disk::run::sorted_run::Cursor;

/// Goes over everything, a row at a time.
pub(in crate::disk) struct Merge {
    places: Vec<Ahead>,
}

/// A place and the row of it that comes next.
struct Ahead {
    rows: Source,
    head: Option<(IVec, IVec)>,
}

enum Source {
    Database(Box<Rows>),
    SortedRun(Cursor),
}

impl Ahead {
    fn of(rows: Source) -> Result<Self> {
        let mut ahead = Self { rows, head: None };
        ahead.advance()?;
        Ok(ahead)
    }

    fn advance(&mut self) -> Result<Option<(IVec, IVec)>> {
        let next = match &mut self.rows {
            Source::Database(rows) => rows.next()?,
            Source::SortedRun(cursor) => cursor.next()?.map(|(row, found)| (row, found.value)),
        };
        Ok(std::mem::replace(&mut self.head, next))
    }
}

impl Merge {
    /// Begins with the first row of all.
    pub(in crate::disk) fn new(databases: &Databases) -> Result<Self> {
        let generations =
            databases.each_generation().map(|generation| Source::Database(Box::new(generation.rows())));
        let packs = databases.packs.iter().map(|pack| Source::SortedRun(Cursor::new(Arc::clone(pack))));
        Ok(Self { places: generations.chain(packs).map(Ahead::of).collect::<Result<_>>()? })
    }

    /// The next row: the number of the place that has it, the row, the value.
    pub(in crate::disk) fn next(&mut self) -> Result<Option<(usize, IVec, IVec)>> {
        let ahead = |place: &Ahead| place.head.as_ref().map(|(row, _)| row.clone());
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
