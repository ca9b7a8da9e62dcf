//! Events: each kind is emitted for its cause, and no listener slows callers down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use larder::events::{Cause, Event, Extent, Line, Writer};
use larder::{Cache, ErrorKind, MemoryEngine, TierKind, bcache, fcache, mcache, ucache};
use larder_core::tier::Tier;
use larder_exec::runtime::{Blocking, block_on};
use larder_testkit::{FaultyTier, HashMapTier, ManualClock, MapStorage, Operation, Times};

use crate::fixtures::{Plan, TestEngine, get, insert, remove};

const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any backoff of a breaker.
const LONG: Duration = Duration::from_secs(60);

/// The events that a listener received.
struct Ear<K>(Receiver<Event<K>>);

impl<K> Ear<K> {
    fn next(&self) -> Event<K> {
        self.0.recv_timeout(PATIENCE).expect("there is another event")
    }

    fn names(&self, count: usize) -> Vec<&'static str> {
        (0..count).map(|_| self.next().name()).collect()
    }

    /// Skips events until one matches `wanted`, and returns it.
    fn until(&self, wanted: impl Fn(&Event<K>) -> bool) -> Event<K> {
        std::iter::repeat_with(|| self.next()).find(wanted).expect("it repeats for ever")
    }

    /// Returns all remaining events, once the cache is closed.
    fn rest(self) -> Vec<Event<K>> {
        self.0.iter().collect()
    }
}

fn ear<K: Send + Sync + 'static>() -> (impl FnMut(Event<K>) + Send + 'static, Ear<K>) {
    let (sender, events) = channel();
    (move |event| drop(sender.send(event)), Ear(events))
}

fn inserted(key: u64, home: TierKind, by: Writer) -> Event<u64> {
    Event::Inserted { key: Arc::new(key), home, by }
}

#[test]
fn changes_by_callers_and_loads_are_emitted_in_order() {
    let (listener, ear) = ear();
    let cache = mcache::<u64, u64>("heard").on_event(listener).build().unwrap();
    cache.insert(1, 1);
    assert_eq!(cache.get(&1), Some(1));
    cache.get_with(2, || 2);
    assert!(cache.remove(&2));
    assert!(!cache.remove(&2), "nothing there, nothing to tell");
    assert!(cache.insert_if_absent(3, 3).unwrap());
    cache.increment(3, 1, 0).unwrap();
    assert_eq!(cache.take(&3).unwrap(), Some(4));
    cache.invalidate_tag("t").unwrap();
    cache.invalidate_all().unwrap();
    cache.clear().unwrap();
    cache.close().unwrap();
    let memory = TierKind::Memory;
    let removed = |key| Event::Removed { key: Arc::new(key) };
    let expected = [
        inserted(1, memory, Writer::Caller),
        inserted(2, memory, Writer::Load),
        removed(2),
        inserted(3, memory, Writer::Caller),
        inserted(3, memory, Writer::Caller),
        removed(3),
        Event::Invalidated(Extent::Tag("t".into())),
        Event::Invalidated(Extent::All),
        Event::Invalidated(Extent::Cleared),
    ];
    assert_eq!(ear.rest(), expected);
}

#[test]
fn invalidated_entry_is_named() {
    let (listener, ear) = ear();
    let cache = mcache::<u64, u64>("one").on_event(listener).stale(LONG).build().unwrap();
    cache.insert(1, 1);
    cache.invalidate(&1).unwrap();
    cache.close().unwrap();
    let (key, tier) = (Arc::new(1), TierKind::Memory);
    let expected = [Event::Invalidated(Extent::Key(Arc::clone(&key))), Event::Expired { key, tier }];
    assert_eq!(ear.rest()[1..], expected, "what served as stale goes with the end");
}

#[test]
fn expired_entry_emits_one_event() {
    let clock = ManualClock::default();
    let (listener, ear) = ear();
    let builder = mcache::<u64, u64>("old").ttl(Duration::from_secs(1)).clock(clock.clone());
    let cache = builder.on_event(listener).build().unwrap();
    let expired = |key| Event::Expired { key: Arc::new(key), tier: TierKind::Memory };
    (0..3).for_each(|key| cache.insert(key, 1));
    assert_eq!(ear.names(3), ["inserted"; 3]);
    clock.advance(Duration::from_secs(2));
    assert_eq!((cache.get(&0), cache.get(&0)), (None, None));
    assert_eq!(ear.next(), expired(0), "by a look-up");
    assert_eq!(cache.sweep(), 2);
    let mut swept: Vec<u64> = (0..2).map(|_| *ear.next().key().unwrap()).collect();
    swept.sort_unstable();
    assert_eq!(swept, [1, 2], "by a sweep");
    cache.insert(7, 1);
    clock.advance(Duration::from_secs(2));
    cache.get_with(7, || 2);
    cache.close().unwrap();
    let rest = ear.rest();
    assert_eq!(rest[1..], [expired(7), inserted(7, TierKind::Memory, Writer::Load)], "by a load");
}

#[test]
fn eviction_from_memory_names_key_and_home() {
    let (listener, ear) = ear();
    let cache = mcache::<u64, u64>("small").capacity(10).on_event(listener).build().unwrap();
    (0..100).for_each(|key| cache.insert(key, key));
    let evicted = cache.stats().tiers[0].usage.evictions;
    cache.close().unwrap();
    let gone = ear.rest().into_iter().filter(|event| event.name() == "evicted").inspect(|event| {
        let Event::Evicted { key: Some(_), count: 1, tier, home, bytes, cause } = event else {
            panic!("{event:?}")
        };
        assert_eq!((*tier, *home, *cause), (TierKind::Memory, TierKind::Memory, Cause::Capacity));
        assert_eq!(*bytes, None, "entries are counted, not weighed");
    });
    assert_eq!((evicted, gone.count()), (90, 90));
}

#[test]
fn eviction_from_memory_names_the_bytes_where_they_are_bounded() {
    for engine in [MemoryEngine::Sharded, MemoryEngine::Moka] {
        let (listener, ear) = ear();
        let builder = mcache::<u64, u64>("weighed").memory_bytes(64 << 10).memory_engine(engine);
        let cache = builder.weigher(|key, _| 10_000 + *key as u32).on_event(listener).build().unwrap();
        (0..20).for_each(|key| cache.insert(key, key));
        cache.close().unwrap();
        let mut evicted = 0;
        for event in ear.rest() {
            if let Event::Evicted { key: Some(key), bytes, .. } = event {
                assert_eq!(bytes, Some(10_000 + *key), "{engine:?}");
                evicted += 1;
            }
        }
        assert!(evicted >= 14, "{engine:?}: {evicted}");
    }
}

#[test]
fn entry_that_a_capacity_of_zero_refuses_is_emitted_as_evicted() {
    let (listener, ear) = ear();
    let cache = mcache::<u64, u64>("refused").capacity(0).on_event(listener).build().unwrap();
    cache.insert(1, 1);
    assert_eq!(cache.get_with(2, || 2), 2);
    cache.close().unwrap();
    let names: Vec<_> = ear.rest().iter().map(Event::name).collect();
    assert_eq!(names, ["inserted", "evicted", "inserted", "evicted"]);
}

#[test]
fn evictions_from_disk_and_files_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    for kind in [TierKind::Disk, TierKind::File] {
        let (listener, ear) = ear();
        let builder = match kind {
            TierKind::Disk => bcache::<u64, larder::Bytes>("many"),
            _ => fcache::<u64, larder::Bytes>("many"),
        };
        let cache = builder.dir(dir.path().join(kind.name())).disk_bytes(16 << 20).on_event(listener);
        let cache = cache.compress(larder::Compress::None).build().unwrap();
        for key in 0..80 {
            cache.insert(key, fastrand::u128(..).to_ne_bytes().repeat(16 << 10).into());
        }
        cache.flush().unwrap();
        let evicted = cache.stats().tier(kind).unwrap().usage.evictions;
        cache.close().unwrap();
        let told = ear.rest().into_iter().filter_map(|event| match event {
            Event::Evicted { key: None, count, tier, home, bytes: None, cause: Cause::Capacity } => {
                Some((count, tier == kind && home == kind))
            }
            _ => None,
        });
        let (counts, right): (Vec<u64>, Vec<bool>) = told.unzip();
        assert!(evicted > 0 && counts.iter().sum::<u64>() >= evicted, "{kind}: {counts:?} of {evicted}");
        assert!(right.into_iter().all(|right| right));
    }
}

struct Bench {
    disk: FaultyTier<HashMapTier>,
    clock: ManualClock,
    engine: Arc<TestEngine>,
    ear: Ear<u64>,
}

/// An engine with a listener over a controlled disk tier and a file tier, with empty memory.
fn bench(kept: &[(u64, &str)]) -> Bench {
    let disk = FaultyTier::new(HashMapTier::on(&MapStorage::default()));
    let file = FaultyTier::new(HashMapTier::on(&MapStorage::default()).with_kind(TierKind::File));
    let tiers = || vec![Arc::new(disk.clone()) as Arc<dyn Tier>, Arc::new(file.clone()) as Arc<dyn Tier>];
    let before = Plan::over(tiers()).build();
    for (key, value) in kept {
        insert(&before, *key, value).unwrap();
    }
    let (listener, ear) = ear();
    let plan = Plan::over(tiers());
    let clock = plan.clock.clone();
    Bench { disk, clock, engine: plan.with_listener(listener).build(), ear }
}

#[test]
fn promotions_and_moves_are_emitted() {
    let Bench { engine, ear, .. } = bench(&[(1, "small")]);
    assert_eq!(get(&engine, 1).as_deref(), Some("small"));
    insert(&engine, 1, &"x".repeat(2 << 20)).unwrap();
    let (key, disk, file) = (Arc::new(1), TierKind::Disk, TierKind::File);
    assert_eq!(ear.next(), Event::Promoted { key: Arc::clone(&key), from: disk });
    assert_eq!(ear.next(), Event::Moved { key, from: disk, to: file });
    assert_eq!(ear.next(), inserted(1, file, Writer::Caller));
}

#[test]
fn expired_or_torn_entry_in_a_lower_tier_is_emitted() {
    let Bench { disk, engine, ear, .. } = bench(&[(1, "torn")]);
    let key = larder_core::key::EncodedKey::new(vec![1]);
    let foreign =
        larder_testkit::sample::frame(&larder_core::key::EncodedKey::new(vec![2]), vec![7; 9].into());
    block_on(disk.inner().put(&key, &foreign)).unwrap();
    assert_eq!(get(&engine, 1), None);
    let (count, tier) = (1, TierKind::Disk);
    let refused = Event::Evicted {
        key: Some(Arc::new(1)),
        count,
        tier,
        home: tier,
        bytes: None,
        cause: Cause::Refused,
    };
    assert_eq!(ear.next(), refused);

    let dir = tempfile::tempdir().unwrap();
    let (clock, (listener, ear)) = (ManualClock::default(), self::ear());
    let builder = bcache::<u64, String>("old").dir(dir.path()).memory_bytes(0);
    let cache = builder.ttl(LONG).clock(clock.clone()).on_event(listener).build().unwrap();
    cache.insert(1, "old".to_owned());
    clock.advance(LONG);
    assert_eq!(cache.get(&1), None);
    cache.close().unwrap();
    assert_eq!(ear.rest()[1..], [Event::Expired { key: Arc::new(1), tier }]);
}

#[test]
fn tier_down_and_up_are_emitted_per_line() {
    let Bench { disk, clock, engine, ear } = bench(&[(1, "one")]);
    let tier = TierKind::Disk;
    disk.fail(Operation::Get, Times::Forever, ErrorKind::Io);
    (0..9).for_each(|_| assert!(block_on(engine.get::<Blocking>(&1)).is_err()));
    assert_eq!(ear.next(), Event::TierDown { tier, line: Line::Reads });
    disk.heal();
    clock.advance(LONG);
    assert_eq!(get(&engine, 1).as_deref(), Some("one"));
    assert_eq!(ear.next(), Event::TierUp { tier, line: Line::Reads });
    disk.fail(Operation::Put, Times::Forever, ErrorKind::Full);
    (0..5).for_each(|_| assert!(insert(&engine, 2, "two").is_err()));
    ear.until(|event| *event == Event::TierDown { tier, line: Line::Writes });
}

#[test]
fn retried_removals_are_emitted_as_repairs() {
    let Bench { disk, clock, engine, ear } = bench(&[(1, "one"), (2, "two")]);
    disk.fail(Operation::Remove, Times::Next(1), ErrorKind::Io);
    assert!(remove(&engine, 1).is_err());
    clock.advance(LONG);
    assert_eq!(get(&engine, 2).as_deref(), Some("two"));
    assert_eq!(ear.next(), Event::Repaired { key: Some(Arc::new(1)), tier: TierKind::Disk });
    disk.fail(Operation::Clear, Times::Next(1), ErrorKind::Io);
    assert!(block_on(engine.clear::<Blocking>()).is_err());
    clock.advance(LONG);
    assert_eq!(get(&engine, 2), None);
    ear.until(|event| *event == Event::Repaired { key: None, tier: TierKind::Disk });
}

#[test]
fn dropped_writes_are_emitted_with_the_reason() {
    let (listener, ear) = ear();
    let cache = mcache::<u64, u64>("off").on_event(listener).build().unwrap();
    cache.set_enabled(false).unwrap();
    cache.insert(1, 1);
    let key = Arc::new(1);
    assert_eq!(ear.next(), Event::Dropped { key: Arc::clone(&key), why: ErrorKind::Unavailable });
    cache.set_enabled(true).unwrap();
    let options = larder::EntryOptions::new().tag("t".repeat(5000));
    assert!(cache.try_insert_with(1, 1, options).is_err());
    assert_eq!(ear.next(), Event::Dropped { key: Arc::clone(&key), why: ErrorKind::Config });

    let disk = FaultyTier::new(HashMapTier::new());
    disk.fail(Operation::Put, Times::Forever, ErrorKind::Full);
    let (listener, ear) = self::ear();
    let engine =
        Plan::over(vec![Arc::new(disk) as Arc<dyn Tier>]).without_memory().with_listener(listener).build();
    assert!(insert(&engine, 1, "lost").is_err());
    assert_eq!(ear.next(), Event::Dropped { key, why: ErrorKind::Full });
}

#[test]
fn changes_by_tasks_are_emitted() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (listener, ear) = ear();
    let cache = bcache::<u64, String>("tasks").dir(dir.path()).on_event(listener).build().unwrap().to_async();
    runtime.block_on(async {
        cache.insert(1, "one".to_owned()).await;
        cache.get_with(2, async { "two".to_owned() }).await;
        assert!(cache.remove(&1).await);
        cache.invalidate(&2).await.unwrap();
        cache.clear().await.unwrap();
        cache.close().await.unwrap();
    });
    let names: Vec<_> = ear.rest().iter().map(Event::name).filter(|name| *name != "expired").collect();
    assert_eq!(names, ["inserted", "inserted", "removed", "invalidated", "invalidated"]);
}

#[cfg(feature = "redis")]
#[test]
fn server_down_and_up_are_emitted() {
    let Some(mut server) = larder_testkit::RedisServer::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (listener, ear) = ear();
    let builder = ucache::<u64, String>("served").dir(dir.path()).redis(server.url()).memory_bytes(0);
    let cache = builder.on_event(listener).build().unwrap();
    cache.insert(1, "one".to_owned());
    assert_eq!(ear.next(), inserted(1, TierKind::Redis, Writer::Caller));
    let (tier, line) = (TierKind::Redis, Line::Connection);
    server.kill();
    let heard = |wanted: Event<u64>| {
        let start = Instant::now();
        while cache.get(&1).is_some() || !ear.0.try_iter().any(|event| event == wanted) {
            assert!(start.elapsed() < PATIENCE, "not heard: {wanted:?}");
            std::thread::park_timeout(Duration::from_millis(2));
        }
    };
    heard(Event::TierDown { tier, line });
    server.restart();
    heard(Event::TierUp { tier, line });
}

#[cfg(feature = "redis")]
#[test]
fn changes_of_other_nodes_and_repairs_are_emitted() {
    let Some(mut server) = larder_testkit::RedisServer::start() else { return };
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let builder = |dir: &tempfile::TempDir| {
        ucache::<u64, u64>("noded").dir(dir.path()).redis(server.url()).namespace("events")
    };
    let (listener, ear) = ear();
    let cache = builder(&dirs[0]).on_event(listener).build().unwrap();
    let other = builder(&dirs[1]).build().unwrap();
    cache.insert(1, 1);
    other.insert(1, 2);
    ear.until(|event| *event == Event::Invalidated(Extent::Key(Arc::new(1))));

    let away = |key| cache.try_insert(key, 3).unwrap().home != TierKind::Redis;
    server.pause();
    assert!((100..).take(10_000).any(away), "it is noticed");
    cache.insert(2, 3);
    server.resume();
    ear.until(|event| *event == Event::Repaired { key: Some(Arc::new(2)), tier: TierKind::Redis });

    server.pause();
    assert!((20_000..).take(10_000).any(away), "it is noticed again");
    cache.insert(2, 4);
    server.restart();
    ear.until(|event| *event == Event::Dropped { key: Arc::new(2), why: ErrorKind::Unavailable });
}

/// The controls of a test over a listener that is stuck.
struct Stuck {
    go: Sender<()>,
    is_in: Receiver<()>,
    heard: Arc<AtomicU64>,
}

/// A listener that blocks in its first event until `go` is sent or dropped.
fn stuck() -> (impl FnMut(Event<u64>) + Send + 'static, Stuck) {
    let ((go, gate), (entered, is_in)) = (channel::<()>(), channel());
    let heard = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&heard);
    let listener = move |event: Event<u64>| {
        _ = entered.send(());
        _ = gate.recv();
        let events = if let Event::Missed { count } = event { count } else { 1 };
        count.fetch_add(events, Ordering::SeqCst);
    };
    (listener, Stuck { go, is_in, heard })
}

#[test]
fn blocked_listener_delays_no_caller_and_missed_events_are_counted() {
    let (listener, Stuck { go, is_in, heard }) = stuck();
    let cache = mcache::<u64, u64>("stuck").capacity(100_000).on_event(listener).build().unwrap();
    cache.insert(0, 0);
    is_in.recv_timeout(PATIENCE).unwrap();
    (1..=50_000).for_each(|key| cache.insert(key, key));
    assert_eq!(cache.stats().cache.insertions, 50_001, "nobody waits");
    let missed = cache.stats().cache.events_missed;
    assert!((45_000..50_000).contains(&missed), "{missed}");

    let start = Instant::now();
    cache.close().unwrap();
    let took = start.elapsed();
    assert!((Duration::from_millis(900)..PATIENCE).contains(&took), "{took:?}");
    assert_eq!(cache.stats().cache.events_missed, 50_000, "all but the one it is stuck in");
    drop(go);
    drop(cache);
    ends(&heard, 1);
}

/// Waits until the counting listener is dropped, and with it its thread.
fn ends(heard: &Arc<AtomicU64>, count: u64) {
    let start = Instant::now();
    while Arc::strong_count(heard) > 1 {
        assert!(start.elapsed() < PATIENCE, "the listener outlives its cache");
        std::thread::park_timeout(Duration::from_millis(2));
    }
    assert_eq!(heard.load(Ordering::SeqCst), count);
}

#[test]
fn slow_listener_receives_the_number_of_missed_events() {
    let (listener, Stuck { go, is_in, heard }) = stuck();
    let cache = mcache::<u64, u64>("slow").capacity(100_000).on_event(listener).build().unwrap();
    cache.insert(0, 0);
    is_in.recv_timeout(PATIENCE).unwrap();
    (1..=10_000).for_each(|key| cache.insert(key, key));
    drop(go);
    cache.close().unwrap();
    assert!(cache.stats().cache.events_missed > 5_000);
    drop(cache);
    ends(&heard, 10_001);
}

#[test]
fn listener_that_panics_receives_later_events() {
    let heard = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&heard);
    let listener = move |event: Event<u64>| {
        count.fetch_add(1, Ordering::SeqCst);
        assert!(event.key() != Some(&1), "panics on purpose");
    };
    let cache = mcache::<u64, u64>("panics").on_event(listener).build().unwrap();
    (0..3).for_each(|key| cache.insert(key, key));
    // Not left to `close`: printing the panic can take longer than `close` waits.
    let start = Instant::now();
    while heard.load(Ordering::SeqCst) < 3 {
        assert!(start.elapsed() < PATIENCE, "it hears no more");
        std::thread::park_timeout(Duration::from_millis(2));
    }
    assert_eq!(cache.stats().cache.listener_panics, 1);
    drop(cache);
    ends(&heard, 3);
}

#[test]
fn dropped_cache_drops_its_listener() {
    let heard = Arc::new(AtomicU64::new(0));
    for _ in 0..20 {
        let count = Arc::clone(&heard);
        let listener = move |_: Event<u64>| _ = count.fetch_add(1, Ordering::SeqCst);
        let cache = mcache::<u64, u64>("dropped").on_event(listener).build().unwrap();
        (0..10).for_each(|key| cache.insert(key, key));
    }
    ends(&heard, 200);
}

/// Returns the time that a listener spends in `close` of its own cache.
fn closed_from_within() -> Duration {
    let (sender, receiver) = channel::<Cache<u64, u64>>();
    let (done, is_done) = channel();
    let listener = move |_: Event<u64>| {
        let Ok(cache) = receiver.recv() else { return };
        let start = Instant::now();
        cache.close().unwrap();
        done.send(start.elapsed()).unwrap();
    };
    let cache = mcache::<u64, u64>("ended from within").on_event(listener).build().unwrap();
    cache.insert(1, 1);
    sender.send(cache.clone()).unwrap();
    let took = is_done.recv_timeout(PATIENCE).unwrap();
    assert_eq!(cache.get(&1), None);
    took
}

#[test]
fn listener_can_close_its_cache() {
    // A call that waits for itself takes the whole second each time.
    let is_prompt = (0..10).any(|_| closed_from_within() < Duration::from_millis(900));
    assert!(is_prompt, "it waits for itself");
}

#[test]
fn listener_can_hold_the_last_handle() {
    let kept = Arc::new(parking_lot::Mutex::new(None::<Cache<u64, u64>>));
    let held = Arc::clone(&kept);
    let heard = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&heard);
    let (go, gate) = channel::<()>();
    let listener = move |_: Event<u64>| {
        _ = gate.recv();
        let cache = held.lock().clone();
        cache.inspect(|cache| cache.close().unwrap());
        count.fetch_add(1, Ordering::SeqCst);
    };
    let cache = mcache::<u64, u64>("last").on_event(listener).build().unwrap();
    *kept.lock() = Some(cache.clone());
    drop(kept);
    cache.insert(1, 1);
    drop((cache, go));
    ends(&heard, 1);
}

/// An idle cache keeps no listener thread; the next event starts one.
#[cfg(target_os = "linux")]
#[test]
fn listener_thread_ends_when_idle() {
    let (sender, threads) = channel();
    let listener = move |_: Event<u64>| _ = sender.send(std::fs::read_link("/proc/thread-self").unwrap());
    let cache = mcache::<u64, u64>("idle").on_event(listener).build().unwrap();
    for key in 0..2 {
        cache.insert(key, key);
        let task = std::path::Path::new("/proc").join(threads.recv_timeout(PATIENCE).unwrap());
        let start = Instant::now();
        while task.exists() {
            assert!(start.elapsed() < PATIENCE, "the thread stays");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

#[test]
fn event_with_another_type_of_key_tells_the_same() {
    let key = || Arc::new(7_u64);
    let (disk, file, memory) = (TierKind::Disk, TierKind::File, TierKind::Memory);
    let evicted = |key| Event::Evicted {
        key,
        count: 2,
        tier: memory,
        home: disk,
        bytes: Some(9),
        cause: Cause::Capacity,
    };
    let all = [
        Event::Inserted { key: key(), home: disk, by: Writer::Load },
        evicted(Some(key())),
        evicted(None),
        Event::Expired { key: key(), tier: disk },
        Event::Promoted { key: key(), from: disk },
        Event::Moved { key: key(), from: disk, to: file },
        Event::Unopened { key: key(), tier: file },
        Event::Removed { key: key() },
        Event::Invalidated(Extent::Key(key())),
        Event::Invalidated(Extent::Tag("red".into())),
        Event::Invalidated(Extent::All),
        Event::Invalidated(Extent::Cleared),
        Event::TierDown { tier: disk, line: Line::Writes },
        Event::TierUp { tier: disk, line: Line::Writes },
        Event::TierUnusable { tier: disk, why: "read only".into() },
        Event::Repaired { key: Some(key()), tier: disk },
        Event::Dropped { key: key(), why: larder::ErrorKind::Full },
        Event::Missed { count: 3 },
    ];
    for event in all {
        let as_text = event.clone().map_key(|key| Some(Arc::new(key.to_string()))).unwrap();
        assert_eq!(as_text.name(), event.name());
        assert_eq!(as_text.key().cloned(), event.key().map(u64::to_string), "{event:?}");
        let back = as_text.map_key(|text| text.parse().ok().map(Arc::new));
        assert_eq!(back, Some(event));
    }
    let other: Event<u64> = Event::Removed { key: key() };
    assert!(other.map_key(|_| None::<Arc<u8>>).is_none(), "the key has no counterpart");
}
