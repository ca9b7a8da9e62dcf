//! Opens the directory of an earlier process.
//!
//! The journals fill the memtable. After a clean close, a snapshot has the counts of each place, the contents
//! of sorted runs, and the live bytes and rows of segments. Otherwise an open costs a pass over every row:
//! entries are counted, and each segment learns which of its bytes are live. A row whose frame is missing is
//! removed. A segment without rows is deleted.
//!
//! If a sorted run cannot be opened, it and all older runs are deleted: older rows would show overwritten values. If
//! a run proves damaged during the pass, all runs are deleted, and the rows of the journals stay.

use std::sync::Arc;

use larder_core::{Durability, ErrorKind, Result};
use sled::IVec;

use crate::boot_marker::{LastShutdown, Marker};
use crate::disk::counts::Counts;
use crate::disk::journal::record::Tally;
use crate::disk::journal::replay::Replay;
use crate::disk::journal::writer::Journal;
use crate::disk::layout::{self, Layout};
use crate::disk::row::Row;
use crate::disk::run::sorted_run::SortedRun;
use crate::disk::segment::files::Segments;
use crate::disk::snapshot::Snapshot;
use crate::disk::store::Store;
use crate::disk::table::memtable::Memtable;
use crate::disk::table::old_databases::{self, Found};
use crate::disk::table::tables::Tables;
use crate::disk_budget::BudgetShare;
use crate::durable_sync::sync_tree;

/// What a store is opened with.
pub(in crate::disk) struct OpenContext<'a> {
    /// The directory.
    pub(in crate::disk) layout: &'a Layout,
    /// The share that counts the disk usage.
    pub(in crate::disk) budget: &'a Arc<BudgetShare>,
    /// The marker of the directory.
    pub(in crate::disk) marker: &'a Arc<Marker>,
}

/// Opens the store with the data that can be trusted after `last_shutdown`. Adds its bytes on disk to the share
/// of the budget.
pub(in crate::disk) fn open(context: &OpenContext<'_>, last_shutdown: LastShutdown) -> Result<Store> {
    let layout = context.layout;
    // Read before `trusted` writes the marker: a snapshot is valid only with the marker of the close.
    let snapshot = if last_shutdown == LastShutdown::Closed { Snapshot::read(layout) } else { None };
    let mut replay = trusted(context, last_shutdown)?;
    layout::remove_file(&layout.snapshot())?;
    let mut snapshot = snapshot.filter(|_| replay.tally.is_some() && replay.cleared == 0);
    let last_tally = replay.tally;
    if last_shutdown != LastShutdown::Closed {
        // Rows may have been evicted since the record.
        replay.tally = None;
    }
    let segments = Segments::open(layout.clone(), Arc::clone(context.budget))?;
    let (tables, is_whole) = open_tables(layout, &replay, snapshot.as_mut())?;
    if !is_whole {
        replay.tally = None;
    }
    let is_restored =
        snapshot.is_some_and(|snapshot| snapshot.restore(&tables, &segments)) && replay.restore(&tables);
    let tables = if is_restored { tables } else { counted(context, tables, &replay, &segments)? };
    segments.sweep();
    let run_bytes: u64 = tables.runs.iter().map(|run| layout::rounded(run.len())).sum();
    context.budget.grow(run_bytes + layout::FIXED);
    let store = Store::new(tables, segments, Arc::new(Journal::after(replay.last, last_tally, context)?));
    if store.tables.newest.is_empty()
        && layout.databases()?.is_empty()
        && let Err(error) = store.journal.drop_before(store.journal.number(), store.journal.withdrawals())
    {
        tracing::warn!(target: "larder", %error, "cannot delete the journal of the previous process");
    }
    Ok(store)
}

/// Applies the journals and counts all rows. If a run is damaged, deletes all runs and counts again. If the rows
/// differ from the closing record of the journal, deletes everything: the end of a journal may be missing.
fn counted(
    context: &OpenContext<'_>,
    tables: Tables,
    replay: &Replay,
    segments: &Segments,
) -> Result<Tables> {
    let (layout, number) = (context.layout, tables.newest.number);
    let counted = count(&tables, replay, segments);
    let is_other = |tallied: Tally| replay.tally.is_some_and(|tally| tally != tallied);
    match counted {
        Ok(tallied) if is_other(tallied) => {
            tracing::warn!(target: "larder", path = %layout.dir().display(), "the rows do not match the counts in the journal; the disk tier starts empty");
            segments.delete_all();
            layout.discard_all()?;
            Ok(Tables::of(Memtable::new(number + 1, 0)))
        }
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::warn!(target: "larder", path = %layout.dir().display(), %error, "a sorted run is damaged; the entries that are not in the journal are lost");
            delete_runs(layout, |_| true)?;
            layout.discard_databases(number)?;
            let tables = Tables::of(Memtable::new(number + 1, 0));
            count(&tables, replay, segments)?;
            Ok(tables)
        }
        counted => counted.map(|_| tables),
    }
}

/// Reads the journals. Deletes all data in the directory if it cannot be trusted. Then marks the directory as in
/// use.
fn trusted(context: &OpenContext<'_>, last_shutdown: LastShutdown) -> Result<Replay> {
    let layout = context.layout;
    let replay = match last_shutdown {
        LastShutdown::Unknown => None,
        last_shutdown => Replay::read(layout, last_shutdown == LastShutdown::MachineDown)?,
    };
    let replay = match replay {
        Some(replay) if last_shutdown == LastShutdown::Closed && lacks_journal(layout, &replay)? => None,
        replay => replay,
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

/// Returns whether the closing record of a cleanly closed store is missing; older values might be served then. A
/// directory with sled databases of an earlier build never had one.
fn lacks_journal(layout: &Layout, replay: &Replay) -> Result<bool> {
    Ok(replay.tally.is_none() && layout.databases()?.is_empty() && !layout.is_empty()?)
}

fn discard_untrusted(layout: &Layout, last_shutdown: LastShutdown) -> Result<()> {
    if !layout.is_empty()? {
        let path = layout.dir().display();
        match last_shutdown {
            LastShutdown::Unknown => {
                tracing::warn!(target: "larder", %path, "it is unknown which changes were lost: the machine went down, a removal was not recorded, the marker is damaged, or the process was killed on a system without a boot id; the disk tier starts empty")
            }
            _ => {
                tracing::warn!(target: "larder", %path, "the journal is damaged or incomplete; the disk tier starts empty")
            }
        }
    }
    layout.discard_all()
}

/// Opens the sorted runs and a memtable above them, which has the rows of an earlier build's databases. Deletes
/// sorted runs and databases below number `cleared`. Returns whether nothing was damaged.
fn open_tables(layout: &Layout, replay: &Replay, snapshot: Option<&mut Snapshot>) -> Result<(Tables, bool)> {
    layout.discard_below(replay.cleared)?;
    let (newest, trusts_runs) = match old_databases::read(layout)? {
        Found::Nothing => (None, true),
        Found::Rows { table, distrusts_runs } => (Some(table), !distrusts_runs),
        Found::Damaged(number) => (Some(Memtable::new(number + 1, 0)), false),
    };
    let (runs, is_whole) = open_runs(layout, newest.as_ref().map(|newest| newest.number), snapshot)?;
    let above = runs.first().map_or(0, |run| run.number) + 1;
    let newest = newest.unwrap_or_else(|| Memtable::new(above.max(replay.cleared), 0));
    Ok((Tables { newest, frozen: None, runs }, trusts_runs && is_whole))
}

/// Opens the sorted runs, highest number first, down to the first damaged one. Returns whether none is
/// damaged.
///
/// A run whose number is not below that of an earlier build's newest database shows that a newer database is
/// missing, so it counts as damaged.
fn open_runs(
    layout: &Layout,
    newest: Option<u64>,
    mut snapshot: Option<&mut Snapshot>,
) -> Result<(Vec<Arc<SortedRun>>, bool)> {
    let mut runs = Vec::new();
    for (number, path) in layout.runs()?.into_iter().rev() {
        let opened = match snapshot.as_mut().and_then(|snapshot| snapshot.take_run(number)) {
            _ if newest.is_some_and(|newest| number >= newest) => None,
            Some(contents) => Some(SortedRun::restored(number, path, contents)?),
            None => SortedRun::open(number, path)?,
        };
        let Some(run) = opened else {
            tracing::warn!(target: "larder", path = %layout.dir().display(), number, "a sorted run is damaged; its entries and older ones are lost");
            delete_runs(layout, |other| other <= number)?;
            return Ok((runs, false));
        };
        runs.push(Arc::new(run));
    }
    Ok((runs, true))
}

/// Deletes the sorted runs that `which` accepts, lowest number first.
fn delete_runs(layout: &Layout, which: impl Fn(u64) -> bool) -> Result<()> {
    let runs = layout.runs()?.into_iter().filter(|(number, _)| which(*number));
    runs.map(|(_, path)| path).try_for_each(|path| layout::remove_file(&path))
}

/// Applies the journals to the tables and counts all rows. Then removes rows whose frames are
/// missing.
///
/// Returns the counts before that removal, for the comparison with the closing record of the
/// journal.
fn count(tables: &Tables, replay: &Replay, segments: &Segments) -> Result<Tally> {
    replay.apply(tables)?;
    segments.forget_rows();
    tables.each_counts().for_each(Counts::clear);
    let mut dangling: Vec<IVec> = Vec::new();
    tables.each(|counts, row, value| {
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
    let tally = tables.tally();
    dangling.iter().try_for_each(|row| tables.remove(row).map(|_| ()))?;
    Ok(tally)
}
