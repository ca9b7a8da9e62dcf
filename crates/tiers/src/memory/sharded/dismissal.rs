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

use super::node::{Held, Node};

std::thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// The maximum depth of nested drops, over all stores.
const DEPTH_MAX: u32 = 8;

/// An entry or value that left a shard.
pub(super) enum Departed<K, V> {
    Entry(Gone<K, V>),
    /// The key, the value and the metadata that a replacement made superfluous: held to be dropped.
    Replaced {
        _key: K,
        _value: Held<V>,
        _terms: Option<Arc<LiveEntryMeta>>,
    },
}

/// An entry that left a shard.
pub(super) struct Gone<K, V> {
    pub(super) node: Node<K, V>,
    pub(super) terms: Option<Arc<LiveEntryMeta>>,
    pub(super) weight: u32,
    /// Set if the store dropped the entry by itself.
    pub(super) cause: Option<DepartureCause>,
}

/// The entries that left in one call. Most calls have at most one.
pub(super) struct Leaving<K, V> {
    first: Option<Departed<K, V>>,
    rest: Vec<Departed<K, V>>,
}

impl<K, V> Leaving<K, V> {
    pub(super) const fn new() -> Self {
        Self { first: None, rest: Vec::new() }
    }

    #[inline]
    pub(super) fn push(&mut self, departed: Departed<K, V>) {
        match &self.first {
            None => self.first = Some(departed),
            Some(_) => self.rest.push(departed),
        }
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }

    /// Drops everything where it is.
    #[inline]
    fn drop_all(&mut self) {
        self.first = None;
        while let Some(departed) = self.rest.pop() {
            drop(departed);
        }
    }

    #[inline]
    fn end_all(&mut self, end: Option<&dyn Fn(Departed<K, V>)>) {
        match end {
            None => self.drop_all(),
            Some(end) => {
                while let Some(departed) = self.pop() {
                    end(departed);
                }
            }
        }
    }

    fn pop(&mut self) -> Option<Departed<K, V>> {
        self.first.take().or_else(|| self.rest.pop())
    }
}

/// Entries that wait for the outermost drop, or for the next call.
pub(super) struct Waiting<K, V> {
    queue: Mutex<Vec<Departed<K, V>>>,
    /// Whether the queue may hold an entry; readable without the lock.
    is_any: AtomicBool,
}

impl<K, V> Default for Waiting<K, V> {
    fn default() -> Self {
        Self { queue: Mutex::default(), is_any: AtomicBool::new(false) }
    }
}

impl<K, V> Waiting<K, V> {
    /// Calls `end` for everything that left, or drops it. No lock of the store may be held.
    #[inline]
    pub(super) fn dismiss(&self, leaving: &mut Leaving<K, V>, end: Option<&dyn Fn(Departed<K, V>)>) {
        if !leaving.is_empty() || self.is_any.load(Acquire) {
            self.dismiss_all(leaving, end);
        }
    }

    fn dismiss_all(&self, leaving: &mut Leaving<K, V>, end: Option<&dyn Fn(Departed<K, V>)>) {
        // In the destructor of a thread-local the depth is no longer available.
        let depth = DEPTH.try_with(|depth| depth.replace(depth.get() + 1)).unwrap_or(0);
        let dismissal = Dismissal { waiting: self, leaving };
        if depth >= DEPTH_MAX {
            return;
        }
        dismissal.leaving.end_all(end);
        // Also end entries that the drops queued, and those queued by these, but not endlessly.
        for _ in 0..2 {
            if !self.is_any.load(Acquire) {
                return;
            }
            let mut queue = self.queue.lock();
            dismissal.leaving.rest.append(&mut queue);
            self.is_any.store(false, Release);
            drop(queue);
            dismissal.leaving.end_all(end);
        }
    }

    fn queue(&self, leaving: &mut Leaving<K, V>) {
        let mut queue = self.queue.lock();
        while let Some(departed) = leaving.pop() {
            queue.push(departed);
        }
        self.is_any.store(true, Release);
    }
}

/// Guard while this thread drops. Queues the remaining entries for the next call, if a `Drop` panics or the
/// depth is exceeded.
struct Dismissal<'a, K, V> {
    waiting: &'a Waiting<K, V>,
    leaving: &'a mut Leaving<K, V>,
}

impl<K, V> Drop for Dismissal<'_, K, V> {
    fn drop(&mut self) {
        let _ending = DEPTH.try_with(|depth| depth.set(depth.get() - 1));
        if !self.leaving.is_empty() {
            self.waiting.queue(self.leaving);
        }
    }
}
