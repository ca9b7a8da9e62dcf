//! An open tier: databases, segments, and the locks between them.
//!
//! - A row changes under its stripe, whoever changes it: a `put`, a `remove`,
//!   an eviction. So none of them undoes another. A `get` takes none, unless what
//!   its row names is missing.
//! - A frame is in its segment before a row names it, and a change of a row is
//!   in the journal before a database has it.
//! - A `get` that does not find what a pointer names looks again under the
//!   stripe, for an eviction may have carried the record elsewhere meanwhile.
//!   What is missing then is missing, and the row goes.

use std::sync::Arc;

use larder_core::frame::Frame;
use larder_core::{Bytes, Durability, Result};
use parking_lot::{Mutex, MutexGuard};
use sled::IVec;

use crate::disk::db::database::Generation;
use crate::disk::db::databases::Databases;
use crate::disk::journal::writer::Journal;
use crate::disk::row::{self, Pointer, Row, RowKey};
use crate::disk::segment::files::Segments;

const STRIPES: usize = 64;

/// What a tier holds while it is open.
pub(in crate::disk) struct Store {
    /// Rows.
    pub(in crate::disk) databases: Databases,
    /// Large frames.
    pub(in crate::disk) segments: Segments,
    /// What became of rows since the databases were flushed.
    pub(in crate::disk) journal: Arc<Journal>,
    checkpoints: Mutex<()>,
    stripes: Box<[Mutex<()>]>,
}

impl Store {
    /// Puts the three together.
    pub(in crate::disk) fn new(databases: Databases, segments: Segments, journal: Arc<Journal>) -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::new(())).collect();
        Self { databases, segments, journal, checkpoints: Mutex::new(()), stripes }
    }

    /// The frame of a row.
    pub(in crate::disk) fn get(&self, key: &RowKey) -> Result<Option<Bytes>> {
        let Some(value) = self.databases.read(key.as_ref())? else { return Ok(None) };
        match Row::parse(&value) {
            Some(Row::Inline(_)) => Ok(Some(row::held(value))),
            Some(Row::Record(pointer)) => match self.segments.read(pointer)? {
                None => self.get_again(key.as_ref()),
                found => Ok(found),
            },
            None => self.get_again(key.as_ref()),
        }
    }

    fn get_again(&self, row: &[u8]) -> Result<Option<Bytes>> {
        let _stripe = self.lock(row);
        let Some(value) = self.databases.get(row)? else { return Ok(None) };
        let found = match Row::parse(&value) {
            Some(Row::Inline(_)) => Some(row::held(value)),
            Some(Row::Record(pointer)) => self.segments.read(pointer)?,
            None => None,
        };
        if found.is_none() {
            self.forget(row)?;
        }
        Ok(found)
    }

    /// Stores a frame: itself when it has fewer bytes than `crossover`, in a
    /// segment otherwise.
    pub(in crate::disk) fn put(&self, key: &RowKey, frame: &Frame, crossover: u64) -> Result<()> {
        let row = key.as_ref();
        let _stripe = self.lock(row);
        let replaced = if (frame.len() as u64) < crossover {
            self.set(row, row::inline(frame).into())?
        } else {
            self.put_record(row, frame.head(), frame.body())?
        };
        self.release(replaced);
        Ok(())
    }

    /// Writes a frame to the active segment and has the row name it; returns
    /// the row's former value. The caller holds the stripe.
    pub(in crate::disk) fn put_record(&self, row: &[u8], head: &[u8], body: &[u8]) -> Result<Option<IVec>> {
        let pointer = self.segments.append(row, head, body)?;
        let on_medium = match self.journal.durability() {
            Durability::Synced => self.segments.sync(pointer),
            _ => Ok(()),
        };
        let replaced = on_medium.and_then(|()| self.set(row, (&pointer.to_value()[..]).into()));
        if replaced.is_err() && !self.names(row, pointer) {
            self.segments.release(pointer);
        }
        replaced
    }

    /// Whether a row names a record; so if that cannot be told.
    fn names(&self, row: &[u8], pointer: Pointer) -> bool {
        let newest = self.databases.newest.get(row);
        newest.map_or(true, |value| value.as_deref().and_then(Row::pointer) == Some(pointer))
    }

    /// Gives a row a value; returns the former one. The caller holds the stripe.
    ///
    /// Where the database fails the row is to be absent after all.
    fn set(&self, row: &[u8], value: IVec) -> Result<Option<IVec>> {
        self.journal.set(row, &value)?;
        self.databases.insert(row, value).inspect_err(|_| {
            let _ = self.journal.remove(row);
        })
    }

    /// Removes a row; whether there was one. That there is none was perhaps
    /// written down a moment ago, by an eviction, and is waited for as well.
    pub(in crate::disk) fn remove(&self, key: &RowKey) -> Result<bool> {
        let _stripe = self.lock(key.as_ref());
        let found = self.databases.contains(key.as_ref())? && self.forget(key.as_ref())?;
        self.journal.settle().map(|()| found)
    }

    /// Whether there is a frame for the row.
    pub(in crate::disk) fn contains(&self, key: &RowKey) -> Result<bool> {
        let value = self.databases.get(key.as_ref())?;
        Ok(match value.as_deref().and_then(Row::parse) {
            Some(Row::Inline(_)) => true,
            Some(Row::Record(pointer)) => self.segments.holds(pointer),
            None => false,
        })
    }

    /// Flushes the databases, and drops the journal of what they have now.
    /// Rows may change meanwhile, generations must not come or go.
    ///
    /// Who wrote down a change before the journal turned holds a stripe until
    /// the database has it, so each stripe is waited for.
    pub(in crate::disk) fn checkpoint(&self) -> Result<()> {
        let _one = self.checkpoints.lock();
        self.checkpoint_now()
    }

    /// The same, unless someone else is at it.
    pub(in crate::disk) fn try_checkpoint(&self) -> Result<()> {
        self.checkpoints.try_lock().map_or(Ok(()), |_one| self.checkpoint_now())
    }

    fn checkpoint_now(&self) -> Result<()> {
        let withdrawals = self.journal.withdrawals();
        let number = self.journal.turn()?;
        self.stripes.iter().for_each(|stripe| drop(stripe.lock()));
        for generation in self.databases.each_generation() {
            generation.flush()?;
            if self.journal.durability() == Durability::Synced {
                generation.sync()?;
            }
        }
        self.journal.drop_before(number, withdrawals)
    }

    /// Calls `visit` with the head of each frame; more of the frame may follow.
    /// Rows must not move meanwhile. What is no frame is passed over.
    pub(in crate::disk) fn scan(&self, visit: &mut (dyn FnMut(&[u8]) + Send)) -> Result<()> {
        self.databases.each(|_, _, value| {
            match Row::parse(&value) {
                Some(Row::Inline(frame)) => visit(frame),
                Some(Row::Record(pointer)) => super::heads::visit(&self.segments, pointer, visit),
                None => {}
            }
            Ok(())
        })
    }

    /// Writes what is buffered, and lets go of everything. The first failure is returned.
    /// The journal stays then, for the next open to go by. With `is_sure` the next
    /// open checks that it finds what this one counted.
    pub(in crate::disk) fn close(self, is_sure: bool) -> Result<()> {
        let flushed = self.checkpoint();
        if is_sure
            && flushed.is_ok()
            && let Err(error) = self.journal.tally(self.databases.tally())
        {
            tracing::debug!(target: "larder", %error, "the next open cannot tell whether the databases are whole");
        }
        self.databases.frozen.into_iter().for_each(Generation::close);
        self.databases.newest.close();
        flushed
    }

    /// Whether a file was removed without which the next open would find less than
    /// is known here, or older values. Packs must not come or go meanwhile.
    pub(in crate::disk) fn has_lost_files(&self) -> bool {
        let databases = &self.databases;
        self.journal.is_removed()
            || self.segments.is_removed()
            || databases.each_generation().any(Generation::is_removed)
            || databases.packs.iter().any(|pack| pack.is_removed())
    }

    /// Lets go of everything, and writes no more.
    pub(in crate::disk) fn abandon(self) {
        self.databases.frozen.into_iter().for_each(Generation::close);
        self.databases.newest.close();
    }

    /// Removes a row and gives up its record. The caller holds the stripe.
    pub(in crate::disk) fn forget(&self, row: &[u8]) -> Result<bool> {
        self.journal.remove(row)?;
        let removed = self.databases.remove(row)?;
        let found = removed.is_some();
        self.release(removed);
        Ok(found)
    }

    /// Locks a row against changes by others.
    pub(in crate::disk) fn lock(&self, row: &[u8]) -> MutexGuard<'_, ()> {
        self.stripes[row::stripe(row) % STRIPES].lock()
    }

    /// Gives up the record that a former value names.
    pub(in crate::disk) fn release(&self, value: Option<IVec>) {
        if let Some(pointer) = value.as_deref().and_then(Row::pointer) {
            self.segments.release(pointer);
        }
    }
}
