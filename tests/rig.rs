//! An engine over tiers that obey the test.

use std::sync::Arc;
use std::time::Duration;

use larder::{
    Access, Compress, EntryOptions, Event, Kind, Persistence, Selector, Sharing, Table, Thresholds, TierKind,
};
use larder_core::codec::{Codec, Values};
use larder_core::key::NamedKeys;
use larder_core::memory::Bounds;
use larder_core::tier::Tier;
use larder_engine::wait::{Inline, block_on};
use larder_engine::{Audience, Engine, Expiry, Hints, KeptMarks, Parts, Slot, Taint, Weigh, Wire};
use larder_testkit::ManualClock;
use larder_tiers::memory::{MemoryEngine, NullStore, Policy, Store};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) type Rig = Engine<u64, String, Store<u64, String>>;

/// What an engine of a test is made of.
pub(crate) struct Plan {
    pub(crate) tiers: Vec<Arc<dyn Tier>>,
    pub(crate) memory: bool,
    pub(crate) memory_bytes: u64,
    pub(crate) persistence: Persistence,
    pub(crate) selector: Arc<dyn Selector>,
    pub(crate) clock: ManualClock,
    /// Where the marks of the tiers are, if anywhere.
    pub(crate) marks: Option<std::path::PathBuf>,
    pub(crate) audience: Option<Audience<u64>>,
    /// After what time without a poll a load is taken over.
    pub(crate) stall: Option<Duration>,
    /// How it hears of others, with whom it shares its entries then.
    #[cfg(feature = "redis")]
    pub(crate) nodes: Option<larder_engine::NodesPlan>,
}

impl Plan {
    /// Memory in front of these tiers, and entries that are to persist.
    pub(crate) fn over(tiers: Vec<Arc<dyn Tier>>) -> Self {
        Self {
            tiers,
            memory: true,
            memory_bytes: 8 << 20,
            persistence: Persistence::LongTerm,
            selector: Arc::new(Table),
            clock: ManualClock::default(),
            marks: None,
            audience: None,
            stall: None,
            #[cfg(feature = "redis")]
            nodes: None,
        }
    }

    /// With somebody who listens.
    pub(crate) fn heard_by(mut self, listener: impl FnMut(Event<u64>) + Send + 'static) -> Self {
        self.audience = Some(Audience::new(listener));
        self
    }

    pub(crate) fn without_memory(mut self) -> Self {
        self.memory = false;
        self
    }

    fn slot(&self, tier: &Arc<dyn Tier>) -> Slot {
        let mark = self.marks.as_ref().map(|dir| Taint::open(&dir.join(tier.kind().name())).unwrap());
        Slot::with(Arc::clone(tier), Arc::new(self.clock.clone()), mark)
    }

    pub(crate) fn build(self) -> Arc<Rig> {
        self.build_for()
    }

    /// The same for values of another type.
    pub(crate) fn build_for<V>(self) -> Arc<Engine<u64, V, Store<u64, V>>>
    where
        V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let wire = Wire {
            keys: Box::new(NamedKeys),
            values: Box::new(Values::<V>::new(Codec::Auto)),
            compress: Compress::None,
            schema: 0,
            selector: Arc::clone(&self.selector),
            slots: self.tiers.iter().map(|tier| self.slot(tier)).collect(),
        };
        let (memory, memory_weight_max) = match self.memory {
            true => {
                let bounds = Bounds::bytes(self.memory_bytes);
                let on_departure = self.audience.as_ref().map(Audience::on_departure);
                let store = Store::new(MemoryEngine::Sharded, bounds, Policy::Lru, on_departure);
                (store, self.memory_bytes / 2)
            }
            false => (Store::Null(NullStore), 0),
        };
        #[cfg(feature = "redis")]
        let nodes = self.nodes;
        #[cfg(not(feature = "redis"))]
        let nodes = None;
        let sharing = if nodes.is_some() { Sharing::Distributed } else { Sharing::default() };
        Engine::new(Parts {
            memory,
            memory_weight_max,
            weigh: Weigh::Measured,
            wire: (!wire.slots.is_empty()).then_some(wire),
            hints: Hints {
                kind: Kind::Other,
                persistence: self.persistence,
                access: Access::default(),
                sharing,
                home: None,
                thresholds: Thresholds::default(),
            },
            expiry: Expiry::default(),
            clock: Arc::new(self.clock),
            nodes,
            marks: KeptMarks::default(),
            stall: self.stall,
            audience: self.audience,
            dir: None,
            held: Vec::new(),
        })
    }
}

/// The value of a key, from wherever it is.
pub(crate) fn get(rig: &Arc<Rig>, key: u64) -> Option<String> {
    rig.hit(&key).or_else(|| block_on(rig.get::<Inline, u64>(&key)).unwrap())
}

pub(crate) fn insert(rig: &Arc<Rig>, key: u64, value: &str) -> larder::Result<larder::Placement> {
    block_on(rig.insert::<Inline>(key, value.to_owned(), EntryOptions::new()))
}

pub(crate) fn remove(rig: &Arc<Rig>, key: u64) -> larder::Result<bool> {
    block_on(rig.remove::<Inline, u64>(&key))
}

/// The counts of one tier.
pub(crate) fn counts(rig: &Rig, kind: TierKind) -> larder::TierCounts {
    rig.stats().tier(kind).expect("the rig has that tier").counts
}
