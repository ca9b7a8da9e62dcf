//! Stores of native keys and values: the engines of the memory tier.

#[cfg(feature = "moka")]
mod ledger;
#[cfg(feature = "moka")]
mod moka;
mod null;
mod order;
mod policy;
mod sharded;

use std::hash::Hash;
use std::sync::Arc;

use larder_core::erased::Memory;
use larder_core::memory::{Bounds, OnDeparture};

pub use self::null::null_store;
pub use self::policy::Policy;
pub use self::sharded::ShardedStore;

/// The engine of the memory tier.
///
/// The default is [`Sharded`](MemoryEngine::Sharded).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemoryEngine {
    /// Larder's own engine: a sharded table with every [`Policy`] and exact accounting. It evicts and drops
    /// values within the call that causes it.
    #[default]
    Sharded,
    /// The crate moka, with W-TinyLFU or LRU. It evicts and drops values in later calls, has one limit, which
    /// cannot be changed, and every look-up counts as a use. Needs the feature `moka`, which is on by default.
    #[cfg(feature = "moka")]
    Moka,
}

/// The memory store of a cache: one of the engines, chosen when the cache is built.
pub struct Store<K, V> {
    /// The store without its types.
    erased: Arc<dyn Memory>,
    /// The store with its types, if it is Larder's own.
    sharded: Option<Arc<ShardedStore<K, V>>>,
}

impl<K, V> Store<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Creates a store with this engine. It calls `on_departure` for each record that it drops by itself.
    pub fn new(
        engine: MemoryEngine,
        bounds: Bounds,
        policy: Policy,
        on_departure: Option<OnDeparture>,
    ) -> Self {
        match engine {
            #[cfg(feature = "moka")]
            MemoryEngine::Moka => Self { erased: moka::open(bounds, policy, on_departure), sharded: None },
            MemoryEngine::Sharded => {
                let store = Arc::new(ShardedStore::with(bounds, policy, on_departure));
                Self { erased: Arc::clone(&store).erased(), sharded: Some(store) }
            }
        }
    }

    /// The store without its types.
    pub fn erased(&self) -> &Arc<dyn Memory> {
        &self.erased
    }

    /// The store with its types, if it is Larder's own.
    pub fn sharded(&self) -> Option<&Arc<ShardedStore<K, V>>> {
        self.sharded.as_ref()
    }
}
