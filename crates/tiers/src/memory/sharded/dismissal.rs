//! Reports and drops entries that left a store.
//!
//! The `Drop` of a value may call the store, which may evict other values, and so on. Below some depth,
//! removed entries are queued for an outer call, so that such a chain takes little stack. An endless chain is
//! cut: the next call drops the rest.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};

use larder_core::entry_meta::LiveEntryMeta;
use larder_core::memory::DepartureCause;
use parking_lot::Mutex;

use super::node::Node;

std::thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// The maximum depth of nested drops, over all stores.
const DEPTH_MAX: u32 = 8;

/// An entry that left a shard, or the key, the value and the metadata that a replacement made superfluous.
pub(super) struct Gone<K, V> {
    pub(super) node: Node<K, V>,
    pub(super) terms: Option<Arc<LiveEntryMeta>>,
    pub(super) weight: u32,
    /// Set if the store dropped the entry by itself.
    pub(super) cause: Option<DepartureCause>,
}

impl<K, V> Gone<K, V> {
    /// What is dropped without a report.
    #[inline]
    pub(super) fn unreported(node: Node<K, V>) -> Self {
        Self { node, terms: None, weight: 0, cause: None }
    }
}

/// The entries that left in one call. Most calls have at most one.
pub(super) struct Leaving<K, V> {
    first: Option<Gone<K, V>>,
    rest: Option<Vec<Gone<K, V>>>,
}

impl<K, V> Default for Leaving<K, V> {
    #[inline]
    fn default() -> Self {
        Self { first: None, rest: None }
    }
}

impl<K, V> Leaving<K, V> {
    #[inline]
    pub(super) fn push(&mut self, gone: Gone<K, V>) {
        match &self.first {
            None => self.first = Some(gone),
            Some(_) => self.rest.get_or_insert_default().push(gone),
        }
    }

    /// Takes all entries.
    #[inline]
    pub(super) fn take(&mut self) -> Self {
        Self { first: self.first.take(), rest: self.rest.take() }
    }

    /// Whether exactly one entry left.
    #[inline]
    pub(super) fn is_one(&self) -> bool {
        self.first.is_some() && self.rest.is_none()
    }

    /// Drops the first entry that left.
    #[inline]
    pub(super) fn drop_one(&mut self) {
        self.first = None;
    }

    /// The entry that left last.
    pub(super) fn last(&mut self) -> Option<&mut Gone<K, V>> {
        self.rest.as_mut().and_then(|rest| rest.last_mut()).or(self.first.as_mut())
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.as_ref().is_none_or(Vec::is_empty)
    }

    /// Drops everything where it is.
    pub(super) fn clear(&mut self) {
        self.first = None;
        while let Some(gone) = self.pop() {
            drop(gone);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Gone<K, V>> {
        self.first.take().or_else(|| self.rest.as_mut()?.pop())
    }
}

/// Entries that wait for the outermost drop, or for the next call.
pub(super) struct Waiting<K, V> {
    queue: Mutex<Vec<Gone<K, V>>>,
    /// Whether the queue may hold an entry; readable without the lock.
    is_any: AtomicBool,
}

impl<K, V> Default for Waiting<K, V> {
    fn default() -> Self {
        Self { queue: Mutex::default(), is_any: AtomicBool::new(false) }
    }
}

impl<K, V> Waiting<K, V> {
    #[inline]
    pub(super) fn is_any(&self) -> bool {
        self.is_any.load(Acquire)
    }

    pub(super) fn add(&self, leaving: &mut Leaving<K, V>) {
        let mut queue = self.queue.lock();
        queue.extend(leaving.first.take());
        queue.extend(leaving.rest.take().into_iter().flatten());
        self.is_any.store(true, Release);
    }

    pub(super) fn take(&self, leaving: &mut Leaving<K, V>) {
        let mut queue = self.queue.lock();
        leaving.rest.get_or_insert_default().append(&mut queue);
        self.is_any.store(false, Release);
    }
}

/// The entries that left in one call of a store, and those that wait in it.
pub(super) trait Departures {
    /// Reports and drops those that left.
    fn end_all(&mut self);

    /// Whether none left, or all are dropped.
    fn is_empty(&self) -> bool;

    /// Makes those that left wait for another call.
    fn queue(&mut self);

    /// Takes those that wait, for this call. Returns false if there are none.
    fn take_queued(&mut self) -> bool;
}

/// Guard while this thread drops what left a store.
pub(super) struct Nested;

impl Nested {
    /// `None` at the maximum depth: what left has to wait for another call.
    #[inline]
    pub(super) fn enter() -> Option<Self> {
        // In the destructor of a thread-local the depth may no longer be available.
        let depth = DEPTH.try_with(Cell::get).unwrap_or(0);
        (depth < DEPTH_MAX).then(|| {
            let _entered = DEPTH.try_with(|place| place.set(depth + 1));
            Self
        })
    }
}

impl Drop for Nested {
    #[inline]
    fn drop(&mut self) {
        let _left = DEPTH.try_with(|depth| depth.set(depth.get().saturating_sub(1)));
    }
}

/// Reports and drops everything that left. No lock of the store may be held.
#[cold]
pub(super) fn dismiss(departures: &mut dyn Departures) {
    let nested = Nested::enter();
    let dismissal = Dismissal { departures };
    if nested.is_none() {
        return;
    }
    dismissal.departures.end_all();
    // Also end entries that the drops queued, and those queued by these, but not endlessly.
    for _ in 0..2 {
        if !dismissal.departures.take_queued() {
            return;
        }
        dismissal.departures.end_all();
    }
}

/// Queues the remaining entries for the next call, if a `Drop` panics or the depth is exceeded.
struct Dismissal<'a> {
    departures: &'a mut dyn Departures,
}

impl Drop for Dismissal<'_> {
    fn drop(&mut self) {
        if !self.departures.is_empty() {
            self.departures.queue();
        }
    }
}
