//! Assembles a cache from tiers and an engine; no other module uses both.

#[cfg(feature = "_codec")]
mod learned;
#[cfg(feature = "_codec")]
pub(crate) mod objects;
#[cfg(all(feature = "async", feature = "_codec"))]
mod on_runtime;
#[cfg(feature = "_codec")]
mod read_only;

use std::hash::Hash;
use std::sync::Arc;

use larder_core::clock::Clock;
use larder_core::events::Event;
use larder_core::memory::{Bounds, OnDeparture};
use larder_core::place::{Access, Kind, Persistence, Sharing, Thresholds};
use larder_core::{Error, Result};
use larder_engine::{Engine, EventSink, Expiry, Hints, KeptInvalidations, Parts, STALL, Weigh, Weigher};
use larder_tiers::memory::{MemoryEngine, Policy, Store};

use crate::Cache;
use crate::options::Settings;
use crate::registry::CacheKind;
use crate::typed::erased;

#[cfg(feature = "redis")]
pub(crate) use self::byte_tiers::SharedPlan;
#[cfg(feature = "_codec")]
pub(crate) use self::byte_tiers::{OwnTier, TieredPlan, TypedParts, tiered};
#[cfg(all(feature = "async", feature = "_codec"))]
pub use self::on_runtime::OnRuntime;

/// The configuration of the memory tier.
pub(crate) struct MemoryPlan {
    pub(crate) bounds: Bounds,
    pub(crate) engine: MemoryEngine,
    pub(crate) policy: Policy,
    pub(crate) weigher: Option<Weigher>,
}

impl MemoryPlan {
    /// Derives the plan from the settings.
    pub(crate) fn new(bounds: Bounds, settings: &Settings, weigher: Option<Weigher>) -> Result<Self> {
        let engine = settings.memory_engine.unwrap_or_default();
        let policy = settings.policy.unwrap_or_default();
        if engine == MemoryEngine::Moka {
            if bounds.entries.is_some() && bounds.bytes.is_some() {
                let given = "moka with `capacity` and `memory_bytes`";
                return Err(Error::config("memory_engine", given, "moka with one of the two"));
            }
            if !matches!(policy, Policy::Auto | Policy::TinyLfu | Policy::Lru) {
                let given = format_args!("moka with the policy {policy:?}");
                return Err(Error::config("memory_engine", given, "moka with Auto, TinyLfu or Lru"));
            }
        }
        Ok(Self { bounds, engine, policy, weigher })
    }

    /// The plan for a cache with tiers. A selector that learns tells what a hit saves, so memory evicts by that
    /// if no policy is chosen.
    #[cfg(feature = "_codec")]
    pub(crate) fn among_tiers(self, settings: &Settings) -> Self {
        let learns = settings.selector.as_ref().is_some_and(crate::options::SelectorChoice::learns);
        let is_free = settings.policy.is_none() && self.engine == MemoryEngine::Sharded;
        let policy = if learns && is_free { Policy::CostAware } else { self.policy };
        Self { policy, ..self }
    }

    fn store<K, V>(&self, on_departure: Option<OnDeparture<K>>) -> Arc<Store<K, V>>
    where
        K: Hash + Eq + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        Arc::new(Store::new(self.engine, self.bounds, self.policy, on_departure))
    }

    /// The largest weight of one entry.
    fn weight_max(&self) -> u64 {
        larder_engine::weight_max(self.bounds)
    }

    fn weigh(self) -> Weigh {
        match (self.weigher, self.bounds.bytes) {
            (Some(weigher), _) => Weigh::By(weigher),
            (None, None) => Weigh::Entry,
            (None, Some(_)) => Weigh::Measured,
        }
    }
}

/// The listener of a cache with keys `K`.
pub(crate) struct ListenerParts<K> {
    listener: EventSink,
    on_departure: OnDeparture<K>,
}

impl<K> ListenerParts<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    pub(crate) fn new(listener: impl FnMut(Event<K>) + Send + 'static) -> Self {
        let listener = EventSink::new(listener);
        let on_departure = listener.on_departure();
        Self { listener, on_departure }
    }
}

impl<K> ListenerParts<K> {
    fn parts(listener: Option<Self>) -> (Option<EventSink>, Option<OnDeparture<K>>) {
        listener.map(|Self { listener, on_departure }| (listener, on_departure)).unzip()
    }
}

/// What a memory-only cache has beside memory.
pub(crate) struct MemoryOnlyParts<K> {
    pub(crate) expiry: Expiry,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) listener: Option<ListenerParts<K>>,
    #[cfg(feature = "observe")]
    pub(crate) observer: crate::observation::ObserverParts,
}

/// Builds a memory-only cache.
pub(crate) fn memory_only<K, V>(name: &str, memory: MemoryPlan, parts: MemoryOnlyParts<K>) -> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let (listener, on_departure) = ListenerParts::parts(parts.listener);
    #[cfg(feature = "observe")]
    let on_departure = parts.observer.on_departure(on_departure);
    let store = memory.store(on_departure);
    let engine = Engine::new(Parts {
        memory: erased(&store),
        memory_weight_max: memory.weight_max(),
        weigh: memory.weigh(),
        stack: None,
        hints: Hints {
            kind: Kind::Other,
            persistence: Persistence::default(),
            access: Access::default(),
            sharing: Sharing::default(),
            home: None,
            thresholds: Thresholds::default(),
        },
        expiry: parts.expiry,
        clock: parts.clock,
        coherence: None,
        invalidations: KeptInvalidations::default(),
        stall: Some(STALL),
        listener,
        #[cfg(feature = "observe")]
        observer: parts.observer.observer.clone(),
        #[cfg(not(feature = "observe"))]
        observer: None,
        dir: None,
        warm_restart: None,
        learned: None,
        rotation: None,
        held: Vec::new(),
    });
    let cache = Cache::register(engine, store, (name, CacheKind::Memory));
    #[cfg(feature = "observe")]
    parts.observer.list(&cache.inner.engine, CacheKind::Memory);
    cache
}

#[cfg(feature = "_codec")]
mod byte_tiers;
