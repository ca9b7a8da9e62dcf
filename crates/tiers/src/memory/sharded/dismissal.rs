//! What left a store, on its way to be told of and dropped.
//!
//! The `Drop` of a value may call the store, which may evict other values, and so on.
//! Some levels down, what leaves is queued for the drops above, so that such a chain
//! takes little stack. A chain without end is cut: the next call drops the rest.

use std::cell::Cell;
use std::mem;

use larder_core::memory::DepartureCause;
use parking_lot::Mutex;

use super::node::{Former, Node};

std::thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Drops within drops, over all stores.
const DEPTH_MAX: u32 = 8;

/// Something that left a shard.
pub(super) enum Departed<K, V> {
    /// An entry, and the cause to tell where it left by itself.
    Entry(Node<K, V>, Option<DepartureCause>),
    /// What a replaced entry held.
    Replaced((K, Former<V>)),
}

/// What left in one call. Most calls have at most one.
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

    fn pop(&mut self) -> Option<Departed<K, V>> {
        self.first.take().or_else(|| self.rest.pop())
    }
}

/// What waits for the outermost drop, or for the next call.
pub(super) struct Waiting<K, V>(Mutex<Vec<Departed<K, V>>>);

impl<K, V> Default for Waiting<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K, V> Waiting<K, V> {
    /// Has `end` end everything that left. No lock of the store may be held.
    pub(super) fn dismiss(&self, mut leaving: Leaving<K, V>, end: impl Fn(Departed<K, V>)) {
        // In the destructor of a thread-local there is no depth any more.
        let depth = DEPTH.try_with(|depth| depth.replace(depth.get() + 1)).unwrap_or(0);
        let dismissal = Dismissal { waiting: self, leaving: &mut leaving };
        if depth >= DEPTH_MAX {
            return;
        }
        while let Some(departed) = dismissal.leaving.pop() {
            end(departed);
        }
        // What drops queued meanwhile, and what those queued in turn, but not for ever.
        for _ in 0..2 {
            for departed in mem::take(&mut *self.0.lock()) {
                dismissal.leaving.rest.push(departed);
            }
            while let Some(departed) = dismissal.leaving.pop() {
                end(departed);
            }
        }
    }

    fn queue(&self, leaving: &mut Leaving<K, V>) {
        let mut waiting = self.0.lock();
        while let Some(departed) = leaving.pop() {
            waiting.push(departed);
        }
    }
}

/// While this thread drops. Leaves what is left to the next call, where a `Drop` panics
/// or is too deep.
struct Dismissal<'a, K, V> {
    waiting: &'a Waiting<K, V>,
    leaving: &'a mut Leaving<K, V>,
}

impl<K, V> Drop for Dismissal<'_, K, V> {
    fn drop(&mut self) {
        let _ending = DEPTH.try_with(|depth| depth.set(depth.get() - 1));
        if self.leaving.len() > 0 {
            self.waiting.queue(self.leaving);
        }
    }
}
