//! An engine over tiers that a test controls.

use std::any::{Any, TypeId};
use std::convert::Infallible;
use std::future::Future;
use std::io::Read;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use larder::{
    Access, Compress, Entry, EntryOptions, Event, Explanation, Kind, Persistence, Placement, Result,
    Selector, Sharing, Table, Tag, Thresholds, TierKind,
};
use larder_core::codec::{Codec, ValueCodec, Values};
use larder_core::erased::{AnyError, AnyLookup, Borrowed, Key, TypedCodec, Value};
use larder_core::key::{KeyCodec, NamedKeys};
use larder_core::memory::{Bounds, OnDeparture};
use larder_core::stream::ByteValue;
use larder_core::tier::Tier;
use larder_engine::{
    Begun, BytesOf, Dictionaries, DirtyFlag, Engine, EntryReader, EventSink, Expiry, Hints,
    KeptInvalidations, Parts, StreamSource, TierHandle, TierStack, Weigh, watched,
};
use larder_exec::runtime::{Blocking, Runtime, block_on};
use larder_testkit::ManualClock;
use larder_tiers::memory::{MemoryEngine, Policy, ShardedStore, Store, null_store};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// An engine and its memory store, built as `Cache` builds them.
pub(crate) struct TestEngine<V = String>
where
    V: Clone + Send + Sync + 'static,
{
    engine: Arc<Engine>,
    memory: Option<Arc<ShardedStore<u64, V>>>,
}

/// Every memory engine with every policy that it has.
pub(crate) const MEMORY_ENGINES: [(MemoryEngine, Policy); 11] = [
    (MemoryEngine::Sharded, Policy::Auto),
    (MemoryEngine::Sharded, Policy::TinyLfu),
    (MemoryEngine::Sharded, Policy::Lru),
    (MemoryEngine::Sharded, Policy::Lfu),
    (MemoryEngine::Sharded, Policy::S3Fifo),
    (MemoryEngine::Sharded, Policy::Sieve),
    (MemoryEngine::Sharded, Policy::Fifo),
    (MemoryEngine::Sharded, Policy::Random),
    (MemoryEngine::Sharded, Policy::CostAware),
    (MemoryEngine::Moka, Policy::TinyLfu),
    (MemoryEngine::Moka, Policy::Lru),
];

/// The parts that an engine of a test is built from.
pub(crate) struct Plan {
    pub(crate) tiers: Vec<Arc<dyn Tier>>,
    pub(crate) memory: bool,
    pub(crate) memory_engine: (MemoryEngine, Policy),
    pub(crate) memory_bytes: u64,
    pub(crate) persistence: Persistence,
    pub(crate) selector: Arc<dyn Selector>,
    pub(crate) clock: ManualClock,
    /// The directory of the dirty flags of the tiers. `None` keeps no flags.
    pub(crate) dirty_flags: Option<std::path::PathBuf>,
    pub(crate) listener: Option<(EventSink, OnDeparture)>,
    /// After this time without a poll, a waiter takes over the load.
    pub(crate) stall: Option<Duration>,
    /// How this engine keeps its copies coherent with other processes.
    #[cfg(feature = "redis")]
    pub(crate) nodes: Option<larder_engine::CoherencePlan>,
}

impl Plan {
    /// A plan with memory in front of these tiers, and entries that persist.
    pub(crate) fn over(tiers: Vec<Arc<dyn Tier>>) -> Self {
        Self {
            tiers,
            memory: true,
            memory_engine: (MemoryEngine::Sharded, Policy::Lru),
            memory_bytes: 8 << 20,
            persistence: Persistence::LongTerm,
            selector: Arc::new(Table),
            clock: ManualClock::default(),
            dirty_flags: None,
            listener: None,
            stall: None,
            #[cfg(feature = "redis")]
            nodes: None,
        }
    }

    /// Adds an event listener.
    pub(crate) fn with_listener(mut self, listener: impl FnMut(Event<u64>) + Send + 'static) -> Self {
        let listener = EventSink::new(listener);
        let on_departure = listener.on_departure();
        self.listener = Some((listener, on_departure));
        self
    }

    pub(crate) fn without_memory(mut self) -> Self {
        self.memory = false;
        self
    }

    fn handle(&self, tier: &Arc<dyn Tier>) -> TierHandle {
        let dirty_flag =
            self.dirty_flags.as_ref().map(|dir| DirtyFlag::open(&dir.join(tier.kind().name())).unwrap());
        TierHandle::with(Arc::clone(tier), Arc::new(self.clock.clone()), dirty_flag)
    }

    pub(crate) fn build(self) -> Arc<TestEngine> {
        self.build_for()
    }

    /// Builds an engine for values of type `V`.
    pub(crate) fn build_for<V>(self) -> Arc<TestEngine<V>>
    where
        V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let stack = TierStack {
            keys: Box::new(TypedCodec::<Box<dyn KeyCodec<u64>>, u64>::new(Box::new(NamedKeys))),
            values: Box::new(TypedCodec::<Box<dyn ValueCodec<V>>, V>::new(Box::new(Values::new(
                Codec::Auto,
            )))),
            compress: Compress::None,
            dictionaries: Dictionaries::new(Compress::None, Arc::new(self.clock.clone())),
            schema: 0,
            selector: Arc::clone(&self.selector),
            tiers: self.tiers.iter().map(|tier| self.handle(tier)).collect(),
        };
        let (listener, on_departure) = self.listener.unzip();
        let (memory, erased, memory_weight_max) = match self.memory {
            true => {
                let bounds = Bounds::bytes(self.memory_bytes);
                let (engine, policy) = self.memory_engine;
                let store = Store::<u64, V>::new(engine, bounds, policy, on_departure);
                (store.sharded().cloned(), Arc::clone(store.erased()), self.memory_bytes / 2)
            }
            false => (None, null_store(), 0),
        };
        #[cfg(feature = "redis")]
        let nodes = self.nodes;
        #[cfg(not(feature = "redis"))]
        let nodes = None;
        let sharing = if nodes.is_some() { Sharing::Distributed } else { Sharing::default() };
        let engine = Engine::new(Parts {
            memory: erased,
            memory_weight_max,
            weigh: Weigh::Measured,
            stack: (!stack.tiers.is_empty()).then_some(stack),
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
            coherence: nodes,
            invalidations: KeptInvalidations::default(),
            stall: self.stall,
            listener,
            observer: None,
            dir: None,
            warm_restart: None,
            learned: None,
            rotation: None,
            held: Vec::new(),
        });
        Arc::new(TestEngine { engine, memory })
    }
}

impl<V: Clone + Send + Sync + 'static> Deref for TestEngine<V> {
    type Target = Arc<Engine>;

    fn deref(&self) -> &Arc<Engine> {
        &self.engine
    }
}

/// Defines operations that wait as the runtime `W` does.
macro_rules! verbs {
    ($(fn $name:ident($($argument:ident: $type:ty = $given:expr),*) -> $answer:ty = $map:expr;)+) => {$(
        pub(crate) async fn $name<W: Runtime>(&self, $($argument: $type),*) -> $answer {
            match W::IS_TASK {
                true => self.engine.tasks().$name($($given),*).await.map($map),
                false => self.engine.threads().$name($($given),*).map($map),
            }
        }
    )+};
}

fn typed<V: Clone + Send + Sync + 'static>(value: Value) -> V {
    value.into_inner().expect("a value of the engine")
}

impl<V: Clone + Send + Sync + 'static> TestEngine<V> {
    verbs! {
        fn get(key: &u64 = &Borrowed::<u64, u64>::new(key)) -> Result<Option<V>> = |value| value.map(typed);
        fn take(key: &u64 = &Borrowed::<u64, u64>::new(key)) -> Result<Option<V>> = |value| value.map(typed);
        fn contains_key(key: &u64 = &Borrowed::<u64, u64>::new(key)) -> Result<bool> = |found| found;
        fn remove(key: &u64 = &Borrowed::<u64, u64>::new(key)) -> Result<bool> = |removed| removed;
        fn inspect(key: &u64 = &Borrowed::<u64, u64>::new(key)) -> Result<Option<Entry<V>>>
            = |entry| entry.and_then(|entry| entry.and_then(Value::into_inner));
        fn explain(key: &u64 = &Borrowed::<u64, u64>::new(key)) -> Result<Explanation> = |explanation| explanation;
        fn insert(key: u64 = Key::cloneable(key), value: V = Value::new(value), options: EntryOptions = options)
            -> Result<Placement> = |placement| placement;
        fn invalidate_tags(tags: Vec<Tag> = tags) -> Result<()> = |()| ();
        fn clear() -> Result<()> = |()| ();
        fn flush() -> Result<()> = |()| ();
        fn close() -> Result<()> = |()| ();
        fn set_enabled(enabled: bool = enabled) -> Result<()> = |()| ();
    }

    pub(crate) fn keys(&self) -> Result<Vec<Arc<u64>>> {
        let own = |key: &(dyn Any + Send + Sync)| key.downcast_ref::<u64>().copied().map(Key::cloneable);
        let keys = self.engine.threads().keys(self.engine.memory().keys(own))?;
        Ok(keys.into_iter().filter_map(Key::into_shared).collect())
    }

    pub(crate) fn hit(&self, key: &u64) -> Option<V> {
        match &self.memory {
            Some(memory) => self.engine.hit(&**memory, key),
            None => self.engine.hit_of_any(&Borrowed::<u64, u64>::new(key), false).map(typed),
        }
    }

    pub(crate) async fn get_many<W: Runtime>(&self, keys: &[u64]) -> Vec<Option<V>> {
        let mut values: Vec<Option<V>> = keys.iter().map(|key| self.hit(key)).collect();
        let missing: Vec<usize> = (0..keys.len()).filter(|at| values[*at].is_none()).collect();
        let forms: Vec<Borrowed<'_, u64, u64>> = missing.iter().map(|at| Borrowed::new(&keys[*at])).collect();
        let forms: Vec<&dyn AnyLookup> = forms.iter().map(|key| key as &dyn AnyLookup).collect();
        let found = match W::IS_TASK {
            true => self.engine.tasks().get_many(&forms).await,
            false => self.engine.threads().get_many(&forms),
        };
        for (at, value) in missing.into_iter().zip(found) {
            values[at] = value.map(typed);
        }
        values
    }

    pub(crate) async fn get_with<W, F, Fut>(&self, key: u64, loader: F) -> V
    where
        W: Runtime,
        F: FnOnce() -> Fut,
        Fut: Future<Output = V>,
    {
        let loader = || async { Ok::<V, Infallible>(loader().await) };
        self.try_get_with::<W, Infallible, _, _>(key, loader).await.expect("it cannot fail")
    }

    pub(crate) async fn try_get_with<W, E, F, Fut>(&self, key: u64, loader: F) -> Result<V, Arc<E>>
    where
        W: Runtime,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        let (key, error) = (Key::new(key), TypeId::of::<E>());
        let typed_error = |error: AnyError| error.into_shared().expect("the error of the loader");
        let end = |loaded: Result<V, E>| match loaded {
            Ok(value) => Ok(Value::new(value)),
            Err(error) => Err(AnyError::new(error)),
        };
        if !W::IS_TASK {
            return match self.engine.threads().begin_load(key, error) {
                Begun::Value(value) => Ok(typed(value)),
                Begun::Failed(error) => Err(typed_error(error)),
                Begun::Load(load) => match end(load.call(|| block_on(loader()))) {
                    Ok(value) => {
                        load.finish(value.clone(), EntryOptions::new());
                        Ok(typed(value))
                    }
                    Err(error) => {
                        load.fail(error.clone());
                        Err(typed_error(error))
                    }
                },
            };
        }
        let watch = self.engine.tasks().watch();
        let call = async {
            match self.engine.tasks().begin_load(key, error, watch.clone()).await {
                Begun::Value(value) => Ok(typed(value)),
                Begun::Failed(error) => Err(typed_error(error)),
                Begun::Load(load) => match end(load.run(async { loader().await }).await) {
                    Ok(value) => {
                        load.finish_task(value.clone(), EntryOptions::new()).await;
                        Ok(typed(value))
                    }
                    Err(error) => {
                        load.fail(error.clone());
                        Err(typed_error(error))
                    }
                },
            }
        };
        watched(watch.clone(), Box::pin(call)).await
    }
}

impl<V: ByteValue + Clone + Send + Sync + 'static> TestEngine<V> {
    pub(crate) fn insert_from(&self, key: u64, reader: &mut dyn Read) -> Result<Placement> {
        let value_of = |bytes| Value::new(V::from_bytes(bytes));
        self.engine.threads().insert_from(Key::new(key), StreamSource { reader, value_of })
    }

    pub(crate) fn open(&self, key: &u64) -> Result<Option<EntryReader>> {
        let bytes_of: BytesOf = |value| typed::<V>(value).into_bytes();
        self.engine.threads().open(&Borrowed::<u64, u64>::new(key), bytes_of)
    }
}

/// Reads the value of a key from memory or any tier.
pub(crate) fn get(engine: &Arc<TestEngine>, key: u64) -> Option<String> {
    engine.hit(&key).or_else(|| block_on(engine.get::<Blocking>(&key)).unwrap())
}

pub(crate) fn insert(engine: &Arc<TestEngine>, key: u64, value: &str) -> larder::Result<larder::Placement> {
    block_on(engine.insert::<Blocking>(key, value.to_owned(), EntryOptions::new()))
}

pub(crate) fn remove(engine: &Arc<TestEngine>, key: u64) -> larder::Result<bool> {
    block_on(engine.remove::<Blocking>(&key))
}

/// Returns the counts of one tier.
pub(crate) fn counts(engine: &TestEngine, kind: TierKind) -> larder::TierCounts {
    engine.stats().tier(kind).expect("the engine has that tier").counts
}
