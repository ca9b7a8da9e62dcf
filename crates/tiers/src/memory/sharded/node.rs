//! An entry in a shard.

use std::any::type_name;
use std::mem::needs_drop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use larder_core::clock::Time;
use larder_core::entry_meta::LiveEntryMeta;
use larder_core::memory::Record;
use larder_core::tier::TierKind;

use super::slab::Slab;
use crate::memory::order::{USES_MAX, Uses};

/// Larger values, in bytes, are shared even if they own nothing on the heap.
const INLINE_MAX: usize = 64;

/// Prefixes of type names whose `Clone` only counts a reference and runs no user code.
const COUNTED: [&str; 2] = ["alloc::sync::Arc<", "bytes::bytes::Bytes"];

/// Crates whose `Clone` runs no code of the user.
const STANDARD: [&str; 3] = ["core", "alloc", "std"];

/// The types without a path.
const PRIMITIVE: [&str; 17] = [
    "bool", "char", "str", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128",
    "isize", "f32", "f64",
];

/// Whether values of this type are cloned under the lock of a shard.
///
/// The `Clone` of a value is user code, which must not run under a lock. So a value is shared by an `Arc`,
/// and a hit clones it after the lock, unless its type is known: a small type of the standard library that owns
/// nothing on the heap, or a reference-counted one. For known types this saves an allocation per entry and a
/// cache miss per hit. A type name in an unexpected form only loses this saving.
pub(super) fn clones_in_place<V>() -> bool {
    let is_plain = !needs_drop::<V>() && size_of::<V>() <= INLINE_MAX && is_of_std(type_name::<V>());
    is_plain || COUNTED.iter().any(|name| type_name::<V>().starts_with(name))
}

/// Whether a type and all types in it are of the language or of the standard library, by its name.
fn is_of_std(type_name: &str) -> bool {
    let is_in_name = |c: char| c.is_alphanumeric() || matches!(c, ':' | '_');
    let mut parts = type_name.split(|c| !is_in_name(c)).filter(|part| !part.is_empty());
    parts.all(|part| match part.split_once("::") {
        Some((krate, _)) => STANDARD.contains(&krate),
        // The length of an array is a number.
        None => PRIMITIVE.contains(&part) || part.bytes().all(|byte| byte.is_ascii_digit()),
    })
}

/// A value in a shard, with the marks of its entry: they take the room beside the tag of this enum.
pub(super) enum Held<V> {
    /// The entry records that there is no value.
    Absent(Marks),
    Inline(Marks, V),
    Shared(Marks, Arc<V>),
}

/// What a hit reads and changes beside the value.
pub(super) struct Marks {
    uses: AtomicU8,
    has_terms: bool,
    home: TierKind,
}

/// A handle of a value that can leave the lock.
pub(super) enum ValueHandle<V> {
    Inline(V),
    Shared(Arc<V>),
}

impl<V> Held<V> {
    #[inline]
    fn new(marks: Marks, value: Option<V>, in_place: bool) -> Self {
        match value {
            None => Self::Absent(marks),
            Some(value) if in_place => Self::Inline(marks, value),
            Some(value) => Self::Shared(marks, Arc::new(value)),
        }
    }

    #[inline]
    fn marks(&self) -> &Marks {
        match self {
            Self::Absent(marks) | Self::Inline(marks, _) | Self::Shared(marks, _) => marks,
        }
    }
}

impl<V: Clone> ValueHandle<V> {
    /// The value. Runs user code, so no lock may be held.
    #[inline]
    pub(super) fn into_value(self) -> V {
        match self {
            Self::Inline(value) => value,
            Self::Shared(value) => Arc::unwrap_or_clone(value),
        }
    }
}

/// A key with its value and what a hit needs to know of the entry. Of a key and a value of 8 bytes each, it
/// takes half a cache line.
pub(super) struct Node<K, V> {
    pub(super) key: K,
    value: Held<V>,
    /// The invalidation sequence number at which its load began.
    pub(super) stamp: u64,
}

/// What only a look at the whole record needs.
pub(super) struct ColdFacts {
    pub(super) created: Time,
    pub(super) terms: Option<Arc<LiveEntryMeta>>,
}

impl<K, V> Node<K, V> {
    /// Splits a record into a node and the facts that are kept apart.
    #[inline]
    pub(super) fn new(key: K, record: Record<V>, in_place: bool) -> (Self, ColdFacts) {
        let Record { value, created, stamp, terms, home, .. } = record;
        let marks = Marks { uses: AtomicU8::new(0), has_terms: terms.is_some(), home };
        (Self { key, value: Held::new(marks, value, in_place), stamp }, ColdFacts { created, terms })
    }

    /// Replaces everything but the key and the use count; returns the former value.
    pub(super) fn replace(&mut self, record: Record<V>, in_place: bool) -> (Held<V>, ColdFacts) {
        let Record { value, created, stamp, terms, home, .. } = record;
        let uses = AtomicU8::new(self.value.marks().uses.load(Relaxed));
        let marks = Marks { uses, has_terms: terms.is_some(), home };
        self.stamp = stamp;
        let former = std::mem::replace(&mut self.value, Held::new(marks, value, in_place));
        (former, ColdFacts { created, terms })
    }

    /// Whether the entry has metadata, which is among its [`ColdFacts`].
    #[inline]
    pub(super) fn has_terms(&self) -> bool {
        self.value.marks().has_terms
    }

    pub(super) fn home(&self) -> TierKind {
        self.value.marks().home
    }

    pub(super) fn has_value(&self) -> bool {
        !matches!(self.value, Held::Absent(_))
    }

    /// Counts a use. Two concurrent uses may count as one.
    #[inline]
    pub(super) fn used(&self) {
        let count = &self.value.marks().uses;
        let uses = count.load(Relaxed);
        if uses < USES_MAX {
            count.store(uses + 1, Relaxed);
        }
    }
}

impl<K, V: Clone> Node<K, V> {
    /// A handle of the value, if there is one.
    #[inline]
    pub(super) fn handle(&self) -> Option<ValueHandle<V>> {
        match &self.value {
            Held::Absent(_) => None,
            Held::Inline(_, value) => Some(ValueHandle::Inline(value.clone())),
            Held::Shared(_, value) => Some(ValueHandle::Shared(Arc::clone(value))),
        }
    }
}

impl<K, V> Uses for Slab<Node<K, V>> {
    fn uses(&self, slot: u32) -> u8 {
        self.get(slot).map_or(0, |node| node.value.marks().uses.load(Relaxed))
    }

    fn set_uses(&self, slot: u32, uses: u8) {
        if let Some(node) = self.get(slot) {
            node.value.marks().uses.store(uses, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_of_small_key_and_value_takes_half_a_cache_line() {
        assert_eq!(size_of::<Option<Node<u64, Arc<u64>>>>(), 32);
        assert_eq!(size_of::<Option<Node<u64, u64>>>(), 32);
        assert_eq!(size_of::<Option<Node<u64, String>>>(), 48, "where a value may be held in place");
        assert_eq!(size_of::<ColdFacts>(), 16);
    }
}
