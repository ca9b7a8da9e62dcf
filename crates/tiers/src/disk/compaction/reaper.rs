//! Letting go of a database that was packed, behind the back of who writes.
//!
//! sled's threads take their time, and so does the deletion of many blocks: tens of
//! milliseconds that no `put` should wait for. So a thread does it, one at a time, and
//! has ended before the next pack is put in place, and before the tier is closed.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use larder_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use crate::disk::db::database::Generation;
use crate::disk::layout::Layout;
use crate::disk::recovery::drop_generation;
use crate::disk_budget::Share;

/// Deletes databases.
pub(in crate::disk) struct Reaper {
    layout: Layout,
    space: Arc<Share>,
    last: Mutex<Option<Condemned>>,
}

/// A database that is to go.
struct Condemned {
    number: u64,
    bytes: u64,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Reaper {
    /// One that has nothing to do.
    pub(in crate::disk) fn new(layout: Layout, space: Arc<Share>) -> Self {
        Self { layout, space, last: Mutex::new(None) }
    }

    /// Begins to delete a database that nobody reads any more. Its bytes stay
    /// counted until it is gone.
    pub(in crate::disk) fn take(&self, generation: Generation) -> Result<()> {
        let mut last = self.last.lock();
        self.end(&mut last)?;
        let (number, bytes) = (generation.number, generation.bytes());
        let (layout, space) = (self.layout.clone(), Arc::clone(&self.space));
        let work = move || drop_generation(&layout, generation).map(|()| space.shrink(bytes));
        let thread = thread::Builder::new().name("larder-reaper".to_owned()).spawn(work).ok();
        let is_alone = thread.is_none();
        *last = Some(Condemned { number, bytes, thread });
        if is_alone { self.end(&mut last) } else { Ok(()) }
    }

    /// Waits until it is gone. What could not be deleted is tried again.
    pub(in crate::disk) fn settle(&self) -> Result<()> {
        self.end(&mut self.last.lock())
    }

    fn end(&self, last: &mut Option<Condemned>) -> Result<()> {
        let Some(Condemned { number, bytes, thread }) = last.take() else { return Ok(()) };
        let died = |_| Err(Error::new(ErrorKind::Io, "a thread that deletes a database died"));
        let gone = match thread {
            Some(thread) => thread.join().unwrap_or_else(died),
            None => self.layout.discard(number).map(|()| self.space.shrink(bytes)),
        };
        if gone.is_err() {
            *last = Some(Condemned { number, bytes, thread: None });
        }
        gone
    }
}
