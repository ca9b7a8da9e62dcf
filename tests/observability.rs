//! Spans, latencies and statistics of a cache. Events have a file of their own.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use larder::{EntryOptions, ErrorKind, MemoryEngine, Persistence, Policy, TierKind, bcache, mcache};
use larder_core::tier::Tier;
use larder_exec::runtime::{Blocking, block_on};
use larder_testkit::{FaultyTier, HashMapTier, Operation, Times};
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_core::span::Current;

use crate::fixtures::{Plan, get, insert, remove};

/// A span that was opened.
#[derive(Clone, Debug)]
struct Opened {
    name: &'static str,
    level: Level,
    metadata: &'static Metadata<'static>,
    parent: Option<u64>,
    fields: HashMap<&'static str, String>,
}

/// A subscriber that keeps every span.
#[derive(Clone, Default)]
struct Spans {
    opened: Arc<Mutex<Vec<Opened>>>,
    entered: Arc<Mutex<HashMap<std::thread::ThreadId, Vec<u64>>>>,
}

impl Spans {
    /// Returns the spans that `work` opens on its own thread.
    fn of(work: impl FnOnce()) -> Vec<Opened> {
        let spans = Self::default();
        tracing::subscriber::with_default(spans.clone(), work);
        let opened = spans.opened.lock();
        opened.clone()
    }
}

struct Fields<'a>(&'a mut HashMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("larder")
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let metadata = attributes.metadata();
        let mut fields = HashMap::new();
        attributes.record(&mut Fields(&mut fields));
        let parent =
            self.entered.lock().get(&std::thread::current().id()).and_then(|ids| ids.last().copied());
        let mut opened = self.opened.lock();
        opened.push(Opened { name: metadata.name(), level: *metadata.level(), metadata, parent, fields });
        Id::from_u64(opened.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut opened = self.opened.lock();
        values.record(&mut Fields(&mut opened[span.into_u64() as usize - 1].fields));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn current_span(&self) -> Current {
        let entered = self.entered.lock();
        let Some(id) = entered.get(&std::thread::current().id()).and_then(|ids| ids.last()) else {
            return Current::none();
        };
        Current::new(Id::from_u64(*id), self.opened.lock()[*id as usize - 1].metadata)
    }

    fn enter(&self, span: &Id) {
        self.entered.lock().entry(std::thread::current().id()).or_default().push(span.into_u64());
    }

    fn exit(&self, _: &Id) {
        self.entered.lock().entry(std::thread::current().id()).or_default().pop();
    }
}

fn names(spans: &[Opened]) -> Vec<&str> {
    spans.iter().map(|span| span.name).collect()
}

/// Each call of a tier as `operation outcome`.
fn calls(spans: &[Opened]) -> Vec<String> {
    let tier = spans.iter().filter(|span| span.name == "larder.tier");
    tier.map(|span| format!("{} {}", span.fields["operation"], span.fields["outcome"])).collect()
}

#[test]
fn hit_opens_no_span_and_load_opens_one() {
    let cache = mcache::<String, u64>("traced").build().unwrap();
    let spans = Spans::of(|| {
        assert_eq!(cache.get("secret"), None);
        cache.get_with("secret".to_owned(), || 7);
    });
    assert_eq!(names(&spans), ["larder.load"]);
    let load = &spans[0];
    assert_eq!((load.level, load.metadata.target()), (Level::DEBUG, "larder"));
    assert_eq!((load.fields["cache"].as_str(), load.fields["outcome"].as_str()), ("traced", "loaded"));
    assert_eq!(load.fields["key"].len(), 16, "{load:?}");
    assert!(!format!("{spans:?}").contains("secret"));
    let spans = Spans::of(|| {
        for _ in 0..100 {
            assert_eq!(cache.get("secret"), Some(7));
            assert_eq!(cache.get_with("secret".to_owned(), || 8), 7);
            assert_eq!(cache.get_many(&["secret".to_owned()]), [Some(7)]);
        }
    });
    assert!(spans.is_empty(), "{spans:?}");
}

#[test]
fn each_load_operation_opens_one_span_with_its_outcome() {
    let cache = mcache::<u64, u64>("ways").build().unwrap();
    let spans = Spans::of(|| {
        cache.try_get_with(1, || Err::<u64, _>("away")).unwrap_err();
        cache.load(2, |_| Ok::<_, String>(2)).unwrap();
        cache.get_many_with([3, 4], |keys| keys.into_iter().map(|key| (key, key)).collect::<Vec<_>>());
        cache.close().unwrap();
        cache.get_with(5, || 5);
    });
    assert_eq!(names(&spans), ["larder.load"; 4]);
    let outcomes: Vec<_> = spans.iter().map(|span| span.fields["outcome"].as_str()).collect();
    assert_eq!(outcomes, ["failed", "loaded", "loaded", "loaded"]);
}

#[test]
fn each_tier_call_opens_one_span() {
    let disk = FaultyTier::new(HashMapTier::new());
    let engine = Plan::over(vec![Arc::new(disk.clone()) as Arc<dyn Tier>]).without_memory().build();
    engine.set_name("spanned");
    let spans = Spans::of(|| {
        insert(&engine, 1, "one").unwrap();
        assert!(get(&engine, 1).is_some() && get(&engine, 2).is_none());
        remove(&engine, 1).unwrap();
    });
    assert_eq!(calls(&spans), ["put stored", "get hit", "get miss", "remove removed"]);
    for span in &spans {
        assert_eq!((span.level, span.metadata.target()), (Level::TRACE, "larder"));
        assert_eq!((span.fields["cache"].as_str(), span.fields["tier"].as_str()), ("spanned", "disk"));
        assert_eq!(span.fields["key"].len(), 32);
    }
    disk.fail(Operation::Get, Times::Next(1), ErrorKind::Io);
    let spans = Spans::of(|| assert!(block_on(engine.get::<Blocking>(&1)).is_err()));
    assert_eq!(calls(&spans), ["get failed"]);
    let spans = Spans::of(|| drop(block_on(engine.get_many::<Blocking>(&[1, 2, 3]))));
    assert_eq!((calls(&spans), spans[0].fields["keys"].as_str()), (vec!["get_many done".to_owned()], "3"));
}

#[test]
fn repair_opens_a_span_around_its_tier_calls() {
    let disk = FaultyTier::new(HashMapTier::new());
    let plan = Plan::over(vec![Arc::new(disk.clone()) as Arc<dyn Tier>]).without_memory();
    let clock = plan.clock.clone();
    let engine = plan.build();
    insert(&engine, 1, "one").unwrap();
    disk.fail(Operation::Remove, Times::Next(1), ErrorKind::Io);
    assert!(remove(&engine, 1).is_err());
    clock.advance(std::time::Duration::from_secs(60));
    let spans = Spans::of(|| drop(get(&engine, 2)));
    let repair = spans.iter().position(|span| span.name == "larder.repair").expect("it repairs") as u64 + 1;
    let inside: Vec<_> = spans.iter().filter(|span| span.parent == Some(repair)).cloned().collect();
    assert_eq!(calls(&inside), ["remove removed"]);
}

#[test]
fn span_of_a_loader_is_a_child_of_the_load_span() {
    let cache = mcache::<u64, u64>("nested").build().unwrap();
    let spans = Spans::of(|| {
        cache.get_with(1, || cache.get_with(2, || 2));
    });
    assert_eq!(spans.iter().map(|span| span.parent).collect::<Vec<_>>(), [None, Some(1)]);
}

/// Under nextest this test has its own process. Elsewhere a subscriber may already be set.
#[test]
fn spans_of_a_blocking_thread_are_children_of_the_calling_task() {
    let spans = Spans::default();
    if tracing::subscriber::set_global_default(spans.clone()).is_err() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let cache =
        bcache::<u64, String>("async spans").dir(dir.path()).memory_bytes(0).build().unwrap().to_async();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    runtime.block_on(async {
        use tracing::Instrument;
        cache.insert(1, "one".to_owned()).await;
        let asked = tracing::info_span!(target: "larder test", "request");
        assert!(cache.get(&1).instrument(asked).await.is_some());
        cache.close().await.unwrap();
    });
    let opened = spans.opened.lock();
    let request = opened.iter().position(|span| span.name == "request").unwrap() as u64 + 1;
    let children: Vec<_> = opened.iter().filter(|span| span.parent == Some(request)).cloned().collect();
    assert_eq!(calls(&children), ["get hit"]);
}

#[test]
fn latency_is_measured_for_loads_and_tiers_but_not_for_memory() {
    let dir = tempfile::tempdir().unwrap();
    let cache =
        bcache::<u64, String>("timed").dir(dir.path()).persistence(Persistence::LongTerm).build().unwrap();
    for key in 0..10 {
        cache.get_with(key % 5, || "value".to_owned());
    }
    cache.insert_with(7, "seven".to_owned(), EntryOptions::new());
    cache.remove(&7);
    let stats = cache.stats();
    assert_eq!(stats.load_latency.count(), 5);
    assert!(stats.load_latency.p50() <= stats.load_latency.max());
    let disk = &stats.tier(TierKind::Disk).unwrap().latency;
    assert_eq!((disk.get.count(), disk.put.count(), disk.remove.count()), (5, 6, 1));
    assert!(disk.put.mean() > std::time::Duration::ZERO && disk.put.sum() >= disk.put.max());
    let memory = &stats.tier(TierKind::Memory).unwrap().latency;
    assert_eq!(memory, &larder::TierLatency::default());
    let shown = stats.to_string();
    assert!(shown.contains("loads ") && shown.contains("disk put ") && shown.contains("p999"), "{shown}");
    cache.close().unwrap();
}

#[test]
fn latency_excludes_calls_refused_by_the_breaker() {
    let disk = FaultyTier::new(HashMapTier::new());
    let engine = Plan::over(vec![Arc::new(disk.clone()) as Arc<dyn Tier>]).without_memory().build();
    disk.fail(Operation::Get, Times::Forever, ErrorKind::Io);
    (0..20).for_each(|_| assert!(block_on(engine.get::<Blocking>(&1)).is_err()));
    assert_eq!(engine.stats().tier(TierKind::Disk).unwrap().latency.get.count(), 5);
}

#[test]
fn statistics_and_explanations_name_the_engine_and_the_policy_of_memory() {
    let cache = mcache::<u8, u8>("facts").policy(Policy::Lru).build().unwrap();
    cache.insert(1, 1);
    let facts = cache.stats().tier(TierKind::Memory).unwrap().memory.unwrap();
    assert_eq!((facts.engine, facts.policy), ("sharded", "lru"));
    assert!(cache.stats().to_string().contains("engine sharded, policy lru"), "{}", cache.stats());
    let explanation = cache.explain(&1).unwrap();
    assert_eq!(explanation.memory, Some(facts));
    assert!(explanation.to_string().contains("in memory by engine sharded, policy lru"), "{explanation}");
    let moka = mcache::<u8, u8>("moka").memory_engine(MemoryEngine::Moka).build().unwrap();
    let facts = moka.stats().tier(TierKind::Memory).unwrap().memory.unwrap();
    assert_eq!((facts.engine, facts.policy), ("moka", "tiny_lfu"), "moka has no `Auto`");
    let dir = tempfile::tempdir().unwrap();
    let none = bcache::<u8, u8>("none").dir(dir.path()).memory_bytes(0).build().unwrap();
    none.insert(1, 1);
    assert_eq!(none.explain(&1).unwrap().memory, None);
}

#[test]
fn quantiles_of_a_latency_are_in_order() {
    let cache = mcache::<u64, u64>("quantiles").build().unwrap();
    for key in 0..1000 {
        cache.get_with(key, || key);
    }
    let latency = cache.stats().load_latency;
    let quantiles = [latency.p50(), latency.p90(), latency.p99(), latency.p999(), latency.max()];
    assert!(quantiles.is_sorted() && !quantiles[0].is_zero(), "{quantiles:?}");
    assert_eq!((latency.p90(), latency.p999()), (latency.quantile(0.9), latency.quantile(0.999)));
}
