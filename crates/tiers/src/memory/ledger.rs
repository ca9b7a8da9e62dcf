//! Accounts for the values of a moka store, and drops the ones that left.
//!
//! A map with lock-free readers cannot free evicted or replaced values at once: a thread does that later,
//! within any call of the map or of another user of the same reclamation, with locks held. So a record counts
//! until its value is dropped. A value is not dropped where the map frees it, but in a later call of the
//! store, with no lock held.

use std::cell::Cell;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;

use larder_core::memory::Record;
use parking_lot::Mutex;

/// The live weight may exceed the budget by one part in this many before room is made.
const SLACK_SHARE: u64 = 32;

/// Attempts to free the removed values, and how many of them do not yield to other threads. A reader that is
/// not running may still hold references to all of them.
const ATTEMPTS: u32 = 64;
const ATTEMPTS_AT_ONCE: u32 = 4;

/// The largest capacity that is kept for the queue of values to drop.
const WAITING_KEPT: usize = 1024;

thread_local! {
    static DROPPING: Cell<bool> = const { Cell::new(false) };
}

pub(super) struct Ledger<V> {
    limit: u64,
    /// Whether the limit counts bytes: otherwise it counts entries.
    in_bytes: bool,
    live: AtomicU64,
    waiting: Mutex<Vec<Waiting<V>>>,
    /// Length of the queue, readable without the lock.
    waiting_len: AtomicUsize,
    /// The store is dropped: no later call will drop queued values.
    closed: AtomicBool,
}

struct Waiting<V> {
    value: Option<V>,
    weight: u32,
}

impl<V> Ledger<V> {
    pub(super) fn new(limit: u64, in_bytes: bool) -> Self {
        Self {
            limit,
            in_bytes,
            live: AtomicU64::new(0),
            waiting: Mutex::default(),
            waiting_len: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Calls `settle` to free removed values while the live weight exceeds the limit. Readers of any moka map
    /// in the process can delay this, so it gives up after some attempts.
    pub(super) fn make_room(&self, settle: impl Fn()) {
        let attempts = if DROPPING.get() { 1 } else { ATTEMPTS };
        for attempt in 0..attempts {
            if self.has_room() {
                return;
            }
            if attempt >= ATTEMPTS_AT_ONCE {
                thread::yield_now();
            }
            settle();
            self.drop_waiting();
        }
    }

    /// Wraps a record for the map. The map's clone of it counts until its value is dropped.
    pub(super) fn given(self: &Arc<Self>, record: Record<V>) -> Kept<V> {
        Kept::Held(Held { record, ledger: Arc::clone(self), weight: None })
    }

    /// Drops the values that were queued before this call. Does nothing inside the `Drop` of such a value:
    /// each could queue another one, without end.
    pub(super) fn drop_waiting(&self) {
        if self.waiting_len.load(Relaxed) == 0 || DROPPING.replace(true) {
            return;
        }
        let _dropping = Dropping;
        for _ in 0..self.waiting_len.load(Relaxed) {
            let Some(waiting) = self.next() else { return };
            self.end(waiting);
        }
    }

    /// From now on values are dropped where the map frees them.
    pub(super) fn close(&self) {
        self.closed.store(true, Relaxed);
        self.drop_waiting();
    }

    /// Queues a value that is not in the map and must not be dropped here.
    pub(super) fn take(&self, kept: Kept<V>) {
        self.let_go(Waiting { value: kept.into_record().value, weight: 0 });
    }

    fn has_room(&self) -> bool {
        self.live.load(Relaxed) <= self.limit.saturating_add(self.limit / SLACK_SHARE)
    }

    fn let_go(&self, waiting: Waiting<V>) {
        if self.closed.load(Relaxed) {
            return self.end(waiting);
        }
        let mut all = self.waiting.lock();
        all.push(waiting);
        self.waiting_len.store(all.len(), Relaxed);
    }

    fn next(&self) -> Option<Waiting<V>> {
        let mut all = self.waiting.lock();
        let next = all.pop();
        self.waiting_len.store(all.len(), Relaxed);
        if all.is_empty() && all.capacity() > WAITING_KEPT {
            mem::take(&mut *all);
        }
        next
    }

    fn end(&self, waiting: Waiting<V>) {
        let _weighs = Weighs { live: &self.live, weight: waiting.weight };
        drop(waiting.value);
    }
}

/// Subtracts the weight of a value when it is dropped, even if its `Drop` panics.
struct Weighs<'a> {
    live: &'a AtomicU64,
    weight: u32,
}

impl Drop for Weighs<'_> {
    fn drop(&mut self) {
        self.live.fetch_sub(u64::from(self.weight), Relaxed);
    }
}

/// Marks that this thread drops values.
struct Dropping;

impl Drop for Dropping {
    fn drop(&mut self) {
        DROPPING.set(false);
    }
}

/// A record on its way through the map. The map clones the given value, keeps the clone, and gives clones of
/// that to readers.
pub(super) enum Kept<V> {
    /// In the map, or about to be.
    Held(Held<V>),
    /// Read from the map. A variant of its own, so that a hit does not pay for the `Drop` of the other.
    Read(Record<V>),
}

pub(super) struct Held<V> {
    record: Record<V>,
    ledger: Arc<Ledger<V>>,
    /// The weight that it counts in the ledger; `None` while it is not in the map.
    weight: Option<u32>,
}

impl<V> Kept<V> {
    #[inline]
    pub(super) fn record(&self) -> &Record<V> {
        match self {
            Self::Held(held) => &held.record,
            Self::Read(record) => record,
        }
    }

    #[inline]
    pub(super) fn into_record(self) -> Record<V> {
        match self {
            Self::Held(mut held) => held.take(),
            Self::Read(record) => record,
        }
    }
}

impl<V> Held<V> {
    fn take(&mut self) -> Record<V> {
        let (value, terms) = (self.record.value.take(), self.record.terms.take());
        let Record { created, stamp, weight, home, checked, cost, .. } = self.record;
        Record { value, created, stamp, terms, weight, home, checked, cost }
    }
}

impl<V: Clone> Held<V> {
    fn in_the_map(&self) -> Self {
        let (record, ledger) = (self.record.clone(), Arc::clone(&self.ledger));
        let weight = if ledger.in_bytes { record.weight } else { 1 };
        ledger.live.fetch_add(u64::from(weight), Relaxed);
        Self { record, ledger, weight: Some(weight) }
    }
}

impl<V: Clone> Clone for Kept<V> {
    #[inline]
    fn clone(&self) -> Self {
        match self {
            Self::Held(held) if held.weight.is_none() => Self::Held(held.in_the_map()),
            kept => Self::Read(kept.record().clone()),
        }
    }
}

impl<V> Drop for Held<V> {
    fn drop(&mut self) {
        let waiting = Waiting { value: self.record.value.take(), weight: self.weight.unwrap_or(0) };
        self.ledger.let_go(waiting);
    }
}
