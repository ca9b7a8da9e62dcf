//! An entry in a shard.

use std::any::type_name;
use std::mem::needs_drop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use larder_core::clock::Time;
use larder_core::entry_meta::LiveEntryMeta;
use larder_core::memory::{Lifespan, Record, ReloadCost, Removed};
use larder_core::tier::{EntryVersion, TierKind};

use crate::memory::order::{OrderEntries, USES_MAX};

use super::slab::Slab;

/// Larger values, in bytes, are shared even if they own nothing on the heap.
const INLINE_MAX: usize = 64;

/// Prefixes of type names whose `Clone` only counts a reference and runs no user code.
const COUNTED: [&str; 2] = ["alloc::sync::Arc<", "bytes::bytes::Bytes"];

/// Whether values of this type are cloned under the lock of a shard.
///
/// The `Clone` of a value is user code, which must not run under a lock. So a value is shared by an `Arc`,
/// and a hit clones it after the lock, unless its type is known: a small type that owns nothing on the heap,
/// or a reference-counted one. For known types this saves an allocation per entry and a cache miss per hit. A
/// type name in an unexpected form only loses this saving.
pub(super) fn clones_in_place<V>() -> bool {
    let is_plain = !needs_drop::<V>() && size_of::<V>() <= INLINE_MAX;
    is_plain || COUNTED.iter().any(|name| type_name::<V>().starts_with(name))
}

/// A value in a shard.
pub(super) enum Held<V> {
    /// The entry records that there is no value.
    Absent,
    Inline(V),
    Shared(Arc<V>),
}

impl<V: Clone> Held<V> {
    fn new(value: Option<V>, in_place: bool) -> Self {
        match value {
            None => Self::Absent,
            Some(value) if in_place => Self::Inline(value),
            Some(value) => Self::Shared(Arc::new(value)),
        }
    }

    /// Clones a handle that can leave the lock.
    #[inline]
    pub(super) fn handle(&self) -> Self {
        match self {
            Self::Absent => Self::Absent,
            Self::Inline(value) => Self::Inline(value.clone()),
            Self::Shared(value) => Self::Shared(Arc::clone(value)),
        }
    }

    /// The value. Runs user code, so no lock may be held.
    #[inline]
    pub(super) fn into_value(self) -> Option<V> {
        match self {
            Self::Absent => None,
            Self::Inline(value) => Some(value),
            Self::Shared(value) => Some(Arc::unwrap_or_clone(value)),
        }
    }
}

/// The hash that the table and the order of a shard use, from the hash of a key: its lower half, twice. A node
/// keeps that half alone.
#[inline]
pub(super) fn half(hash: u64) -> u64 {
    let half = hash & u64::from(u32::MAX);
    half << 32 | half
}

/// A key with its record. Of a key and a value of 8 bytes each, it takes one cache line.
pub(super) struct Node<K, V> {
    pub(super) key: K,
    pub(super) value: Held<V>,
    created: Time,
    stamp: u64,
    pub(super) terms: Option<Arc<LiveEntryMeta>>,
    /// Half of the hash of the key: see [`half`].
    hash: u32,
    pub(super) weight: u32,
    cost: ReloadCost,
    pub(super) home: TierKind,
    uses: AtomicU8,
}

impl<K, V: Clone> Node<K, V> {
    pub(super) fn new(hash: u64, key: K, record: Record<V>, in_place: bool) -> Self {
        let Record { value, created, stamp, terms, weight, home, cost, .. } = record;
        let (value, uses) = (Held::new(value, in_place), AtomicU8::new(0));
        Self { key, value, created, stamp, terms, hash: hash as u32, weight, cost, home, uses }
    }

    /// Replaces everything but the key and the use count; returns the former content.
    pub(super) fn replace(&mut self, record: Record<V>, in_place: bool) -> Former<V> {
        let Record { value, created, stamp, terms, weight, home, cost, .. } = record;
        let former = Former {
            value: std::mem::replace(&mut self.value, Held::new(value, in_place)),
            terms: std::mem::replace(&mut self.terms, terms),
            weight: self.weight,
        };
        (self.created, self.stamp) = (created, stamp);
        (self.weight, self.home, self.cost) = (weight, home, cost);
        former
    }

    /// The record without its value, which is returned separately, and with its version.
    pub(super) fn record(&self, version: Option<EntryVersion>) -> Record<V> {
        Record {
            value: None,
            created: self.created,
            stamp: self.stamp,
            terms: self.terms.clone(),
            weight: self.weight,
            home: self.home,
            checked: version,
            cost: self.cost,
        }
    }
}

impl<K, V> Node<K, V> {
    /// The hash of the key, as by [`half`].
    #[inline]
    pub(super) fn hash(&self) -> u64 {
        half(u64::from(self.hash))
    }

    /// Whether the key has this hash.
    #[inline]
    pub(super) fn has_hash(&self, hash: u64) -> bool {
        self.hash == hash as u32
    }

    #[inline]
    pub(super) fn lifespan(&self) -> Lifespan<'_> {
        Lifespan { stamp: self.stamp, terms: self.terms.as_deref() }
    }

    /// Counts a use. Two concurrent uses may count as one.
    #[inline]
    pub(super) fn used(&self) {
        let uses = self.uses.load(Relaxed);
        if uses < USES_MAX {
            self.uses.store(uses + 1, Relaxed);
        }
    }

    pub(super) fn removed(&self, version: Option<EntryVersion>) -> Removed {
        Removed {
            stamp: self.stamp,
            terms: self.terms.clone(),
            checked: version,
            has_value: !matches!(self.value, Held::Absent),
        }
    }
}

/// The content of a replaced record.
#[expect(dead_code, reason = "held until the lock is released, then dropped")]
pub(super) struct Former<V> {
    value: Held<V>,
    terms: Option<Arc<LiveEntryMeta>>,
    pub(super) weight: u32,
}

impl<K, V> OrderEntries for Slab<Node<K, V>> {
    fn uses(&self, slot: u32) -> u8 {
        self.get(slot).map_or(0, |node| node.uses.load(Relaxed))
    }

    fn set_uses(&self, slot: u32, uses: u8) {
        if let Some(node) = self.get(slot) {
            node.uses.store(uses, Relaxed);
        }
    }

    fn hash(&self, slot: u32) -> u64 {
        self.get(slot).map_or(0, Node::hash)
    }

    fn weight(&self, slot: u32) -> u32 {
        self.get(slot).map_or(0, |node| node.weight)
    }

    fn cost(&self, slot: u32) -> ReloadCost {
        self.get(slot).map_or(ReloadCost::default(), |node| node.cost)
    }
}
