//! Common parts of the scenes: an engine, its history, and counted loaders.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use larder::EntryOptions;
use larder_core::tier::Tier;
use larder_exec::runtime::{Blocking, Runtime, block_on};
use larder_testkit::history::{Act, Answer, Contract, History, Keeps, Recorder};
use larder_tiers::memory::{MemoryEngine, Policy};

use crate::director::{panic_quietly, turn};
use crate::fixtures::{Plan, TestEngine};
use crate::suspending_tier::SuspendingTier;

pub(crate) const KEY: u64 = 1;

/// The outcome of a loader.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum End {
    Value,
    Error,
    Panic,
}

/// A cache with its history and its count of loads. Clones share one state.
#[derive(Clone)]
pub(crate) struct Scenario {
    pub(crate) engine: Arc<TestEngine>,
    history: Arc<History>,
    loads: Arc<Loads>,
}

#[derive(Default)]
struct Loads {
    begun: AtomicUsize,
    running: AtomicUsize,
    at_once: AtomicUsize,
}

/// Counts a running loader until it is dropped.
struct Running<'a>(&'a Loads);

impl<'a> Running<'a> {
    fn new(loads: &'a Loads) -> (Self, usize) {
        let others = loads.running.fetch_add(1, Ordering::Relaxed);
        loads.at_once.fetch_max(others + 1, Ordering::Relaxed);
        (Self(loads), loads.begun.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Scenario {
    /// An engine with memory alone.
    pub(crate) fn memory() -> Self {
        // Hits take the shared lock of a shard; in the other scenarios, with LRU, the exclusive one.
        let memory_engine = (MemoryEngine::Sharded, Policy::S3Fifo);
        Self::of(Plan { memory_engine, ..Plan::over(vec![]) })
    }

    /// An engine with memory in front of an asynchronous tier.
    pub(crate) fn over(tier: &Arc<SuspendingTier>) -> Self {
        Self::of(Plan::over(vec![Arc::clone(tier) as Arc<dyn Tier>]))
    }

    /// An engine with an asynchronous tier, without memory.
    pub(crate) fn only(tier: &Arc<SuspendingTier>) -> Self {
        Self::of(Plan::over(vec![Arc::clone(tier) as Arc<dyn Tier>]).without_memory())
    }

    pub(crate) fn of(plan: Plan) -> Self {
        Self { engine: plan.build(), history: History::new(), loads: Arc::default() }
    }

    /// The same history with a new engine over the tier, with empty memory.
    pub(crate) fn reopened(self, tier: &Arc<SuspendingTier>) -> Self {
        Self { engine: Self::over(tier).engine, ..self }
    }

    /// Returns the number of loaders that began, and asserts that they ran one at a time. Only for
    /// scenes without changes, since a superseded loader runs beside the next one.
    pub(crate) fn loads(&self) -> usize {
        assert_eq!(self.loads.at_once.load(Ordering::Relaxed), 1, "loaders of a key at a time");
        self.loads.begun.load(Ordering::Relaxed)
    }

    fn recorder(&self) -> Recorder {
        self.history.recorder()
    }

    /// Reads the final state, and checks the history of all reads.
    pub(crate) fn judge(self) {
        block_on(self.get::<Blocking>());
        let contract = Contract { keeps: Keeps::Nothing, failures_change: true };
        self.history.check(&contract).assert_sound("an order of instructions");
    }

    pub(crate) async fn get<W: Runtime>(&self) {
        let mut recorder = self.recorder();
        let call = recorder.begin(Act::Get(KEY));
        let found = match self.engine.hit(&KEY) {
            Some(value) => Some(value),
            None => self.engine.get::<W>(&KEY).await.unwrap(),
        };
        recorder.end_with(call, found.as_ref().map(String::as_bytes));
    }

    /// Loads with a loader that succeeds.
    pub(crate) async fn load<W: Runtime>(&self) {
        assert!(self.try_load::<W>(|_| End::Value).await.is_ok());
    }

    /// Loads with a loader whose outcome depends on its number: 0 for the first, and so on.
    pub(crate) async fn try_load<W: Runtime>(&self, ends: fn(usize) -> End) -> Result<String, ()> {
        let mut recorder = self.recorder();
        let call = recorder.begin(Act::Load(KEY));
        let stamp = recorder.stamp(KEY);
        let mark = recorder.loader(call, stamp);
        let loads = Arc::clone(&self.loads);
        let loader = || async move {
            mark.begins();
            let (_running, number) = Running::new(&loads);
            turn().await;
            match ends(number) {
                End::Value => Ok(stamp.text(20)),
                End::Error => Err(()),
                End::Panic => panic_quietly(),
            }
        };
        let loaded = self.engine.try_get_with::<W, (), _, _>(KEY, loader).await;
        match &loaded {
            Ok(value) => recorder.end_with(call, Some(value.as_bytes())),
            Err(_) => recorder.end(call, Answer::Failed),
        }
        loaded.map_err(|_| ())
    }

    pub(crate) async fn insert<W: Runtime>(&self) {
        self.try_insert::<W>().await.unwrap();
    }

    pub(crate) async fn try_insert<W: Runtime>(&self) -> larder::Result<()> {
        let mut recorder = self.recorder();
        let stamp = recorder.stamp(KEY);
        let call = recorder.begin(Act::Insert(stamp));
        let done = self.engine.insert::<W>(KEY, stamp.text(20), EntryOptions::new()).await;
        recorder.end_done(call, &done);
        done.map(|_| ())
    }

    /// Removes the entry, and returns whether it existed.
    pub(crate) async fn remove<W: Runtime>(&self) -> bool {
        let mut recorder = self.recorder();
        let call = recorder.begin(Act::Remove(KEY));
        let done = self.engine.remove::<W>(&KEY).await;
        recorder.end_done(call, &done);
        done.unwrap()
    }

    pub(crate) async fn clear<W: Runtime>(&self) {
        let mut recorder = self.recorder();
        let call = recorder.begin(Act::Clear);
        let done = self.engine.clear::<W>().await;
        recorder.end_done(call, &done);
        assert!(done.is_ok());
    }
}
