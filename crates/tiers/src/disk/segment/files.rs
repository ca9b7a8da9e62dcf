//! All segments: the one that is written, and the sealed ones before it.
//!
//! - Numbers only grow, over reopening too: a pointer never comes to name
//!   another file than the one it was written for.
//! - A sealed segment that no row names is deleted at once.
//! - What the files take is counted in the share, in blocks of 4 KiB.
//! - Every segment stays open. Their number is bounded by the size of one: a
//!   sixteenth of the budget between 1 and 64 MiB, and no less than a 256th.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use larder_core::{Bytes, Result};
use parking_lot::{Mutex, RwLock};

use crate::disk::layout::{Layout, NUMBER_MAX, rounded};
use crate::disk::row::Pointer;
use crate::disk::segment::file::Segment;
use crate::disk_budget::Share;

/// The segments of a tier.
pub(in crate::disk) struct Segments {
    layout: Layout,
    space: Arc<Share>,
    table: RwLock<BTreeMap<u64, Arc<Segment>>>,
    active: Mutex<Active>,
}

struct Active {
    segment: Option<Arc<Segment>>,
    next: u64,
}

/// What upkeep needs to know of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::disk) struct Sealed {
    /// Its number.
    pub(in crate::disk) number: u64,
    /// Bytes of the file.
    pub(in crate::disk) len: u64,
    /// Bytes that rows name.
    pub(in crate::disk) live: u64,
}

impl Segments {
    /// Opens the segments there are.
    pub(in crate::disk) fn open(layout: Layout, space: Arc<Share>) -> Result<Self> {
        let segments = Self::empty(layout, space, 1);
        for (number, path) in segments.layout.segments()? {
            let segment = Segment::open(number, path.clone());
            let segment = segment.map_err(|error| crate::disk::layout::unavailable(&path, error))?;
            segments.space.grow(rounded(segment.len()));
            segments.table.write().insert(number, Arc::new(segment));
            segments.skip_to(number + 1);
        }
        Ok(segments)
    }

    /// No segments; the first will have number `next`.
    pub(in crate::disk) fn empty(layout: Layout, space: Arc<Share>, next: u64) -> Self {
        let active = Mutex::new(Active { segment: None, next });
        Self { layout, space, table: RwLock::default(), active }
    }

    /// How large a segment grows, by the budget at present.
    fn segment_bytes(&self) -> u64 {
        let budget = self.space.budget();
        (budget / 16).clamp(1 << 20, 64 << 20).max(budget / 256)
    }

    /// The number of the next segment.
    pub(in crate::disk) fn next(&self) -> u64 {
        self.active.lock().next
    }

    /// Makes sure that the next segment has at least this number.
    pub(in crate::disk) fn skip_to(&self, number: u64) {
        let mut active = self.active.lock();
        active.next = active.next.max(number);
    }

    /// Counts a row that was found on disk; false when its record is not there.
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

    /// Counts no row any more, before they are counted anew.
    pub(in crate::disk) fn forget_rows(&self) {
        self.table.read().values().for_each(|segment| segment.forget_rows());
    }

    /// Deletes the sealed segments that no row names.
    pub(in crate::disk) fn sweep(&self) {
        for sealed in self.sealed().into_iter().filter(|sealed| sealed.live == 0) {
            self.delete(sealed.number);
        }
    }

    /// Writes a frame for `row`, in two parts.
    pub(in crate::disk) fn append(&self, row: &[u8], head: &[u8], body: &[u8]) -> Result<Pointer> {
        let bytes = (head.len() + body.len()) as u64;
        let mut active = self.active.lock();
        let segment = self.room_for(&mut active, bytes)?;
        match segment.append(row, head, body) {
            Ok(offset) => {
                self.space.grow(rounded(offset + bytes) - rounded(offset));
                Ok(Pointer { segment: segment.number, offset, len: bytes })
            }
            Err(error) => {
                self.seal(&mut active);
                Err(error.into())
            }
        }
    }

    /// Waits until the record of a pointer is on the medium, and its segment
    /// has a name there.
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

    /// Ends the active segment, so that it can be evicted.
    pub(in crate::disk) fn seal_active(&self) {
        self.seal(&mut self.active.lock());
    }

    /// Bytes of all segments.
    pub(in crate::disk) fn bytes(&self) -> u64 {
        self.table.read().values().map(|segment| rounded(segment.len())).sum()
    }

    /// Whether a segment is being written.
    pub(in crate::disk) fn has_active(&self) -> bool {
        self.active.lock().segment.is_some()
    }

    /// Whether the file that is written was removed by others.
    pub(in crate::disk) fn is_removed(&self) -> bool {
        self.active.lock().segment.as_ref().is_some_and(|segment| segment.is_removed())
    }

    /// The frame a pointer names, and that it was read; `None` when it is not there.
    pub(in crate::disk) fn read(&self, pointer: Pointer) -> Result<Option<Bytes>> {
        let Some(segment) = self.segment_of(pointer) else { return Ok(None) };
        segment.mark(pointer.offset);
        Ok(segment.read(pointer.offset, pointer.len)?)
    }

    /// The first bytes of the frame a pointer names, unmarked.
    pub(in crate::disk) fn peek(&self, pointer: Pointer, bytes: u64) -> Result<Option<Bytes>> {
        let Some(segment) = self.segment_of(pointer) else { return Ok(None) };
        Ok(segment.read(pointer.offset, pointer.len.min(bytes))?)
    }

    /// Whether the record of a pointer is there.
    pub(in crate::disk) fn holds(&self, pointer: Pointer) -> bool {
        self.segment_of(pointer).is_some()
    }

    /// Gives up a record that no row names any more.
    pub(in crate::disk) fn release(&self, pointer: Pointer) {
        if self.segment_of(pointer).is_some_and(|segment| segment.release(pointer.len)) {
            self.delete(pointer.segment);
        }
    }

    /// The segment of that number.
    pub(in crate::disk) fn segment(&self, number: u64) -> Option<Arc<Segment>> {
        self.table.read().get(&number).cloned()
    }

    /// Every sealed segment, oldest first.
    pub(in crate::disk) fn sealed(&self) -> Vec<Sealed> {
        let table = self.table.read();
        let sealed = table.values().filter(|segment| segment.is_sealed());
        sealed.map(|s| Sealed { number: s.number, len: s.len(), live: s.live() }).collect()
    }

    /// Forgets a segment and deletes its file. Where that fails the bytes stay
    /// counted; the next open tries again.
    pub(in crate::disk) fn delete(&self, number: u64) {
        let Some(segment) = self.table.write().remove(&number) else { return };
        match std::fs::remove_file(segment.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(target: "larder", path = %segment.path().display(), %error, "cannot delete a segment");
            }
            _ => self.space.shrink(rounded(segment.len())),
        }
    }

    /// Deletes every sealed segment; rows that name one are absent from then on.
    pub(in crate::disk) fn delete_sealed(&self) {
        self.sealed().iter().for_each(|sealed| self.delete(sealed.number));
    }

    /// Deletes every segment.
    pub(in crate::disk) fn delete_all(&self) {
        let numbers: Vec<u64> = self.table.read().keys().copied().collect();
        numbers.into_iter().for_each(|number| self.delete(number));
    }

    fn segment_of(&self, pointer: Pointer) -> Option<Arc<Segment>> {
        self.segment(pointer.segment).filter(|segment| segment.holds(pointer.offset, pointer.len))
    }
}
