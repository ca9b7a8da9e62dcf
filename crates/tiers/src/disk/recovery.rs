//! Opens the directory of an earlier process.
//!
//! After a clean close, a snapshot has the counts of each place, the contents of sorted runs, and the
//! live bytes and rows of segments. Otherwise an open costs a pass over every row: entries are
//! counted, and each segment learns which of its bytes are live. A row whose frame is missing is
//! removed. A segment without rows is deleted.
//!
//! If a database or sorted run cannot be read, everything older is dropped too. Otherwise older
//! rows would show overwritten values.

use std::sync::Arc;

use larder_core::{Durability, Error, ErrorKind, Result};
use sled::IVec;

use crate::boot_marker::{LastShutdown, Marker};
use crate::disk::counts::Counts;
use crate::disk::db::database::{Database, OpenError};
use crate::disk::db::databases::Databases;
use crate::disk::journal::record::Tally;
use crate::disk::journal::replay::Replay;
use crate::disk::journal::writer::Journal;
use crate::disk::layout::{self, Layout};
use crate::disk::row::Row;
use crate::disk::run::sorted_run::SortedRun;
use crate::disk::segment::files::Segments;
use crate::disk::snapshot::Snapshot;
use crate::disk::store::Store;
use crate::disk_budget::BudgetShare;
use crate::durable_sync::sync_tree;

/// What a store is opened with.
pub(in crate::disk) struct OpenContext<'a> {
    /// The directory.
    pub(in crate::disk) layout: &'a Layout,
    /// The share that counts the disk usage.
    pub(in crate::disk) budget: &'a Arc<BudgetShare>,
    /// Bytes of a database that sled may cache in memory.
    pub(in crate::disk) cache_bytes: u64,
    /// The marker of the directory.
    pub(in crate::disk) marker: &'a Arc<Marker>,
}

/// Opens the store, with the data that `last_shutdown` allows to trust. Counts its disk usage in the share.
pub(in crate::disk) fn open(context: &OpenContext<'_>, last_shutdown: LastShutdown) -> Result<Store> {
    let (layout, cache_bytes) = (context.layout, context.cache_bytes);
    // Before the marker is written, and before sled opens a database.
    let snapshot = if last_shutdown == LastShutdown::Closed { Snapshot::read(layout) } else { None };
    let replay = trusted(context, last_shutdown)?;
    layout::remove_file(&layout.snapshot())?;
    let mut snapshot = snapshot.filter(|snapshot| replay.is_closed_with(snapshot.tally()));
    let segments = Segments::open(layout.clone(), Arc::clone(context.budget))?;
    let (databases, tally) = match open_databases(layout, (replay.cleared, cache_bytes), snapshot.as_mut())? {
        Some(databases) => (databases, replay.tally),
        None => (fresh(context)?, None),
    };
    let is_restored = snapshot.is_some_and(|snapshot| snapshot.restore(&databases, &segments));
    let databases = match is_restored {
        true => databases,
        false => counted(context, databases, (&replay, tally), &segments)?,
    };
    segments.sweep();
    let run_bytes: u64 = databases.runs.iter().map(|run| layout::rounded(run.len())).sum();
    context.budget.grow(databases.bytes() + run_bytes + layout::FIXED);
    let store = Store::new(databases, segments, Arc::new(Journal::after(replay.last, context)?));
    let ended = match is_restored {
        // The databases have no changes to flush.
        true => store.journal.drop_before(store.journal.number(), store.journal.withdrawals()),
        false if replay.is_empty() => Ok(()),
        false => store.checkpoint(),
    };
    if let Err(error) = ended {
        tracing::warn!(target: "larder", %error, "cannot flush the databases; the journal of the previous process is kept");
    }
    Ok(store)
}

/// Applies the journals and counts all rows, which must be those of `tally`. Starts over with an empty
/// database if one is damaged.
fn counted(
    context: &OpenContext<'_>,
    databases: Databases,
    (replay, tally): (&Replay, Option<Tally>),
    segments: &Segments,
) -> Result<Databases> {
    let counted = count(&databases, replay, segments).and_then(|tallied| match tally {
        Some(tally) if tally != tallied => {
            Err(Error::new(ErrorKind::Corrupt, "the rows do not match the counts in the journal"))
        }
        _ => Ok(()),
    });
    match counted {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::warn!(target: "larder", %error, "a database is damaged");
            let databases = start_over(context, databases)?;
            count(&databases, replay, segments)?;
            Ok(databases)
        }
        counted => counted.map(|()| databases),
    }
}

/// Deletes data that cannot be trusted, and reads the journals of the rest. Marks the directory as
/// in use.
fn trusted(context: &OpenContext<'_>, last_shutdown: LastShutdown) -> Result<Replay> {
    let layout = context.layout;
    let replay = match last_shutdown {
        LastShutdown::Unknown => None,
        last_shutdown => Replay::read(layout, last_shutdown == LastShutdown::MachineDown)?,
    };
    if replay.is_none() {
        discard_untrusted(layout, last_shutdown)?;
    }
    let failed = |error| layout::unavailable(layout.dir(), error);
    if last_shutdown == LastShutdown::Killed && context.marker.durability() == Durability::Synced {
        sync_tree(layout.dir()).map_err(failed)?;
    }
    context.marker.open().map_err(failed)?;
    Ok(replay.unwrap_or_default())
}

fn discard_untrusted(layout: &Layout, last_shutdown: LastShutdown) -> Result<()> {
    if !layout.is_empty()? {
        let path = layout.dir().display();
        match last_shutdown {
            LastShutdown::Unknown => {
                tracing::warn!(target: "larder", %path, "the machine went down, or a removal was not recorded, while the directory was open; the disk tier starts empty")
            }
            _ => {
                tracing::warn!(target: "larder", %path, "the journal is damaged; the disk tier starts empty")
            }
        }
    }
    layout.discard_all()
}

/// Opens the newest two databases and the sorted runs. `None` if the newest database cannot be
/// read. Deletes databases below number `cleared`.
fn open_databases(
    layout: &Layout,
    (cleared, cache_bytes): (u64, u64),
    snapshot: Option<&mut Snapshot>,
) -> Result<Option<Databases>> {
    layout.discard_below(cleared)?;
    let numbers = layout.databases()?.into_iter().map(|(number, _)| number);
    let (mut numbers, begun): (Vec<u64>, Vec<u64>) =
        numbers.partition(|number| layout.has_sled_files(*number));
    begun.into_iter().try_for_each(|number| layout.discard(number))?;
    let open =
        |number: Option<u64>| number.map_or(Ok(None), |number| open_database(layout, number, cache_bytes));
    let mut newest = open(numbers.pop())?;
    let last_run = layout.runs()?.last().map_or(0, |(number, _)| *number);
    let mut not_compacted = numbers.split_off(numbers.partition_point(|number| *number <= last_run));
    if not_compacted.len() > 1
        && let Some(fresh) = newest.take_if(|newest| newest.is_empty())
    {
        // An empty database of a clear whose journal record was not written.
        delete_database(layout, fresh)?;
        newest = open(not_compacted.pop())?;
    }
    let frozen = not_compacted.pop();
    numbers.into_iter().chain(not_compacted).try_for_each(|number| layout.discard(number))?;
    let Some(newest) = newest else {
        delete_runs(layout, |_| true)?;
        frozen.map_or(Ok(()), |number| layout.discard(number))?;
        return Ok(None);
    };
    let is_alone = frozen.is_none();
    let frozen = open(frozen)?;
    if frozen.is_none() && !is_alone {
        delete_runs(layout, |_| true)?;
    }
    let runs = open_runs(layout, newest.number, snapshot)?;
    Ok(Some(Databases { newest, frozen, runs }))
}

/// Opens the sorted runs, highest number first, down to the first damaged one.
///
/// A run whose number is not below that of the newest database shows that a newer database is
/// missing, so it counts as damaged.
fn open_runs(
    layout: &Layout,
    newest: u64,
    mut snapshot: Option<&mut Snapshot>,
) -> Result<Vec<Arc<SortedRun>>> {
    let mut runs = Vec::new();
    for (number, path) in layout.runs()?.into_iter().rev() {
        let opened = match snapshot.as_mut().and_then(|snapshot| snapshot.take_run(number)) {
            _ if number >= newest => None,
            Some(contents) => Some(SortedRun::restored(number, path, contents)?),
            None => SortedRun::open(number, path)?,
        };
        let Some(run) = opened else {
            tracing::warn!(target: "larder", path = %layout.dir().display(), number, "a sorted run is damaged; its entries and older ones are lost");
            delete_runs(layout, |other| other <= number)?;
            break;
        };
        runs.push(Arc::new(run));
    }
    Ok(runs)
}

/// Deletes the sorted runs that `which` accepts, lowest number first.
fn delete_runs(layout: &Layout, which: impl Fn(u64) -> bool) -> Result<()> {
    let runs = layout.runs()?.into_iter().filter(|(number, _)| which(*number));
    runs.map(|(_, path)| path).try_for_each(|path| layout::remove_file(&path))
}

/// Opens a database. `None` if it is corrupt; it is set aside then.
fn open_database(layout: &Layout, number: u64, cache_bytes: u64) -> Result<Option<Database>> {
    match Database::open(layout, number, cache_bytes) {
        Ok(database) => Ok(Some(database)),
        Err(OpenError::Failed(error)) => Err(error),
        Err(OpenError::Torn(reason)) => {
            let path = layout.set_aside(number)?;
            tracing::warn!(target: "larder", path = %path.display(), %reason, "a damaged database was set aside; its entries are lost");
            Ok(None)
        }
    }
}

/// Creates an empty database, whose `number` is above all others. It is durable if the tier is
/// synced.
///
/// If that fails, the database is deleted. Otherwise it would count as the newest one at the next
/// open.
pub(in crate::disk) fn create_database(context: &OpenContext<'_>, number: u64) -> Result<Database> {
    let OpenContext { layout, cache_bytes, marker, .. } = context;
    let opened = Database::open(layout, number, *cache_bytes).and_then(|fresh| {
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
            tracing::warn!(target: "larder", %error, "cannot delete an incomplete database");
        }
        match error {
            OpenError::Failed(error) => error,
            OpenError::Torn(reason) => Error::new(ErrorKind::Unavailable, reason),
        }
    })
}

fn fresh(context: &OpenContext<'_>) -> Result<Databases> {
    let last = context.layout.databases()?.last().map_or(0, |(number, _)| *number);
    Ok(Databases::of(create_database(context, last + 1)?))
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
        counts.add(&row, &value);
        let whole = match Row::parse(&value) {
            Some(Row::Inline(_) | Row::Compact(_)) => true,
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
fn start_over(context: &OpenContext<'_>, torn: Databases) -> Result<Databases> {
    let layout = context.layout;
    let number = torn.newest.number;
    delete_runs(layout, |_| true)?;
    if let Some(frozen) = torn.frozen {
        delete_database(layout, frozen)?;
    }
    torn.newest.close();
    let path = layout.set_aside(number)?;
    tracing::warn!(target: "larder", path = %path.display(), "a damaged database was set aside; its entries are lost");
    Ok(Databases::of(create_database(context, number + 1)?))
}

/// Closes a database and deletes it.
pub(in crate::disk) fn delete_database(layout: &Layout, database: Database) -> Result<()> {
    let number = database.number;
    database.close();
    layout.discard(number)
}
