//! Opens the directory of an earlier process.
//!
//! Costs a pass over every row: entries are counted, and each segment learns which of its bytes are
//! live. A row whose frame is missing is removed. A segment without rows is deleted.
//!
//! If a database or sorted run cannot be read, everything older is dropped too. Otherwise older
//! rows would show overwritten values.

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

/// What a store is opened with.
pub(in crate::disk) struct Ground<'a> {
    /// The directory.
    pub(in crate::disk) layout: &'a Layout,
    /// The share that counts the disk usage.
    pub(in crate::disk) space: &'a Arc<Share>,
    /// Bytes of a database that sled may cache in memory.
    pub(in crate::disk) cache_bytes: u64,
    /// The marker of the directory.
    pub(in crate::disk) marker: &'a Arc<Marker>,
}

/// Opens the store, with the data that `past` allows to trust. Counts its disk usage in the share.
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

/// Deletes data that cannot be trusted, and reads the journals of the rest. Marks the directory as
/// in use.
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

/// Opens the newest two databases and the sorted runs. `None` if the newest database cannot be
/// read. Deletes databases below number `cleared`.
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
        // An empty database of a clear whose journal record was not written.
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

/// Opens the sorted runs, highest number first, down to the first damaged one.
///
/// A run whose number is not below that of the newest database shows that a newer database is
/// missing, so it counts as damaged.
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

/// Deletes the sorted runs that `which` accepts, lowest number first.
fn drop_packs(layout: &Layout, which: impl Fn(u64) -> bool) -> Result<()> {
    let packs = layout.packs()?.into_iter().filter(|(number, _)| which(*number));
    packs.map(|(_, path)| path).try_for_each(|path| layout::remove_file(&path))
}

/// Opens a database. `None` if it is corrupt; it is set aside then.
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

/// Creates an empty database, whose `number` is above all others. It is durable if the tier is
/// synced.
///
/// If that fails, the database is deleted. Otherwise it would count as the newest one at the next
/// open.
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

/// Applies the journals to the databases and counts all rows. Then removes rows whose frames are
/// missing.
///
/// Returns the counts before that removal, for the comparison with the closing record of the
/// journal.
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

/// Sets the corrupt newest database aside, deletes everything older and creates an empty database.
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

/// Closes a database and deletes it.
pub(in crate::disk) fn drop_generation(layout: &Layout, generation: Generation) -> Result<()> {
    let number = generation.number;
    generation.close();
    layout.discard(number)
}
