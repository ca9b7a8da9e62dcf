//! An entry in a shard.

use std::any::{Any, type_name};
use std::mem::needs_drop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use larder_core::entry_meta::LiveEntryMeta;
use larder_core::erased::Value;
use larder_core::memory::{DepartureCause, Record};
use larder_core::tier::TierKind;

use super::dismissal::{Gone, Leaving};
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
    is_known(type_name::<V>(), !needs_drop::<V>() && size_of::<V>() <= INLINE_MAX)
}

#[inline(never)]
fn is_known(type_name: &str, is_plain: bool) -> bool {
    is_plain && is_of_std(type_name) || COUNTED.iter().any(|name| type_name.starts_with(name))
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

impl Marks {
    fn of(record: &Record<()>) -> Self {
        Self { uses: AtomicU8::new(0), has_terms: record.terms.is_some(), home: record.home }
    }
}

/// A value that comes, or a handle of one that leaves the lock.
pub(super) enum ValueHandle<V> {
    Inline(V),
    Shared(Arc<V>),
}

impl<V> Held<V> {
    /// The value of a record, which is `record` otherwise.
    #[inline]
    pub(super) fn new(value: Option<ValueHandle<V>>, record: &Record<()>, in_place: bool) -> Self {
        let marks = Marks::of(record);
        match value {
            None => Self::Absent(marks),
            Some(ValueHandle::Inline(value)) if in_place => Self::Inline(marks, value),
            Some(ValueHandle::Inline(value)) => Self::Shared(marks, Arc::new(value)),
            Some(ValueHandle::Shared(value)) => Self::Shared(marks, value),
        }
    }

    #[inline]
    fn marks(&self) -> &Marks {
        match self {
            Self::Absent(marks) | Self::Inline(marks, _) | Self::Shared(marks, _) => marks,
        }
    }
}

impl<V: Clone + Send + Sync + 'static> ValueHandle<V> {
    /// A value that is held `in_place`, or by its `Arc`. `None` if it is not a `V`. May clone the value, so no
    /// lock may be held.
    pub(super) fn of_erased(value: Value, in_place: bool) -> Option<Self> {
        if in_place {
            return value.into_inner().map(Self::Inline);
        }
        value.into_shared().map(Self::Shared)
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
    pub(super) value: Held<V>,
    /// The invalidation sequence number at which its load began.
    pub(super) stamp: u64,
}

/// What code that is not generic over keys and values knows of a node.
#[derive(Clone, Copy)]
pub(super) struct Head {
    /// The invalidation sequence number at which its load began.
    pub(super) stamp: u64,
    /// Whether the entry has metadata, which is among the [`Facts`](super::facts::Facts).
    pub(super) has_terms: bool,
    /// False if the entry records that there is no value.
    pub(super) has_value: bool,
    pub(super) home: TierKind,
}

impl<K, V> Node<K, V> {
    /// Whether the entry has metadata, which is among the [`Facts`](super::facts::Facts).
    #[inline]
    pub(super) fn has_terms(&self) -> bool {
        self.value.marks().has_terms
    }

    pub(super) fn home(&self) -> TierKind {
        self.value.marks().home
    }

    #[inline]
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

/// The nodes of a shard, and those that left it since its lock was taken.
pub(super) struct Nodes<K, V> {
    slab: Slab<Node<K, V>>,
    pub(super) leaving: Leaving<K, V>,
}

impl<K, V> Default for Nodes<K, V> {
    fn default() -> Self {
        Self { slab: Slab::default(), leaving: Leaving::default() }
    }
}

impl<K, V> Nodes<K, V> {
    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&Node<K, V>> {
        self.slab.get(slot)
    }

    /// Puts a node into a slot. If there is one, its key and its use count stay, and the rest of it leaves.
    #[inline]
    pub(super) fn put(&mut self, slot: u32, mut node: Node<K, V>) {
        let Some(place) = self.slab.place(slot) else { return };
        match place {
            None => *place = Some(node),
            Some(former) => {
                let uses = former.value.marks().uses.load(Relaxed);
                node.value.marks().uses.store(uses, Relaxed);
                std::mem::swap(&mut former.value, &mut node.value);
                std::mem::swap(&mut former.stamp, &mut node.stamp);
                self.leaving.push(Gone::unreported(node));
            }
        }
    }
}

/// The nodes of a shard, for code that is not generic over keys and values.
pub(super) trait AnyNodes: Uses + Send + Sync {
    /// What is known of the node in a slot, if there is one.
    fn head(&self, slot: u32) -> Option<Head>;

    fn key(&self, slot: u32) -> Option<&(dyn Any + Send + Sync)>;

    /// The value in a slot, if there is one. Runs no user code but the `Clone` of types that
    /// [`clones_in_place`] knows.
    fn value(&self, slot: u32) -> Option<Value>;

    /// Moves a node with its metadata to those that leave; returns whether there was one.
    fn leave(&mut self, slot: u32, terms: Option<Arc<LiveEntryMeta>>, leave: Leave) -> bool;

    /// Adds the metadata of a replaced record to what left last.
    fn leave_terms(&mut self, terms: Arc<LiveEntryMeta>);

    /// Frees the memory of the slots, which are empty.
    fn reset(&mut self);
}

/// How an entry leaves.
#[derive(Clone, Copy)]
pub(super) struct Leave {
    pub(super) weight: u32,
    /// Set if the store drops the entry by itself.
    pub(super) cause: Option<DepartureCause>,
}

impl<K, V> AnyNodes for Nodes<K, V>
where
    K: Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn head(&self, slot: u32) -> Option<Head> {
        let node = self.get(slot)?;
        let (has_terms, has_value, home) = (node.has_terms(), node.has_value(), node.home());
        Some(Head { stamp: node.stamp, has_terms, has_value, home })
    }

    fn key(&self, slot: u32) -> Option<&(dyn Any + Send + Sync)> {
        Some(&self.get(slot)?.key)
    }

    fn value(&self, slot: u32) -> Option<Value> {
        match &self.get(slot)?.value {
            Held::Absent(_) => None,
            Held::Inline(_, value) => Some(Value::new(value.clone())),
            Held::Shared(_, value) => Some(Value::shared(Arc::clone(value))),
        }
    }

    fn leave(
        &mut self,
        slot: u32,
        terms: Option<Arc<LiveEntryMeta>>,
        Leave { weight, cause }: Leave,
    ) -> bool {
        let Some(node) = self.slab.take(slot) else { return false };
        self.leaving.push(Gone { node, terms, weight, cause });
        true
    }

    fn leave_terms(&mut self, terms: Arc<LiveEntryMeta>) {
        if let Some(gone) = self.leaving.last() {
            gone.terms = Some(terms);
        }
    }

    fn reset(&mut self) {
        self.slab = Slab::default();
    }
}

impl<K, V> Uses for Nodes<K, V> {
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
    }
}
