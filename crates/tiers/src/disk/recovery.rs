//! Opening what an earlier process left.
//!
//! Costs a pass over every row: entries are counted, and each segment learns
//! which bytes of it are named. A row whose record is not there goes, a
//! segment that no row names goes.
//!
//! What cannot be read takes everything older with it: that alone would bring
//! overwritten values back.

use std::sync::Arc;

use larder_core::{Durability, Error, ErrorKind, Result};
use sled::IVec;

use crate::boot_marker::{Marker, Past};
use crate::disk::counts::Counts;
use crate::disk::db::database::{Generation, OpenError};
use crate::disk::db::databases::Databases;
use crate::disk::journal::record::Tally;
use crate::disk::journal::replay::Replay;
use crate::disk::journal::writer::Journal;
use crate::disk::layout::{self, Layout};
use crate::disk::row::Row;
use crate::disk::run::sorted_run::SortedRun;
use crate::disk::segment::files::Segments;
use crate::disk::store::Store;
use crate::disk_budget::Share;
use crate::durable_sync::sync_tree;

/// What a store stands on.
pub(in crate::disk) struct Ground<'a> {
    /// The directory.
    pub(in crate::disk) layout: &'a Layout,
    /// What is charged with all it takes.
    pub(in crate::disk) space: &'a Arc<Share>,
    /// How much of a database sled may hold in memory.
    pub(in crate::disk) cache_bytes: u64,
    /// The marker of the directory.
    pub(in crate::disk) marker: &'a Arc<Marker>,
}

/// Opens the store, as far as its past allows it to be trusted. The share is
/// charged with all it takes.
pub(in crate::disk) fn open(ground: &Ground<'_>, past: Past) -> Result<Store> {
    let (layout, cache_bytes) = (ground.layout, ground.cache_bytes);
    let replay = trusted(ground, past)?;
    let segments = Segments::open(layout.clone(), Arc::clone(ground.space))?;
    let (databases, tally) = match open_databases(layout, replay.cleared, cache_bytes)? {
        Some(databases) => (databases, replay.tally),
        None => (fresh(ground)?, None),
    };
    let counted = count(&databases, &replay, &segments).and_then(|tallied| match tally {
        Some(tally) if tally != tallied => Err(Error::new(ErrorKind::Corrupt, "rows are missing or changed")),
        _ => Ok(()),
    });
    let databases = match counted {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::warn!(target: "larder", %error, "a torn database");
            let databases = start_over(ground, databases)?;
            count(&databases, &replay, &segments)?;
            databases
        }
        counted => counted.map(|()| databases)?,
    };
    segments.sweep();
    let packed: u64 = databases.packs.iter().map(|pack| layout::rounded(pack.len())).sum();
    ground.space.grow(databases.bytes() + packed + layout::FIXED);
    let store = Store::new(databases, segments, Arc::new(Journal::after(replay.last, ground)?));
    if !replay.is_empty()
        && let Err(error) = store.checkpoint()
    {
        tracing::warn!(target: "larder", %error, "the journal of an earlier process stays for now");
    }
    Ok(store)
}

/// Deletes what is not to be trusted, and says what the journals say of the
/// rest. From here on the directory counts as in use.
fn trusted(ground: &Ground<'_>, past: Past) -> Result<Replay> {
    let layout = ground.layout;
    let replay = match past {
        Past::Unknown => None,
        past => Replay::read(layout, past == Past::Downed)?,
    };
    if replay.is_none() {
        give_up(layout, past)?;
    }
    let failed = |error| layout::unavailable(layout.dir(), error);
    if past == Past::Killed && ground.marker.durability() == Durability::Synced {
        sync_tree(layout.dir()).map_err(failed)?;
    }
    ground.marker.open().map_err(failed)?;
    Ok(replay.unwrap_or_default())
}

fn give_up(layout: &Layout, past: Past) -> Result<()> {
    if !layout.is_empty()? {
        let path = layout.dir().display();
        match past {
            Past::Unknown => {
                tracing::warn!(target: "larder", %path, "the machine went down, or a removal could not be written down, while this was open: it starts empty")
            }
            _ => {
                tracing::warn!(target: "larder", %path, "the journal is damaged: the disk tier starts empty")
            }
        }
    }
    layout.discard_all()
}

/// The newest two generations and the packs; `None` when the newest cannot be
/// read. Those below `cleared` are dropped.
fn open_databases(layout: &Layout, cleared: u64, cache_bytes: u64) -> Result<Option<Databases>> {
    layout.discard_below(cleared)?;
    let numbers = layout.generations()?.into_iter().map(|(number, _)| number);
    let (mut numbers, begun): (Vec<u64>, Vec<u64>) = numbers.partition(|number| layout.was_open(*number));
    begun.into_iter().try_for_each(|number| layout.discard(number))?;
    let open =
        |number: Option<u64>| number.map_or(Ok(None), |number| open_generation(layout, number, cache_bytes));
    let mut newest = open(numbers.pop())?;
    let packed = layout.packs()?.last().map_or(0, |(number, _)| *number);
    let mut unpacked = numbers.split_off(numbers.partition_point(|number| *number <= packed));
    if unpacked.len() > 1
        && let Some(fresh) = newest.take_if(|newest| newest.is_empty())
    {
        // Of a clear that was not written down any more.
        drop_generation(layout, fresh)?;
        newest = open(unpacked.pop())?;
    }
    let frozen = unpacked.pop();
    numbers.into_iter().chain(unpacked).try_for_each(|number| layout.discard(number))?;
    let Some(newest) = newest else {
        drop_packs(layout, |_| true)?;
        frozen.map_or(Ok(()), |number| layout.discard(number))?;
        return Ok(None);
    };
    let is_alone = frozen.is_none();
    let frozen = open(frozen)?;
    if frozen.is_none() && !is_alone {
        drop_packs(layout, |_| true)?;
    }
    let packs = open_packs(layout, newest.number)?;
    Ok(Some(Databases { newest, frozen, packs }))
}

/// The packs, highest number first, down to one that is damaged. One that is not
/// below the newest database says that this is not the newest there was.
fn open_packs(layout: &Layout, newest: u64) -> Result<Vec<Arc<SortedRun>>> {
    let mut packs = Vec::new();
    for (number, path) in layout.packs()?.into_iter().rev() {
        let opened = if number < newest { SortedRun::open(number, path)? } else { None };
        let Some(pack) = opened else {
            tracing::warn!(target: "larder", path = %layout.dir().display(), number, "a torn pack; its entries are lost, and older ones");
            drop_packs(layout, |other| other <= number)?;
            break;
        };
        packs.push(Arc::new(pack));
    }
    Ok(packs)
}

/// Deletes packs, lowest number first.
fn drop_packs(layout: &Layout, which: impl Fn(u64) -> bool) -> Result<()> {
    let packs = layout.packs()?.into_iter().filter(|(number, _)| which(*number));
    packs.map(|(_, path)| path).try_for_each(|path| layout::remove_file(&path))
}

/// A generation; `None` when it was torn and is set aside now.
fn open_generation(layout: &Layout, number: u64, cache_bytes: u64) -> Result<Option<Generation>> {
    match Generation::open(layout, number, cache_bytes) {
        Ok(generation) => Ok(Some(generation)),
        Err(OpenError::Failed(error)) => Err(error),
        Err(OpenError::Torn(reason)) => {
            let path = layout.set_aside(number)?;
            tracing::warn!(target: "larder", path = %path.display(), %reason, "a torn database is set aside; its entries are lost");
            Ok(None)
        }
    }
}

/// An empty generation with a number above all there are, on the medium where that is
/// waited for. Where that fails it
/// leaves none behind, which would count as the newest at the next open.
pub(in crate::disk) fn next_generation(ground: &Ground<'_>, number: u64) -> Result<Generation> {
    let Ground { layout, cache_bytes, marker, .. } = ground;
    let opened = Generation::open(layout, number, *cache_bytes).and_then(|fresh| {
        if marker.durability() == Durability::Synced
            && let Err(error) = fresh.sync()
        {
            fresh.close();
            return Err(OpenError::Failed(error));
        }
        Ok(fresh)
    });
    opened.map_err(|error| {
        if let Err(error) = layout.discard(number) {
            tracing::warn!(target: "larder", %error, "cannot delete a database that was not finished");
        }
        match error {
            OpenError::Failed(error) => error,
            OpenError::Torn(reason) => Error::new(ErrorKind::Unavailable, reason),
        }
    })
}

fn fresh(ground: &Ground<'_>) -> Result<Databases> {
    let last = ground.layout.generations()?.last().map_or(0, |(number, _)| *number);
    Ok(Databases::of(next_generation(ground, last + 1)?))
}

/// Makes the databases say what the journals do, and counts what is there:
/// as it was found, before rows go whose records are missing.
fn count(databases: &Databases, replay: &Replay, segments: &Segments) -> Result<Tally> {
    replay.apply(databases)?;
    segments.forget_rows();
    databases.each_counts().for_each(Counts::clear);
    let mut dangling: Vec<IVec> = Vec::new();
    databases.each(|counts, row, value| {
        counts.enter(&row, &value);
        let whole = match Row::parse(&value) {
            Some(Row::Inline(_)) => true,
            Some(Row::Record(pointer)) => segments.adopt(&row, pointer),
            None => false,
        };
        if !whole {
            dangling.push(row);
        }
        Ok(())
    })?;
    let tally = databases.tally();
    dangling.iter().try_for_each(|row| databases.remove(row).map(|_| ()))?;
    Ok(tally)
}

/// Sets torn databases aside and begins an empty one.
fn start_over(ground: &Ground<'_>, torn: Databases) -> Result<Databases> {
    let layout = ground.layout;
    let number = torn.newest.number;
    drop_packs(layout, |_| true)?;
    if let Some(frozen) = torn.frozen {
        drop_generation(layout, frozen)?;
    }
    torn.newest.close();
    let path = layout.set_aside(number)?;
    tracing::warn!(target: "larder", path = %path.display(), "a torn database is set aside; its entries are lost");
    Ok(Databases::of(next_generation(ground, number + 1)?))
}

/// Closes a generation and deletes it.
pub(in crate::disk) fn drop_generation(layout: &Layout, generation: Generation) -> Result<()> {
    let number = generation.number;
    generation.close();
    layout.discard(number)
}
