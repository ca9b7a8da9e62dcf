//! Runs the chosen steps: freezes memtables, writes sorted runs, and evicts until usage is within the
//! budget.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use larder_core::{Durability, Error, ErrorKind, Result};

use crate::disk::DiskTier;
use crate::disk::compaction::job::CompactionJob;
use crate::disk::compaction::picker::{Choice, CompactionState, RunStats, memtable_bytes_max};
use crate::disk::layout::{remove_file, rounded};
use crate::disk::run::sorted_run::SortedRun;
use crate::disk::run::writer::RunWriter;
use crate::disk::space::deferred;
use crate::disk::space::eviction::Survivors;
use crate::disk::store::Store;
use crate::disk::table::memtable::Memtable;
use crate::disk::table::tables::Tables;

/// Rows that each put processes for the compaction in progress.
///
/// A frozen memtable is compacted before the next one has taken a thirty-second as many rows. A
/// replaced run takes as long again.
const ROWS_A_PUT: u64 = 32;

/// Rows that are processed together, so that not every put takes the lock.
const ROWS_AT_ONCE: u64 = 128;

/// How many times its size a memtable may have while compaction fails. Puts fail beyond.
const MEMTABLE_GROWTH_MAX: u64 = 4;

/// Rows that a put processes if the budget is exceeded before the run is complete.
const ROWS_WHEN_OVER: u64 = 1024;

impl DiskTier {
    /// Frees space until `bytes` fit, which are counted already. Fails with `ErrorKind::Full` if
    /// they cannot.
    pub(in crate::disk) fn make_room(&self, bytes: u64) -> Result<()> {
        let mut compaction = self.compaction.write();
        self.drop_expired_if_short()?;
        match self.enforce_budget(&mut compaction)? {
            Choice::GiveUp => {
                Err(Error::new(ErrorKind::Full, format!("cannot free {bytes} bytes within the disk budget")))
            }
            _ => Ok(()),
        }
    }

    /// Frees space if the budget is exceeded. Does nothing while another thread does so.
    pub(in crate::disk) fn enforce_budget_if_free(&self) {
        let Some(mut compaction) = self.compaction.try_write() else { return };
        if let Err(error) = self.enforce_budget(&mut compaction) {
            tracing::warn!(target: "larder", %error, "cannot keep the disk budget");
        }
    }

    /// Continues the sorted run in progress, once enough puts were made.
    pub(in crate::disk) fn advance_compaction(&self) {
        if self.rows_due.fetch_add(ROWS_A_PUT, Ordering::Relaxed) < ROWS_AT_ONCE {
            return;
        }
        let Some(mut compaction) = self.compaction.try_write() else { return };
        let rows = self.rows_due.swap(0, Ordering::Relaxed).min(8 * ROWS_AT_ONCE);
        if let Err(error) = self.step_compaction(&mut compaction, rows) {
            tracing::warn!(target: "larder", %error, "compaction of the disk tier failed; a later write retries it");
        }
    }

    /// Freezes the memtable if it is large, and begins its sorted run.
    pub(in crate::disk) fn freeze_if_due(&self) {
        let is_due = self.state.read().as_ref().is_some_and(|store| self.is_memtable_full(store));
        if is_due {
            self.enforce_budget_if_free();
        }
    }

    /// Returns whether the memtable is large enough to be frozen.
    pub(in crate::disk) fn is_memtable_full(&self, store: &Store) -> bool {
        newest_bytes(store) > memtable_bytes_max(self.budget.effective_limit())
    }

    /// Writes all rows of memtables to sorted runs, and deletes their journal files.
    ///
    /// # Errors
    /// Also if a removal that no journal has is still in no sorted run.
    pub(in crate::disk) fn persist(&self, compaction: &mut Option<CompactionJob>) -> Result<()> {
        self.finish_compaction(compaction)?;
        let withdrawals = self.marker.withdrawals();
        self.freeze()?;
        self.finish_compaction(compaction)?;
        self.with_store(|store| store.drop_journals(withdrawals))?;
        if self.marker.is_withdrawn() {
            let message = "the marker of the disk tier cannot be written; if the process is killed, the next open starts empty";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(())
    }

    /// Finishes the sorted run in progress, and that of the frozen memtable.
    fn finish_compaction(&self, compaction: &mut Option<CompactionJob>) -> Result<()> {
        loop {
            self.step_compaction(compaction, u64::MAX)?;
            if self.with_store(|store| Ok(store.tables.frozen.is_none()))? {
                return Ok(());
            }
            *compaction = self.begin_compaction(&[], 0)?;
        }
    }

    /// Fails if memtables cannot be written to sorted runs and have grown far beyond their size.
    pub(in crate::disk) fn check_memtable(&self) -> Result<()> {
        let max = MEMTABLE_GROWTH_MAX * memtable_bytes_max(self.budget.effective_limit());
        let is_too_large = self.with_store(|store| Ok(store.tables.newest.bytes() > max))?;
        if is_too_large { self.enforce_budget(&mut self.compaction.write()).map(drop) } else { Ok(()) }
    }

    /// Frees space until usage is within the budget. Returns the last choice.
    pub(in crate::disk) fn enforce_budget(&self, compaction: &mut Option<CompactionJob>) -> Result<Choice> {
        loop {
            let state = self.compaction_state(compaction.is_some())?;
            let choice = state.choose();
            match choice {
                Choice::Idle | Choice::GiveUp => return Ok(choice),
                Choice::Freeze => self.freeze()?,
                Choice::Compact(replaced) => {
                    *compaction = self.begin_compaction(&replaced, state.room_soon)?
                }
                Choice::Advance => {
                    self.step_compaction(compaction, ROWS_WHEN_OVER)?;
                    return Ok(choice);
                }
                Choice::Finish => self.step_compaction(compaction, u64::MAX)?,
                Choice::Merge(number) => self.drop_segment(number, Survivors::Live)?,
                Choice::Evict(number) => self.drop_segment(number, Survivors::Read)?,
                Choice::Seal => self.with_store(|store| {
                    store.segments.seal_active();
                    Ok(())
                })?,
            }
        }
    }

    fn compaction_state(&self, is_compacting: bool) -> Result<CompactionState> {
        self.with_store(|store| {
            let tables = &store.tables;
            let run_stats = |run: &Arc<SortedRun>| RunStats {
                number: run.number,
                len: run.len(),
                values: run.values(),
                live: run.counts.live(),
                read: run.rows_read(),
                droppable: run.droppable(),
                is_rewritten: run.is_rewritten,
            };
            let taken = store.journal.bytes() + tables.run_bytes();
            let frozen_bytes = tables.frozen.as_ref().map(Memtable::bytes);
            let most = frozen_bytes.unwrap_or(0);
            let next_run = tables.runs.first().map_or(most, |run| run.len().min(2 * most));
            let meanwhile = self.budget.effective_limit() / 32;
            Ok(CompactionState {
                limit: self.budget.effective_limit(),
                excess: self.budget.excess(0),
                excess_soon: self.budget.excess(2 * next_run + meanwhile),
                room_soon: self.budget.room().saturating_sub(next_run.min(most) + meanwhile),
                newest_bytes: newest_bytes(store),
                newest_grown: !tables.newest.is_empty(),
                frozen_bytes,
                is_compacting,
                runs: tables.runs.iter().map(run_stats).collect(),
                sealed: store.segments.sealed(),
                active: store.segments.has_active(),
                reclaimable: store.segments.bytes() + taken,
            })
        })
    }

    /// Freezes the newest memtable, ends its journal file, and creates a new memtable.
    pub(in crate::disk) fn freeze(&self) -> Result<()> {
        let mut state = self.state.write();
        let Some(store) = state.as_mut() else { return Ok(()) };
        let next = store.journal.rotate()?;
        let fresh = Memtable::new(store.tables.newest.number + 1, next);
        let mut frozen = std::mem::replace(&mut store.tables.newest, fresh);
        frozen.withdrawals = self.marker.withdrawals();
        store.tables.frozen = Some(frozen);
        Ok(())
    }

    /// Begins to compact the frozen memtable, if there is one, together with the sorted runs in
    /// `replaced`.
    ///
    /// Without a frozen memtable, only one sorted run is rewritten. It keeps its number, so its
    /// rows stay newer or older than others as before.
    ///
    /// At most `room` bytes of rows that were read are copied.
    pub(in crate::disk) fn begin_compaction(
        &self,
        replaced: &[(u64, Survivors)],
        room: u64,
    ) -> Result<Option<CompactionJob>> {
        if self.has_half_replaced.load(Ordering::Acquire) {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the disk tier failed, and is opened again first",
            ));
        }
        self.with_store(|store| {
            if !replaced.is_empty() {
                store.drop_lingering_journals()?;
            }
            let Tables { frozen, runs, .. } = &store.tables;
            let find = |number| runs.iter().find(|run| run.number == number);
            let named = |(number, survivors): &(u64, Survivors)| find(*number).map(|run| (run, *survivors));
            let most = if frozen.is_some() { usize::MAX } else { 1 };
            let replaced: Vec<_> = replaced.iter().filter_map(named).take(most).collect();
            let of_frozen = frozen.as_ref().map(|frozen| frozen.number);
            let of_run = replaced.first().map(|(run, _)| run.number);
            let Some(number) = of_frozen.or(of_run) else { return Ok(None) };
            let writer = RunWriter::create(&self.layout, number, &self.budget)?;
            CompactionJob::begin(writer, frozen.as_ref(), &replaced, room).map(Some)
        })
    }

    /// Continues a compaction for `rows` rows. Puts the sorted run in place when it is complete.
    pub(in crate::disk) fn step_compaction(
        &self,
        compaction: &mut Option<CompactionJob>,
        rows: u64,
    ) -> Result<()> {
        let Some(mut job) = compaction.take() else { return Ok(()) };
        if self.with_store(|store| job.step(store, rows))? {
            return self.install_run(job);
        }
        *compaction = Some(job);
        Ok(())
    }

    /// Puts a finished sorted run in place of its sources.
    ///
    /// Sources are deleted before they leave the list of places, because the removal of a row in an
    /// unlisted place is not recorded. After the run has its final name, no source may be dropped
    /// without that deletion: a source that cannot be deleted stays in the list, below the new run.
    fn install_run(&self, job: CompactionJob) -> Result<()> {
        let durability = self.marker.durability();
        let sync_names = || if durability == Durability::Synced { self.layout.sync_names() } else { Ok(()) };
        sync_names()?;
        let (writer, sources) = job.end();
        let files: Vec<_> = sources.runs.iter().map(|run| deferred::open(run.path())).collect();
        let run = writer.finish(durability)?;
        let number = run.as_ref().map(|run| run.number);
        let mut done = sync_names();
        let takes_frozen = sources.frozen && done.is_ok();
        let mut removed = Vec::new();
        for (run, file) in sources.runs.into_iter().zip(files) {
            // The rename of the new run replaced an old run of the same number.
            let is_replaced = Some(run.number) == number;
            if !is_replaced {
                done = done.and_then(|()| remove_file(run.path())).and_then(|()| sync_names());
            }
            if is_replaced || done.is_ok() {
                self.layout.deferred().add_file(file, Some(Arc::clone(&run) as _));
                removed.push(run);
            }
        }
        let frozen = {
            let mut state = self.state.write();
            let Some(store) = state.as_mut() else { return Ok(()) };
            let frozen = if takes_frozen { store.tables.frozen.take() } else { None };
            let of_frozen = frozen.as_ref().map(|frozen| &frozen.counts);
            let run = run.map(|mut run| {
                of_frozen.into_iter().for_each(|counts| run.counts.add_all(counts));
                removed.iter().for_each(|source| run.counts.add_all(&source.live_copies()));
                run.is_rewritten = !sources.frozen;
                Arc::new(run)
            });
            store.tables.replace(&removed, run);
            frozen
        };
        for run in removed {
            self.budget.shrink(rounded(run.len()));
            let evicted = run.counts.live().saturating_sub(run.live_copies().live());
            self.evictions.fetch_add(evicted, Ordering::Relaxed);
        }
        if let Some(memtable) = frozen {
            let Memtable { number, withdrawals, .. } = memtable;
            self.layout.deferred().add_rows(memtable);
            let dropped = self.layout.discard_databases(number);
            let dropped = dropped.and_then(|()| self.with_store(|store| store.drop_journals(withdrawals)));
            if let Err(error) = dropped {
                tracing::warn!(target: "larder", %error, "cannot delete a journal file of the disk tier; it is deleted later");
            }
        }
        // The counts are no longer exact. Opening the store again counts all rows.
        done.inspect_err(|_| {
            self.has_half_replaced.store(true, Ordering::Release);
            self.needs_reopen.store(true, Ordering::Release);
        })
    }
}

/// Bytes of the newest memtable, or half of those of its journal file if that is more. Then most rows were
/// overwritten since.
fn newest_bytes(store: &Store) -> u64 {
    let newest = &store.tables.newest;
    let (rows, all_files) = (newest.bytes(), store.journal.bytes());
    // Each put asks, and the bytes of some files alone cost two locks.
    if all_files / 2 <= rows { rows } else { rows.max(store.journal.bytes_from(newest.first_journal) / 2) }
}
