//! Opening what an earlier process left.
//!
//! Costs a pass over every row: entries are counted, and each segment learns
//! which bytes of it are named. A row whose record is not there goes, a
//! segment that no row names goes.
//!
//! A newest generation that cannot be read takes the older one with it: the
//! older alone would bring overwritten values back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use larder_core::{Error, ErrorKind, Result};
use sled::IVec;

use super::databases::Databases;
use super::generation::{Generation, OpenError};
use super::layout::Layout;
use super::row::Row;
use super::segments::Segments;
use super::store::Store;
use crate::space::Share;

/// Opens the store in `layout`. The share is charged with all it takes.
pub(super) fn open(layout: &Layout, space: &Arc<Share>, cache_bytes: u64) -> Result<Store> {
    let segments = Segments::open(layout.clone(), Arc::clone(space))?;
    let databases = match open_databases(layout, cache_bytes)? {
        Some(databases) => match count(databases, &segments)? {
            Counted::Whole(databases) => databases,
            Counted::Torn(databases) => start_over(layout, databases, cache_bytes)?,
        },
        None => fresh(layout, cache_bytes)?,
    };
    segments.sweep();
    space.grow(databases.bytes());
    Ok(Store::new(databases, segments))
}

/// The newest two generations; `None` when there is none that can be read.
fn open_databases(layout: &Layout, cache_bytes: u64) -> Result<Option<Databases>> {
    let mut numbers: Vec<u64> = layout.generations()?.into_iter().map(|(number, _)| number).collect();
    let Some(newest) = numbers.pop() else { return Ok(None) };
    let older = numbers.pop();
    numbers.into_iter().try_for_each(|number| layout.discard(number))?;
    let older = older.map(|number| open_generation(layout, number, cache_bytes)).transpose()?.flatten();
    match open_generation(layout, newest, cache_bytes)? {
        Some(newest) => Ok(Some(Databases { newest, older })),
        None => {
            older.map_or(Ok(()), |older| drop_generation(layout, older))?;
            Ok(None)
        }
    }
}

/// A generation; `None` when it was torn and is set aside now.
fn open_generation(layout: &Layout, number: u64, cache_bytes: u64) -> Result<Option<Generation>> {
    match Generation::open(layout, number, cache_bytes) {
        Ok(generation) => Ok(Some(generation)),
        Err(OpenError::Failed(error)) => Err(error),
        Err(OpenError::Torn(reason)) => {
            let path = layout.set_aside(number)?;
            tracing::warn!(path = %path.display(), %reason, "a torn database is set aside; its entries are lost");
            Ok(None)
        }
    }
}

/// An empty generation with a number above all there are. Where that fails it
/// leaves none behind, which would count as the newest at the next open.
pub(super) fn next_generation(layout: &Layout, number: u64, cache_bytes: u64) -> Result<Generation> {
    Generation::open(layout, number, cache_bytes).map_err(|error| {
        if let Err(error) = layout.discard(number) {
            tracing::warn!(%error, "cannot delete a database that was not finished");
        }
        match error {
            OpenError::Failed(error) => error,
            OpenError::Torn(reason) => Error::new(ErrorKind::Unavailable, reason),
        }
    })
}

fn fresh(layout: &Layout, cache_bytes: u64) -> Result<Databases> {
    let last = layout.generations()?.last().map_or(0, |(number, _)| *number);
    Ok(Databases { newest: next_generation(layout, last + 1, cache_bytes)?, older: None })
}

enum Counted {
    Whole(Databases),
    Torn(Databases),
}

fn count(databases: Databases, segments: &Segments) -> Result<Counted> {
    match count_rows(&databases, segments) {
        Ok(()) => Ok(Counted::Whole(databases)),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::warn!(%error, "a torn database");
            Ok(Counted::Torn(databases))
        }
        Err(error) => Err(error),
    }
}

fn count_rows(databases: &Databases, segments: &Segments) -> Result<()> {
    let mut dangling: Vec<IVec> = Vec::new();
    let mut count = |generation: &Generation, row: IVec, value: IVec| {
        generation.live.fetch_add(1, Ordering::AcqRel);
        let whole = match Row::parse(&value) {
            Some(Row::Inline(_)) => true,
            Some(Row::Record(pointer)) => segments.adopt(&row, pointer),
            None => false,
        };
        if !whole {
            dangling.push(row);
        }
    };
    if let Some(older) = &databases.older {
        older.each(|row, value| {
            if !databases.newest.contains(&row)? {
                count(older, row, value);
            }
            Ok(())
        })?;
    }
    databases.newest.each(|row, value| {
        count(&databases.newest, row, value);
        Ok(())
    })?;
    dangling.iter().try_for_each(|row| databases.remove(row).map(|_| ()))
}

/// Sets torn databases aside and begins an empty one.
fn start_over(layout: &Layout, torn: Databases, cache_bytes: u64) -> Result<Databases> {
    let number = torn.newest.number;
    if let Some(older) = torn.older {
        drop_generation(layout, older)?;
    }
    torn.newest.close();
    let path = layout.set_aside(number)?;
    tracing::warn!(path = %path.display(), "a torn database is set aside; its entries are lost");
    Ok(Databases { newest: next_generation(layout, number + 1, cache_bytes)?, older: None })
}

/// Closes a generation and deletes it.
pub(super) fn drop_generation(layout: &Layout, generation: Generation) -> Result<()> {
    let number = generation.number;
    generation.close();
    layout.discard(number)
}
