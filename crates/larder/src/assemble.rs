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
use std::sync::{Arc, Weak};

use larder_core::Result;
use larder_core::clock::Clock;
use larder_core::erased::Memory;
use larder_core::memory::{Bounds, OnDeparture};
use larder_core::place::{Access, Kind, Persistence, Sharing, Thresholds};
use larder_engine::{Engine, EventSink, Expiry, Hints, KeptInvalidations, Parts, STALL, Weigh, Weigher};
use larder_tiers::memory::{MemoryEngine, Policy, Store};

use crate::Cache;
use crate::options::Settings;
use crate::registry::{self, CacheKind};
use crate::typed::TypedEngine;

#[cfg(feature = "redis")]
pub(crate) use self::byte_tiers::SharedPlan;
#[cfg(feature = "_codec")]
pub(crate) use self::byte_tiers::{CodedParts, OwnTier, TieredPlan, tiered};
#[cfg(all(feature = "async", feature = "_codec"))]
pub use self::on_runtime::OnRuntime;

/// Refuses what the engine moka cannot do.
#[cfg(feature = "moka")]
fn check_moka(bounds: Bounds, policy: Policy) -> Result<()> {
    let wrong = |given, allowed| Err(larder_core::Error::config("memory_engine", given, allowed));
    if bounds.entries.is_some() && bounds.bytes.is_some() {
        return wrong("moka with `capacity` and `memory_bytes`".to_owned(), "moka with one of the two");
    }
    if !matches!(policy, Policy::Auto | Policy::TinyLfu | Policy::Lru) {
        return wrong(format!("moka with the policy {policy:?}"), "moka with Auto, TinyLfu or Lru");
    }
    Ok(())
}

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
        #[cfg(feature = "moka")]
        if engine == MemoryEngine::Moka {
            check_moka(bounds, policy)?;
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

/// Opens the memory store of a cache that is being built.
pub(crate) type OpenStore<'a> = dyn FnMut(&MemoryPlan, Option<OnDeparture>) -> Arc<dyn Memory> + 'a;

/// Builds a cache. `build` does not know its types, apart from the store that it opens.
pub(crate) fn open<K, V>(build: impl FnOnce(&mut OpenStore<'_>) -> Result<Arc<Engine>>) -> Result<Cache<K, V>>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let mut sharded = None;
    let engine = build(&mut |plan, on_departure| {
        let store = Store::new(plan.engine, plan.bounds, plan.policy, on_departure);
        sharded = store.sharded().cloned();
        Arc::clone(store.erased())
    })?;
    Ok(Cache::over(TypedEngine::new(engine, sharded)))
}

/// Names a new engine, and adds it to the registry.
fn register(engine: &Arc<Engine>, (name, kind): (&str, CacheKind)) {
    engine.set_name(name);
    #[cfg(feature = "metrics")]
    engine.set_on_last_handle(crate::metrics::publish_last);
    let cache: Weak<Engine> = Arc::downgrade(engine);
    registry::register(cache, kind);
}

/// What a memory-only cache has beside memory.
pub(crate) struct MemoryOnlyParts {
    pub(crate) expiry: Expiry,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) listener: Option<EventSink>,
    #[cfg(feature = "observe")]
    pub(crate) observer: crate::observation::ObserverParts,
}

/// Builds a memory-only cache.
pub(crate) fn memory_only(
    name: &str,
    memory: MemoryPlan,
    (parts, open): (MemoryOnlyParts, &mut OpenStore<'_>),
) -> Arc<Engine> {
    let on_departure = parts.listener.as_ref().map(EventSink::on_departure);
    #[cfg(feature = "observe")]
    let on_departure = parts.observer.on_departure(on_departure);
    let engine = Engine::new(Parts {
        memory: open(&memory, on_departure),
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
        listener: parts.listener,
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
    register(&engine, (name, CacheKind::Memory));
    #[cfg(feature = "observe")]
    parts.observer.list(&engine, CacheKind::Memory);
    engine
}

#[cfg(feature = "_codec")]
mod byte_tiers;
