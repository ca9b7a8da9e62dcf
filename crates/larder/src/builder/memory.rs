//! `mcache`: memory and nothing else.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use larder_core::clock::{Clock, SystemClock};
use larder_core::{Error, Result};
use larder_engine::Weigher;
use larder_tiers::memory::{Bound, Policy};

use super::{CAPACITY, MEMORY_BYTES, within};
use crate::Cache;
use crate::assemble::{self, MemoryPlan};

/// A cache in memory. Keys and values stay as they are: nothing is encoded,
/// and nothing is asked of serde.
///
/// The name is for people; two caches may share it.
///
/// ```
/// use std::sync::Arc;
///
/// let words = larder::mcache::<String, Arc<[u32]>>("word positions").capacity(50_000).build()?;
/// words.insert("larder".to_owned(), Arc::from([3, 14]));
/// assert_eq!(words.get("larder").map(|positions| positions.len()), Some(2));
/// # Ok::<(), larder::Error>(())
/// ```
pub fn mcache<K, V>(name: impl Into<String>) -> MemoryBuilder<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    MemoryBuilder {
        name: name.into(),
        capacity: None,
        memory_bytes: None,
        weigher: None,
        policy: Policy::default(),
        clock: Arc::new(SystemClock),
        types: PhantomData,
    }
}

/// Describes a cache in memory; made by [`mcache`].
#[must_use = "a builder does nothing until `build()`"]
pub struct MemoryBuilder<K, V> {
    name: String,
    capacity: Option<u64>,
    memory_bytes: Option<u64>,
    weigher: Option<Weigher<K, V>>,
    policy: Policy,
    clock: Arc<dyn Clock>,
    types: PhantomData<fn(K) -> V>,
}

impl<K, V> fmt::Debug for MemoryBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBuilder")
            .field("name", &self.name)
            .field("capacity", &self.capacity)
            .field("memory_bytes", &self.memory_bytes)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Entries a cache holds where nothing else is said.
const DEFAULT_CAPACITY: u64 = 10_000;

impl<K, V> MemoryBuilder<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The most entries to hold: 1 to 4,294,967,295. Default 10,000, unless
    /// [`memory_bytes`](Self::memory_bytes) is given.
    pub fn capacity(mut self, entries: u64) -> Self {
        self.capacity = Some(entries);
        self
    }

    /// The most bytes to hold: 64 KiB to 16 TiB, in place of a capacity.
    ///
    /// An entry counts with what the [`weigher`](Self::weigher) says. Without
    /// one, types that own nothing on the heap count with their size and 128
    /// bytes of overhead; for others `build()` asks for a weigher.
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = Some(bytes);
        self
    }

    /// Says how many bytes an entry counts with. Called once an insert,
    /// while the entry is being stored: it must not call the cache for the same key.
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Box::new(weigher));
        self
    }

    /// Which entries leave first when it is full. Default [`Policy::TinyLfu`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Where the time comes from. Default the wall clock of the system.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Builds the cache.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for an option that is
    /// out of its range, or when both bounds are given.
    pub fn build(mut self) -> Result<Cache<K, V>> {
        let plan = self.plan()?;
        Ok(assemble::memory_only(&self.name, plan, self.clock))
    }

    fn plan(&mut self) -> Result<MemoryPlan<K, V>> {
        let weigher = self.weigher.take();
        let (bound, weigher) = match (self.capacity, self.memory_bytes) {
            (Some(_), Some(bytes)) => {
                return Err(Error::config(
                    "memory_bytes",
                    format_args!("{bytes} beside a capacity"),
                    "one of the two",
                ));
            }
            (entries, None) => {
                let entries = entries.unwrap_or(DEFAULT_CAPACITY);
                within("capacity", entries, CAPACITY, "entries")?;
                (Bound::Entries(entries), None)
            }
            (None, Some(bytes)) => {
                within("memory_bytes", bytes, MEMORY_BYTES, "bytes")?;
                (Bound::Bytes(bytes), Some(weigher.map_or_else(|| plain_size(bytes), Ok)?))
            }
        };
        Ok(MemoryPlan { bound, policy: self.policy, weigher })
    }
}

/// Weighs types that own nothing on the heap.
fn plain_size<K, V>(given: u64) -> Result<Weigher<K, V>> {
    if std::mem::needs_drop::<K>() || std::mem::needs_drop::<V>() {
        return Err(Error::config(
            "memory_bytes",
            format_args!("{given} for types whose size is not known"),
            "with a `weigher`, or for types that own nothing on the heap",
        ));
    }
    let size = size_of::<K>() + size_of::<V>() + 128;
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    Ok(Box::new(move |_, _| size))
}
