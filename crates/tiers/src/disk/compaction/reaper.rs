//! Deletes a compacted database in a thread.
//!
//! Stopping sled's threads and deleting many blocks takes tens of milliseconds, which no `put`
//! should wait for. One thread runs at a time. It has ended before the next sorted run is put in
//! place, and before the tier is closed.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use larder_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use crate::disk::db::database::Database;
use crate::disk::layout::Layout;
use crate::disk::recovery::delete_database;
use crate::disk_budget::BudgetShare;

/// Deletes databases, one at a time.
pub(in crate::disk) struct Reaper {
    layout: Layout,
    budget: Arc<BudgetShare>,
    last: Mutex<Option<Deletion>>,
}

/// A database that is being deleted.
struct Deletion {
    number: u64,
    bytes: u64,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Reaper {
    /// Creates a reaper with nothing to delete.
    pub(in crate::disk) fn new(layout: Layout, budget: Arc<BudgetShare>) -> Self {
        Self { layout, budget, last: Mutex::new(None) }
    }

    /// Begins to delete a database that has no readers any more. Its bytes stay counted until it is
    /// deleted.
    pub(in crate::disk) fn delete(&self, database: Database) -> Result<()> {
        let mut last = self.last.lock();
        self.end(&mut last)?;
        let (number, bytes) = (database.number, database.bytes());
        let (layout, budget) = (self.layout.clone(), Arc::clone(&self.budget));
        let work = move || delete_database(&layout, database).map(|()| budget.shrink(bytes));
        let thread = thread::Builder::new().name("larder-reaper".to_owned()).spawn(work).ok();
        let is_alone = thread.is_none();
        *last = Some(Deletion { number, bytes, thread });
        if is_alone { self.end(&mut last) } else { Ok(()) }
    }

    /// Waits until the database is deleted. Retries a deletion that failed.
    pub(in crate::disk) fn wait(&self) -> Result<()> {
        self.end(&mut self.last.lock())
    }

    fn end(&self, last: &mut Option<Deletion>) -> Result<()> {
        let Some(Deletion { number, bytes, thread }) = last.take() else { return Ok(()) };
        let died = |_| Err(Error::new(ErrorKind::Io, "the thread that deletes a database panicked"));
        let gone = match thread {
            Some(thread) => thread.join().unwrap_or_else(died),
            None => self.layout.discard(number).map(|()| self.budget.shrink(bytes)),
        };
        if gone.is_err() {
            *last = Some(Deletion { number, bytes, thread: None });
        }
        gone
    }
}
