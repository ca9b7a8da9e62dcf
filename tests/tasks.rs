//! The cache for tasks: the same operations, without blocking the executor.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, mpsc};
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use larder::{AsyncCache, Bytes, Persistence, TierKind};
use larder_core::tier::{Capability, Tier};
use larder_exec::runtime::{Blocking, Tokio, block_on};
use larder_testkit::{FaultyTier, HashMapTier, Operation};

use crate::fixtures::{Plan, TestEngine};

fn tiered(dir: &std::path::Path) -> AsyncCache<u32, Bytes> {
    let cache = larder::ucache("tasks").dir(dir).persistence(Persistence::LongTerm);
    cache.build().unwrap().to_async()
}

#[tokio::test]
async fn every_operation_works_over_tiers() {
    let dir = tempfile::tempdir().unwrap();
    let cache = tiered(dir.path());
    let large = Bytes::from(vec![3; 2 << 20]);
    assert_eq!(cache.try_insert(1, Bytes::from_static(b"small")).await.unwrap().home, TierKind::Disk);
    assert_eq!(cache.try_insert(2, large.clone()).await.unwrap().home, TierKind::File);
    assert_eq!(cache.get(&2).await, Some(large.clone()));
    assert_eq!(cache.try_get(&3).await.unwrap(), None);
    assert_eq!(cache.inspect(&1).await.unwrap().unwrap().home, TierKind::Disk);
    assert_eq!(cache.explain(&2).await.unwrap().home, Some(TierKind::File));
    assert!(cache.contains_key(&1).await && !cache.contains_key(&9).await);
    assert_eq!(cache.get_with(3, async { Bytes::from_static(b"three") }).await, "three");
    let failed = cache.try_get_with(4, async { Err::<Bytes, _>("no") }).await;
    assert_eq!(*failed.unwrap_err(), "no");
    assert_eq!(cache.load(5, |_| async { Ok::<_, ()>(Bytes::from_static(b"five")) }).await.unwrap(), "five");
    assert_eq!(cache.len(), 4);
    assert_eq!(cache.keys().await.unwrap().len(), 4);
    assert_eq!(cache.take(&5).await.unwrap().unwrap(), "five");
    assert!(cache.remove(&3).await && !cache.remove(&3).await);
    cache.flush().await.unwrap();
    cache.close().await.unwrap();

    let cache = tiered(dir.path());
    assert_eq!(cache.get(&2).await, Some(large));
    assert_eq!(cache.get(&1).await.unwrap(), "small");
    assert_eq!(cache.get(&3).await, None);
    cache.clear().await.unwrap();
    assert!(cache.is_empty() && cache.to_sync().is_empty());
    cache.close().await.unwrap();
}

#[test]
fn calls_outside_a_runtime_run_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let cache = tiered(dir.path());
    larder_testkit::block_on(async {
        cache.insert(1, Bytes::from_static(b"small")).await;
        assert_eq!(cache.get(&1).await.unwrap(), "small");
        assert_eq!(cache.load(2, |_| async { Ok::<_, ()>(Bytes::new()) }).await.unwrap(), "");
        cache.close().await.unwrap();
    });
}

type Held = FaultyTier<HashMapTier>;

/// A tier whose calls suspend the calling task.
fn waiting() -> Held {
    FaultyTier::new(HashMapTier::new().with_kind(TierKind::Redis))
}

/// A tier whose calls block their thread.
fn blocking() -> Held {
    let tier = HashMapTier::new();
    let capability = Capability { blocking: true, ..tier.capability() };
    FaultyTier::new(tier.with_capability(capability))
}

fn over(tiers: &[&Held]) -> Arc<TestEngine> {
    let tiers = tiers.iter().map(|tier| Arc::new((*tier).clone()) as Arc<dyn Tier>);
    Plan::over(tiers.collect()).without_memory().build()
}

async fn insert(engine: &Arc<TestEngine>, value: &str) -> larder::Result<larder::Placement> {
    engine.insert::<Tokio>(1, value.to_owned(), larder::EntryOptions::new()).await
}

/// Polls a future once, and returns whether it is pending.
fn begun(future: Pin<&mut impl Future>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// Returns the entry, as soon as there is one.
async fn eventually(engine: &Arc<TestEngine>) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if let Some(found) = engine.get::<Tokio>(&1).await.unwrap() {
            return found;
        }
        tokio::task::yield_now().await;
    }
    panic!("the write was not finished");
}

#[test]
fn stalled_tier_does_not_block_the_executor() {
    let tier = blocking();
    // The blocking tier lies behind one that does not block, where the task itself waits.
    let engine = over(&[&waiting(), &tier]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        // A tier that is known to be empty gets no requests.
        engine.insert::<Tokio>(7, "there".to_owned(), larder::EntryOptions::new()).await.unwrap();
        tier.stall(Operation::Get);
        let reading = tokio::spawn({
            let engine = Arc::clone(&engine);
            async move { engine.get::<Tokio>(&1).await }
        });
        // The only thread of the runtime is free while the tier hangs.
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!reading.is_finished());
        tier.release();
        assert_eq!(reading.await.unwrap().unwrap(), None);
    });
}

#[test]
fn write_runs_to_completion_when_its_future_is_dropped() {
    for tier in [blocking(), waiting()] {
        let engine = over(&[&tier]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            tier.stall(Operation::Put);
            assert!(begun(pin!(insert(&engine, "written"))));
            tier.wait_until_stalled(Operation::Put, 1);
            tier.release();
            assert_eq!(eventually(&engine).await, "written");
        });
    }
}

#[test]
fn nonblocking_tier_needs_no_blocking_thread() {
    let engine = over(&[&waiting()]);
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    // Occupies the only thread for blocking calls.
    let (go, goes) = mpsc::channel::<()>();
    let taken = runtime.spawn_blocking(move || goes.recv());
    runtime.block_on(async {
        insert(&engine, "one").await.unwrap();
        assert_eq!(engine.get::<Tokio>(&1).await.unwrap().unwrap(), "one");
        assert_eq!(engine.get_with::<Tokio, _, _>(2, || async { "two".to_owned() }).await, "two");
        assert_eq!(engine.take::<Tokio>(&1).await.unwrap().unwrap(), "one");
        assert!(engine.remove::<Tokio>(&2).await.unwrap());
        assert!(!engine.contains_key::<Tokio>(&2).await.unwrap());
    });
    drop((go, taken));
}

#[test]
fn write_that_is_not_polled_blocks_no_other_write() {
    let tier = waiting();
    let engine = over(&[&tier]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        tier.stall(Operation::Put);
        let mut first = pin!(insert(&engine, "first"));
        assert!(begun(first.as_mut()));
        tier.release();
        // The first write holds the key lock and is not polled.
        insert(&engine, "second").await.unwrap();
        assert_eq!(engine.get::<Tokio>(&1).await.unwrap().unwrap(), "second");
        assert_eq!(first.await.unwrap().home, TierKind::Redis);
        assert_eq!(engine.get::<Tokio>(&1).await.unwrap().unwrap(), "second");
    });
}

#[test]
fn blocking_call_finishes_behind_a_write_of_its_own_executor() {
    let tier = waiting();
    let engine = over(&[&tier]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        tier.stall(Operation::Put);
        let write = tokio::spawn({
            let engine = Arc::clone(&engine);
            async move { insert(&engine, "of a task").await }
        });
        while tier.stalled(Operation::Put) == 0 {
            tokio::task::yield_now().await;
        }
        let releaser = thread::spawn({
            let tier = tier.clone();
            // Any of the calls may be the one that waits.
            move || tier.release()
        });
        block_on(engine.remove::<Blocking>(&1)).unwrap();
        block_on(engine.clear::<Blocking>()).unwrap();
        releaser.join().unwrap();
        write.await.unwrap().unwrap();
        assert_eq!(engine.get::<Tokio>(&1).await.unwrap(), None);
    });
}

#[test]
fn runtime_shutdown_leaves_no_write_half_done() {
    let tier = waiting();
    let engine = over(&[&tier]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    tier.stall(Operation::Put);
    for key in 0..20 {
        let engine = Arc::clone(&engine);
        runtime.spawn(async move {
            engine.insert::<Tokio>(key, key.to_string(), larder::EntryOptions::new()).await
        });
    }
    tier.wait_until_stalled(Operation::Put, 20);
    drop(runtime);
    tier.release();
    // Waits for every key lock that is held.
    block_on(engine.set_enabled::<Blocking>(false)).unwrap();
    block_on(engine.set_enabled::<Blocking>(true)).unwrap();
    for key in 0..20 {
        assert_eq!(block_on(engine.get::<Blocking>(&key)).unwrap(), Some(key.to_string()));
    }
}

/// Drops calls at every await. Afterwards the key is free, and memory and the tiers agree.
#[test]
fn dropping_a_call_at_any_await_leaves_memory_and_tiers_equal() {
    use Operation::{Get, Put, Remove};
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (stalls, call) in [
        (Put, "insert"),
        (Remove, "remove"),
        (Remove, "take"),
        (Get, "take"),
        (Get, "get"),
        (Get, "load"),
        (Put, "load"),
        (Get, "many"),
    ] {
        let tier = waiting();
        let engine = Plan::over(vec![Arc::new(tier.clone()) as Arc<dyn Tier>]).build();
        runtime.block_on(async {
            if call != "load" {
                insert(&over(&[&tier]), "old").await.unwrap();
            }
            tier.stall(stalls);
            let waits = match call {
                "insert" => begun(pin!(insert(&engine, "new"))),
                "remove" => begun(pin!(engine.remove::<Tokio>(&1))),
                "take" => begun(pin!(engine.take::<Tokio>(&1))),
                "get" => begun(pin!(engine.get::<Tokio>(&1))),
                "many" => begun(pin!(engine.get_many::<Tokio>(&[1, 2]))),
                _ => begun(pin!(engine.get_with::<Tokio, _, _>(1, || async { "new".to_owned() }))),
            };
            assert!(waits, "{call} does not wait for {stalls:?}");
            tier.release();
            // Waits for the holder of the key lock.
            engine.set_enabled::<Tokio>(false).await.unwrap();
            engine.set_enabled::<Tokio>(true).await.unwrap();
            let found = engine.get::<Tokio>(&1).await.unwrap();
            let expect = match (call, stalls) {
                ("insert", _) | ("load", Put) => Some("new"),
                ("remove" | "take", _) | ("load", _) => None,
                _ => Some("old"),
            };
            assert_eq!(found.as_deref(), expect, "{call} that was dropped during {stalls:?}");
            assert_eq!(engine.get::<Tokio>(&1).await.unwrap().as_deref(), expect);
            insert(&engine, "next").await.unwrap();
            assert_eq!(engine.get::<Tokio>(&1).await.unwrap().as_deref(), Some("next"), "{call}");
        });
    }
}

#[test]
fn call_of_a_task_times_out_without_a_runtime_timer() {
    let tier = waiting();
    let engine = over(&[&tier]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    tier.stall(Operation::Get);
    let started = Instant::now();
    let error = runtime.block_on(engine.get::<Tokio>(&1)).unwrap_err();
    assert_eq!(error.kind(), larder::ErrorKind::Unavailable);
    assert!((4..20).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    assert_eq!(engine.stats().tier(TierKind::Redis).unwrap().counts.timeouts, 1);
}

/// A `Send` future of a caller that holds borrowed text of any lifetime. Compiles only if the future of `load`
/// is declared `Send`.
#[expect(clippy::manual_async_fn, reason = "it declares its future `Send`")]
fn sendable<'a>(cache: &'a AsyncCache<u32, Bytes>, log: &'a str) -> impl Future<Output = Bytes> + Send + 'a {
    async move {
        let text: &'static str = "loaded";
        let name = log.to_owned();
        let loader = move |_| async move {
            let _name = name;
            tokio::task::yield_now().await;
            Ok::<_, std::io::Error>(Bytes::from_static(text.as_bytes()))
        };
        cache.load(1, loader).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn future_of_a_load_with_captured_text_can_be_spawned() {
    let cache = larder::mcache::<u32, Bytes>("spawned loads").build().unwrap().to_async();
    let greeting: &'static str = "hello";
    let task = tokio::spawn(async move {
        let loaded = sendable(&cache, greeting).await;
        let again =
            cache.load(2, move |_| async move { Ok::<_, ()>(Bytes::from_static(greeting.as_bytes())) });
        (loaded, again.await.unwrap())
    });
    assert_eq!(task.await.unwrap(), (Bytes::from_static(b"loaded"), Bytes::from_static(b"hello")));
}

/// A boxed `Send` future, as `async_trait` and axum ask for, over verbs that capture texts in a loop.
fn boxed<'a>(
    cache: &'a AsyncCache<String, Vec<&'static str>>,
    names: &'a [&'static str],
) -> Pin<Box<dyn Future<Output = u64> + Send + 'a>> {
    Box::pin(async move {
        for &name in names {
            let value = || vec![name];
            let key = || name.to_owned();
            cache.get_with(key(), async { value() }).await;
            cache.optionally_get_with(key(), async { Some(value()) }).await.unwrap();
            cache.try_get_with(key(), async { Ok::<_, &'static str>(value()) }).await.unwrap();
            cache.get_with_by_ref(name, async { value() }).await;
            cache.optionally_get_with_by_ref(name, async { Some(value()) }).await.unwrap();
            cache.try_get_with_by_ref(name, async { Ok::<_, &'static str>(value()) }).await.unwrap();
            let loaded = cache.load(key(), move |_| async move { Ok::<_, &'static str>(vec![name]) }).await;
            assert_eq!((loaded.unwrap(), cache.get(name).await), (value(), Some(value())));
            let keys = || names.iter().map(|&name| name.to_owned());
            let all = cache.get_many_with(keys(), |keys| async move {
                keys.into_iter().map(|key| (key, vec![name])).collect::<Vec<_>>()
            });
            assert!(all.await.iter().all(Option::is_some));
            cache.insert_many(names.iter().map(|&name| (name.to_owned(), vec![name]))).await;
            cache.compute(key(), move |_| larder::Compute::Put(vec![name])).await.unwrap();
            cache.invalidate_tags([name]).await.unwrap();
            assert!(cache.contains_key(name).await);
        }
        cache.len()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn futures_of_verbs_with_captured_texts_can_be_boxed_and_spawned() {
    let cache = larder::mcache("spawned verbs").build().unwrap().to_async();
    let task = tokio::spawn(async move { boxed(&cache, &["one", "two"]).await });
    assert_eq!(task.await.unwrap(), 2);
}

#[tokio::test]
async fn task_changes_and_lists_entries_as_a_thread_does() {
    let dir = tempfile::tempdir().unwrap();
    let cache = larder::ucache("tasks").dir(dir.path()).warm_restart(10).persistence(Persistence::LongTerm);
    let cache: AsyncCache<u32, Bytes> = cache.build().unwrap().to_async();
    let value = || Bytes::from_static(b"value");
    let options = || larder::EntryOptions::new().tag("red").ttl(Duration::from_secs(60));
    cache.insert_with(1, value(), options()).await;
    cache.insert_with(2, value(), larder::EntryOptions::new().tag("blue")).await;
    assert_eq!(cache.keys_by_tag("red").await.unwrap(), [Arc::new(1)]);
    let tags = cache.tags().await.unwrap();
    assert_eq!(tags.iter().map(larder::Tag::as_str).collect::<Vec<_>>(), ["blue", "red"]);
    assert!(cache.touch(&1).await.unwrap() && !cache.touch(&3).await.unwrap());
    assert_eq!((cache.get(&1).await, cache.hottest(9).len(), cache.bytes() > 0), (Some(value()), 2, true));
    assert_eq!(cache.snapshot().await.unwrap(), 2);
    assert!(cache.expire_at(&1, larder::Time::from_millis(1)).await.unwrap());
    assert!(cache.sweep().await >= 1, "the expired entry");
    assert_eq!((cache.get(&1).await, cache.try_sweep().await.unwrap()), (None, 0));
    assert_eq!((cache.is_private(), cache.dir().is_some_and(|dir| dir.is_dir())), (false, true));
    let folder = cache.dir().unwrap().to_owned();
    cache.destroy().await.unwrap();
    assert!(!folder.exists(), "{}", folder.display());
}

#[tokio::test]
async fn task_changes_the_bounds_of_a_cache_and_switches_it_off() {
    let cache: AsyncCache<u32, u32> = larder::mcache("tasks").capacity(1000).build().unwrap().to_async();
    cache.insert_many((0..500).map(|n| (n, n))).await;
    cache.set_capacity(100).unwrap();
    assert!(cache.len() <= 100, "{}", cache.len());
    assert_eq!(cache.set_memory_bytes(1 << 20).unwrap_err().kind(), larder::ErrorKind::Config);
    cache.set_enabled(false).await.unwrap();
    cache.insert(1, 1).await;
    assert_eq!((cache.is_enabled(), cache.get(&1).await), (false, None));
    cache.set_enabled(true).await.unwrap();
    cache.insert(1, 1).await;
    assert_eq!((cache.is_enabled(), cache.get(&1).await), (true, Some(1)));

    let bytes: AsyncCache<u32, Bytes> = larder::mcache("tasks")
        .memory_bytes(1 << 20)
        .weigher(|_, value: &Bytes| value.len() as u32 + 100)
        .build()
        .unwrap()
        .to_async();
    for n in 0..100 {
        bytes.insert(n, Bytes::from(vec![0; 5000])).await;
    }
    let before = bytes.bytes();
    bytes.set_memory_bytes(64 << 10).unwrap();
    assert!(before > 400_000 && bytes.bytes() <= 64 << 10, "{before}, {}", bytes.bytes());
    bytes.to_sync().set_memory_bytes(1 << 20).unwrap();
}

#[tokio::test]
async fn borrowed_keys_load_as_owned_ones_do() {
    let dir = tempfile::tempdir().unwrap();
    let cache = larder::bcache::<String, u32>("borrowed").dir(dir.path()).build().unwrap().to_async();
    assert_eq!(cache.get_with_by_ref("one", async { 1 }).await, 1);
    assert_eq!(cache.get_with("one".to_owned(), async { unreachable!() }).await, 1);
    assert_eq!(*cache.try_get_with_by_ref("two", async { Err::<u32, _>("no") }).await.unwrap_err(), "no");
    assert_eq!(cache.optionally_get_with_by_ref("two", async { None }).await, None);
    assert_eq!(cache.try_get_with_by_ref("two", async { Ok::<_, ()>(2) }).await.unwrap(), 2);
    assert_eq!(cache.optionally_get_with_by_ref("two", async { None }).await, Some(2));
    assert_eq!((cache.stats().cache.loads, cache.len()), (4, 2));
    cache.close().await.unwrap();
}
