//! Tasks over Redis: they can be dropped at any await, and never block their executor.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use larder::{AsyncCache, Compress, TierKind, ucache};
use larder_testkit::RedisServer;
use tokio::runtime::Runtime;

fn cache(server: &RedisServer, dir: &std::path::Path) -> AsyncCache<u64, String> {
    let cache = ucache::<u64, String>("tasks").dir(dir).redis(server.url()).namespace("test");
    cache.compress(Compress::None).build().unwrap().to_async()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Polls a future at most `times` times and drops it. Returns whether it had completed.
async fn polled(times: usize, future: impl Future) -> bool {
    let (mut future, mut left) = (pin!(future), times);
    poll_fn(|context| {
        if future.as_mut().poll(context).is_ready() {
            return Poll::Ready(true);
        }
        left -= 1;
        if left == 0 { Poll::Ready(false) } else { Poll::Pending }
    })
    .await
}

/// Asserts that both nodes read the same value and that the key can be written. Returns the value.
async fn agree(here: &AsyncCache<u64, String>, there: &AsyncCache<u64, String>, key: u64) -> String {
    // Waits for the holder of the key lock.
    here.insert_if_absent(key, "filled".to_owned()).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        // A dropped call may continue on a thread and change the entry between the two reads.
        let (found, other) = (here.get(&key).await, there.get(&key).await);
        if let Some(found) = found.clone().filter(|_| found == other) {
            return found;
        }
        assert!(Instant::now() < deadline, "{found:.20?} here, {other:.20?} there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn dropping_a_call_at_any_await_keeps_nodes_consistent() {
    let Some(server) = RedisServer::start() else { return };
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [here, there] = dirs.each_ref().map(|dir| cache(&server, dir.path()));
    let large = "x".repeat(200 << 10);
    let (mut dropped, mut key) = (0, 0);
    runtime().block_on(async {
        for call in ["insert", "insert large", "remove", "take", "increment", "load", "get", "many"] {
            for times in 1..12 {
                key += 1;
                if call != "load" {
                    there.insert(key, "before".to_owned()).await;
                }
                let ended = match call {
                    "insert" => polled(times, here.insert(key, "after".to_owned())).await,
                    "insert large" => polled(times, here.insert(key, large.clone())).await,
                    "remove" => polled(times, here.remove(&key)).await,
                    "take" => polled(times, here.take(&key)).await,
                    "increment" => polled(times, here.insert_if_absent(key, "after".to_owned())).await,
                    "load" => polled(times, here.get_with(key, async { "after".to_owned() })).await,
                    "get" => polled(times, here.get(&key)).await,
                    _ => polled(times, here.get_many(&[key, key + 1_000_000])).await,
                };
                dropped += usize::from(!ended);
                let expect: &[&str] = match call {
                    "insert" => &["after"],
                    "insert large" => &[&large],
                    "remove" | "take" => &["filled"],
                    // No load runs if the call was dropped during its lookup.
                    "load" => &["after", "filled"],
                    _ => &["before"],
                };
                // A call that continues on a thread may not have taken the key lock yet.
                let mut found = agree(&here, &there, key).await;
                for _ in 0..1000 {
                    if expect.contains(&&*found) {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    found = agree(&here, &there, key).await;
                }
                assert!(expect.contains(&&*found), "{call} dropped after {times} polls: {found:.20}");
            }
        }
        here.close().await.unwrap();
        there.close().await.unwrap();
    });
    println!("{dropped} calls were dropped before their end");
    assert!(dropped >= 5, "{dropped}");
}

/// Counts ticks of a timer beside `work`. Returns the count and the longest gap.
async fn ticks_beside(work: impl Future<Output = ()>) -> (u32, Duration) {
    let (count, worst) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(Duration::ZERO)));
    let ticks = async {
        let mut last = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(2)).await;
            count.set(count.get() + 1);
            worst.set(worst.get().max(last.elapsed()));
            last = Instant::now();
        }
    };
    tokio::select! {
        () = work => (count.get(), worst.get()),
        () = ticks => unreachable!("it never ends"),
    }
}

#[test]
fn executor_is_not_blocked_by_waits_for_redis_and_disk() {
    let Some(server) = RedisServer::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(&server, dir.path());
    let (large, huge) = ("x".repeat(900 << 10), "y".repeat(3 << 20));
    runtime().block_on(async {
        // The first value goes to Redis, the second is too large for it.
        assert_eq!(cache.try_insert(1, large.clone()).await.unwrap().home, TierKind::Redis);
        assert_eq!(cache.try_insert(2, huge.clone()).await.unwrap().home, TierKind::File);
        let busy = ticks_beside(async {
            for key in 10..200 {
                cache.insert(key, key.to_string()).await;
                cache.insert(1, large.clone()).await;
                assert!(cache.remove(&key).await);
            }
            assert_eq!(cache.get(&2).await.map(|found| found.len()), Some(huge.len()));
        })
        .await;
        let started = Instant::now();
        server.pause();
        let silent = ticks_beside(async {
            cache.insert(3, "three".to_owned()).await;
            assert_eq!(cache.get(&3).await.as_deref(), Some("three"));
            assert!(started.elapsed() > Duration::from_millis(300), "the server was silent");
        })
        .await;
        server.resume();
        println!("ticks and worst gap: {busy:?} while busy, {silent:?} while the server was silent");
        // An executor that blocks on the server ticks once or twice.
        assert!(busy.0 > 20 && silent.0 > 20, "{busy:?}, {silent:?}");
        cache.close().await.unwrap();
    });
}
