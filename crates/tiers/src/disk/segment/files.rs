//! All segments: the active one, and the sealed ones before it.
//!
//! - Numbers only grow, also across reopening. So a pointer never points to another file than the
//!   one it was written for.
//! - A sealed segment that no row points to is deleted at once.
//! - Disk usage is counted in the share, in blocks of 4 KiB.
//! - Every segment stays open. Their number is bounded by the size of a segment: a sixteenth of the
//!   budget between 1 and 64 MiB, and at least a 256th of the budget.

use std::collections::BTreeMap;
use std::sync::Arc;

use larder_core::{Bytes, Result};
use parking_lot::{Mutex, RwLock};

use crate::disk::layout::{Layout, NUMBER_MAX, rounded};
use crate::disk::row::Pointer;
use crate::disk::segment::file::Segment;
use crate::disk_budget::BudgetShare;

/// The segments of a tier.
pub(in crate::disk) struct Segments {
    layout: Layout,
    budget: Arc<BudgetShare>,
    table: RwLock<BTreeMap<u64, Arc<Segment>>>,
    active: Mutex<Active>,
}

struct Active {
    segment: Option<Arc<Segment>>,
    next: u64,
}

/// A sealed segment, as compaction sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::disk) struct Sealed {
    /// Its number.
    pub(in crate::disk) number: u64,
    /// Bytes of the file.
    pub(in crate::disk) len: u64,
    /// Bytes of frames that rows point to.
    pub(in crate::disk) live: u64,
}

impl Segments {
    /// Opens the existing segments.
    pub(in crate::disk) fn open(layout: Layout, budget: Arc<BudgetShare>) -> Result<Self> {
        let segments = Self::empty(layout, budget, 1);
        for (number, path) in segments.layout.segments()? {
            let segment = Segment::open(number, path.clone());
            let segment = segment.map_err(|error| crate::disk::layout::unavailable(&path, error))?;
            segments.budget.grow(rounded(segment.len()));
            segments.table.write().insert(number, Arc::new(segment));
            segments.skip_to(number + 1);
        }
        Ok(segments)
    }

    /// Starts without segments. The first one gets number `next`.
    pub(in crate::disk) fn empty(layout: Layout, budget: Arc<BudgetShare>, next: u64) -> Self {
        let active = Mutex::new(Active { segment: None, next });
        Self { layout, budget, table: RwLock::default(), active }
    }

    /// Size of a segment, by the present budget.
    fn segment_bytes(&self) -> u64 {
        let budget = self.budget.effective_limit();
        (budget / 16).clamp(1 << 20, 64 << 20).max(budget / 256)
    }

    /// The number of the next segment.
    pub(in crate::disk) fn next(&self) -> u64 {
        self.active.lock().next
    }

    /// Raises the number of the next segment to at least `number`.
    pub(in crate::disk) fn skip_to(&self, number: u64) {
        let mut active = self.active.lock();
        active.next = active.next.max(number);
    }

    /// Counts a row that was found on disk. Returns false if its frame does not exist.
    pub(in crate::disk) fn adopt(&self, row: &[u8], pointer: Pointer) -> bool {
        if pointer.segment <= NUMBER_MAX {
            self.skip_to(pointer.segment + 1);
        }
        match self.segment_of(pointer) {
            Some(segment) => {
                segment.adopt(row, pointer.len);
                true
            }
            None => false,
        }
    }

    /// Resets the counts of rows, before all rows are counted again.
    pub(in crate::disk) fn forget_rows(&self) {
        self.table.read().values().for_each(|segment| segment.forget_rows());
    }

    /// Deletes the sealed segments that no row points to.
    pub(in crate::disk) fn sweep(&self) {
        for sealed in self.sealed().into_iter().filter(|sealed| sealed.live == 0) {
            self.delete(sealed.number);
        }
    }

    /// Appends a frame for `row`, in two parts.
    pub(in crate::disk) fn append(&self, row: &[u8], head: &[u8], body: &[u8]) -> Result<Pointer> {
        let bytes = (head.len() + body.len()) as u64;
        let mut active = self.active.lock();
        let segment = self.room_for(&mut active, bytes)?;
        match segment.append(row, head, body) {
            Ok(offset) => {
                self.budget.grow(rounded(offset + bytes) - rounded(offset));
                Ok(Pointer { segment: segment.number, offset, len: bytes })
            }
            Err(error) => {
                self.seal(&mut active);
                Err(error.into())
            }
        }
    }

    /// Waits until the frame of a pointer and the directory entry of its segment are durable.
    pub(in crate::disk) fn sync(&self, pointer: Pointer) -> Result<()> {
        let Some(segment) = self.segment(pointer.segment) else { return Ok(()) };
        segment.sync().map_err(|error| {
            let mut active = self.active.lock();
            if active.segment.as_ref().is_some_and(|active| Arc::ptr_eq(active, &segment)) {
                self.seal(&mut active);
            }
            error.into()
        })
    }

    fn room_for(&self, active: &mut Active, bytes: u64) -> Result<Arc<Segment>> {
        let segment_bytes = self.segment_bytes();
        match &active.segment {
            Some(segment) if segment.len() + bytes <= segment_bytes => return Ok(Arc::clone(segment)),
            Some(_) => self.seal(active),
            None => {}
        }
        let number = active.next;
        active.next = number + 1;
        let capacity = segment_bytes.max(bytes);
        let segment = Arc::new(Segment::create(number, self.layout.segment(number), capacity)?);
        self.table.write().insert(number, Arc::clone(&segment));
        active.segment = Some(Arc::clone(&segment));
        Ok(segment)
    }

    fn seal(&self, active: &mut Active) {
        if let Some(segment) = active.segment.take() {
            segment.seal();
            if segment.live() == 0 {
                self.delete(segment.number);
            }
        }
    }

    /// Seals the active segment, so that it can be evicted.
    pub(in crate::disk) fn seal_active(&self) {
        self.seal(&mut self.active.lock());
    }

    /// Disk usage of all segments.
    pub(in crate::disk) fn bytes(&self) -> u64 {
        self.table.read().values().map(|segment| rounded(segment.len())).sum()
    }

    /// Returns whether there is an active segment.
    pub(in crate::disk) fn has_active(&self) -> bool {
        self.active.lock().segment.is_some()
    }

    /// Returns whether another program removed the file of the active segment.
    pub(in crate::disk) fn is_removed(&self) -> bool {
        self.active.lock().segment.as_ref().is_some_and(|segment| segment.is_removed())
    }

    /// Reads the frame of a pointer and marks it as read. `None` if it does not exist.
    pub(in crate::disk) fn read(&self, pointer: Pointer) -> Result<Option<Bytes>> {
        let Some(segment) = self.segment_of(pointer) else { return Ok(None) };
        segment.mark_read(pointer.offset);
        Ok(segment.read(pointer.offset, pointer.len)?)
    }

    /// Reads up to `bytes` bytes of the frame of a pointer, without marking it as read.
    pub(in crate::disk) fn peek(&self, pointer: Pointer, bytes: u64) -> Result<Option<Bytes>> {
        let Some(segment) = self.segment_of(pointer) else { return Ok(None) };
        Ok(segment.read(pointer.offset, pointer.len.min(bytes))?)
    }

    /// Returns whether the frame of a pointer exists.
    pub(in crate::disk) fn holds(&self, pointer: Pointer) -> bool {
        self.segment_of(pointer).is_some()
    }

    /// Releases a frame that no row points to any more.
    pub(in crate::disk) fn release(&self, pointer: Pointer) {
        if self.segment_of(pointer).is_some_and(|segment| segment.release(pointer.len)) {
            self.delete(pointer.segment);
        }
    }

    /// All segments, oldest first.
    pub(in crate::disk) fn all(&self) -> Vec<Arc<Segment>> {
        self.table.read().values().cloned().collect()
    }

    /// Looks up a segment by its number.
    pub(in crate::disk) fn segment(&self, number: u64) -> Option<Arc<Segment>> {
        self.table.read().get(&number).cloned()
    }

    /// All sealed segments, oldest first.
    pub(in crate::disk) fn sealed(&self) -> Vec<Sealed> {
        let table = self.table.read();
        let sealed = table.values().filter(|segment| segment.is_sealed());
        sealed.map(|s| Sealed { number: s.number, len: s.len(), live: s.live() }).collect()
    }

    /// Removes a segment from the table and deletes its file. If that fails, its bytes stay
    /// counted, and the next open tries again.
    pub(in crate::disk) fn delete(&self, number: u64) {
        let Some(segment) = self.table.write().remove(&number) else { return };
        match self.layout.deferred().delete(segment.path(), Some(Arc::clone(&segment) as _)) {
            Err(error) => tracing::warn!(target: "larder", %error, "cannot delete a segment"),
            Ok(()) => self.budget.shrink(rounded(segment.len())),
        }
    }

    /// Deletes all sealed segments. Rows that point to them become misses.
    pub(in crate::disk) fn delete_sealed(&self) {
        self.sealed().iter().for_each(|sealed| self.delete(sealed.number));
    }

    /// Deletes all segments.
    pub(in crate::disk) fn delete_all(&self) {
        let numbers: Vec<u64> = self.table.read().keys().copied().collect();
        numbers.into_iter().for_each(|number| self.delete(number));
    }

    fn segment_of(&self, pointer: Pointer) -> Option<Arc<Segment>> {
        self.segment(pointer.segment).filter(|segment| segment.holds(pointer.offset, pointer.len))
    }
}
