//! Abandoned loads past their hard timeout: the next caller of the key loads again.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use larder::{AsyncCache, Cache, LoadError};
use larder_testkit::ManualClock;
use tokio::runtime::{Builder, Runtime};

use crate::flights::until;

const MINUTE: Duration = Duration::from_secs(60);
const HARD: Duration = Duration::from_millis(50);
/// Far longer than any of these tests takes.
const LIMIT: Duration = Duration::from_secs(30);

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

fn limited(name: &str) -> Cache<u64, u64> {
    larder::mcache(name).hard_timeout(HARD).build().unwrap()
}

/// Loads that hang until `release` is dropped.
struct Hung {
    release: mpsc::Sender<()>,
    hangs: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Hung {
    fn new() -> Self {
        let (release, hangs) = mpsc::channel();
        Self { release, hangs: Arc::new(Mutex::new(hangs)) }
    }

    fn loader(&self) -> impl FnOnce() -> Result<u64, ()> + Send + 'static {
        let hangs = Arc::clone(&self.hangs);
        move || {
            let _released = hangs.lock().unwrap().recv();
            Ok(1)
        }
    }
}

/// Starts a load that hangs, cancels its caller, and waits until the load is past its limit.
async fn leave_overdue(cache: &AsyncCache<u64, u64>, key: u64) {
    let (began, begins) = tokio::sync::oneshot::channel();
    let caller = tokio::spawn({
        let cache = cache.clone();
        async move {
            let hangs = async move {
                began.send(()).unwrap();
                std::future::pending::<Result<u64, ()>>().await
            };
            cache.load(key, |_| hangs).await
        }
    });
    begins.await.unwrap();
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    tokio::time::sleep(HARD).await;
}

/// The fault: after an abandoned load, a later `load` got `Timeout` for it and a `get_with` waited
/// for ever. The cause: only callers that waited for the flight took it off its key.
#[test]
fn each_operation_loads_again_after_an_abandoned_overdue_load() {
    let cache = &limited("overdue").to_async();
    runtime().block_on(async {
        for (key, verb) in ["load", "get_with", "try_get_with", "optionally_get_with", "get_many_with"]
            .into_iter()
            .enumerate()
        {
            let key = key as u64;
            leave_overdue(cache, key).await;
            let next = async {
                match verb {
                    "load" => cache.load(key, |_| async { Ok::<_, ()>(2) }).await.unwrap(),
                    "get_with" => cache.get_with(key, async { 2 }).await,
                    "try_get_with" => cache.try_get_with(key, async { Ok::<_, ()>(2) }).await.unwrap(),
                    "optionally_get_with" => cache.optionally_get_with(key, async { Some(2) }).await.unwrap(),
                    _ => {
                        let loader = |keys: Vec<u64>| async {
                            keys.into_iter().map(|key| (key, 2)).collect::<Vec<_>>()
                        };
                        let values = cache.get_many_with([key, key + 100], loader).await;
                        assert_eq!(values, [Some(2), Some(2)]);
                        2
                    }
                }
            };
            let next = tokio::time::timeout(LIMIT, next).await;
            assert_eq!(next, Ok(2), "{verb}");
            assert_eq!(cache.get(&key).await, Some(2), "{verb}");
        }
    });
    assert_eq!(cache.stats().cache.timeouts, 5);
}

/// The value that replaced an overdue load is an entry: a batch loads only the other key.
#[test]
fn batch_after_an_overdue_load_loads_only_what_is_missing() {
    let cache = &limited("overdue batch").to_async();
    runtime().block_on(async {
        leave_overdue(cache, 1).await;
        assert_eq!(cache.get_with(1, async { 2 }).await, 2);
        let loader = |keys: Vec<u64>| async { keys.into_iter().map(|key| (key, 9)).collect::<Vec<_>>() };
        assert_eq!(cache.get_many_with([1, 3], loader).await, [Some(2), Some(9)]);
    });
}

#[test]
fn waiter_of_get_with_leads_when_its_load_is_overdue() {
    let cache = limited("joined").to_async();
    runtime().block_on(async {
        let (began, begins) = tokio::sync::oneshot::channel();
        let caller = tokio::spawn({
            let cache = cache.clone();
            async move {
                let hangs = async move {
                    began.send(()).unwrap();
                    std::future::pending::<Result<u64, ()>>().await
                };
                cache.load(1, |_| hangs).await
            }
        });
        begins.await.unwrap();
        caller.abort();
        let waits = tokio::time::timeout(LIMIT, cache.get_with(1, async { 2 })).await;
        assert_eq!(waits, Ok(2));
    });
}

#[test]
fn thread_loads_again_after_an_overdue_load_of_a_task() {
    let cache = limited("threads");
    runtime().block_on(leave_overdue(&cache.to_async(), 1));
    assert_eq!(cache.get_with(1, || 2), 2);
}

/// `get_with` has no time limit: its callers join a running `get_with`, however long it takes.
#[test]
fn get_with_joins_a_get_with_past_the_hard_timeout() {
    let cache = limited("patient");
    let (leads, led) = mpsc::channel();
    let other = cache.clone();
    let leader = std::thread::spawn(move || {
        other.get_with(1, || {
            leads.send(()).unwrap();
            let began = Instant::now();
            until(|| began.elapsed() > 4 * HARD);
            1
        })
    });
    led.recv().unwrap();
    let began = Instant::now();
    until(|| began.elapsed() > 2 * HARD);
    assert_eq!(cache.get_with(1, || 2), 1);
    assert_eq!((leader.join().unwrap(), cache.stats().cache.loads), (1, 1));
}

/// A caller with a limit that arrives after that limit loads by itself, without waiting.
#[test]
fn load_does_not_wait_for_a_get_with_past_the_hard_timeout() {
    let cache = limited("impatient");
    let (leads, led) = mpsc::channel();
    let (go, goes) = mpsc::channel::<()>();
    let other = cache.clone();
    let leader = std::thread::spawn(move || {
        other.get_with(1, || {
            leads.send(()).unwrap();
            let _go = goes.recv();
            1
        })
    });
    led.recv().unwrap();
    let began = Instant::now();
    until(|| began.elapsed() > HARD);
    assert_eq!(cache.load(1, |_| Ok::<_, ()>(2)).unwrap(), 2);
    go.send(()).unwrap();
    assert_eq!(leader.join().unwrap(), 1);
    assert_eq!(cache.get(&1), Some(2), "the older load is not stored over it");
}

/// A refresh starts before the entry expires. If it still hangs after expiry, callers load by
/// themselves.
#[test]
fn miss_does_not_wait_for_a_hung_refresh() {
    for hard in [None, Some(HARD), Some(MINUTE)] {
        let clock = ManualClock::default();
        let builder =
            larder::mcache::<u64, u64>("refresh").ttl(MINUTE).refresh_ahead(0.5).clock(clock.clone());
        let builder = hard.into_iter().fold(builder, |builder, hard| builder.hard_timeout(hard));
        let cache = builder.build().unwrap();
        let hung = Hung::new();
        for key in 0..2 {
            cache.insert(key, 0);
        }
        clock.advance(MINUTE * 3 / 4);
        for key in 0..2 {
            let loader = hung.loader();
            assert_eq!(cache.load(key, move |_| loader()).unwrap(), 0, "a hit never waits");
        }
        assert_eq!(cache.stats().cache.refreshes, 2);
        clock.advance(MINUTE);
        let (by_get, by_load) = (cache.clone(), cache.clone());
        let (done, all) = mpsc::channel();
        let other = done.clone();
        std::thread::spawn(move || done.send(by_get.get_with(0, || 2)).unwrap());
        std::thread::spawn(move || other.send(by_load.load(1, |_| Ok::<_, ()>(2)).unwrap()).unwrap());
        let values: Vec<_> = all.iter().take(2).collect();
        assert_eq!(values, [2, 2], "hard timeout {hard:?}");
        drop(hung.release);
        until(|| cache.stats().cache.superseded == 2);
        assert_eq!(cache.get_many(&[0, 1]), [Some(2), Some(2)], "what was refreshed late is older");
    }
}

/// A refresh that hangs past expiry counts as a failed load: with a stale window callers get the stale value, and the
/// source is asked again after the backoff.
#[test]
fn hung_refresh_leaves_the_stale_value_and_a_backoff() {
    let clock = ManualClock::default();
    let cache = larder::mcache::<u64, u64>("stale").ttl(MINUTE).stale(MINUTE).refresh_ahead(0.5);
    let cache = cache.hard_timeout(HARD).clock(clock.clone()).build().unwrap();
    let hung = Hung::new();
    cache.insert(1, 0);
    clock.advance(MINUTE * 3 / 4);
    let loader = hung.loader();
    assert_eq!(cache.load(1, move |_| loader()).unwrap(), 0);
    clock.advance(MINUTE / 2);
    let load = || cache.load(1, |_| Ok::<_, ()>(2)).unwrap();
    assert_eq!((load(), load()), (0, 0), "the backoff lasts");
    clock.advance(Duration::from_secs(1));
    assert_eq!(load(), 2);
}

#[test]
fn refresh_past_the_hard_timeout_is_replaced_by_another() {
    let clock = ManualClock::default();
    let cache = larder::mcache::<u64, u64>("again").ttl(MINUTE).refresh_ahead(0.5).hard_timeout(HARD);
    let cache = cache.clock(clock.clone()).build().unwrap();
    let hung = Hung::new();
    cache.insert(1, 0);
    clock.advance(MINUTE / 2);
    let loader = hung.loader();
    assert_eq!(cache.load(1, move |_| loader()).unwrap(), 0);
    let began = Instant::now();
    until(|| began.elapsed() > HARD);
    until(|| {
        // Each attempt to refresh allows the next one after ten seconds.
        clock.advance(Duration::from_millis(100));
        let value = cache.load(1, |_| Ok::<_, ()>(2)).unwrap();
        assert!(value == 0 || value == 2);
        cache.get(&1) == Some(2)
    });
}

/// The fault: every load of the cache reached its hard timeout without having run. The cause: hung
/// refreshes took all threads for loads, since as many refreshes as threads could run at once.
#[test]
fn hung_refreshes_leave_threads_for_loads() {
    let clock = ManualClock::default();
    let cache = larder::mcache::<u64, u64>("threads").ttl(MINUTE).refresh_ahead(0.5).hard_timeout(LIMIT);
    let cache = cache.clock(clock.clone()).build().unwrap();
    let hung = Hung::new();
    for key in 0..200 {
        cache.insert(key, 0);
    }
    clock.advance(MINUTE * 3 / 4);
    for key in 0..200 {
        let loader = hung.loader();
        assert_eq!(cache.load(key, move |_| loader()).unwrap(), 0, "a hit never waits");
    }
    let refreshes = cache.stats().cache.refreshes;
    assert!((1..=32).contains(&refreshes), "{refreshes} at once");
    for key in 1000..1010 {
        assert_eq!(cache.load(key, |_| Ok::<_, ()>(3)).unwrap(), 3);
    }
    drop(hung.release);
}

/// Hung loads can take all threads that run loads with a limit. A nested load does not queue for
/// such a thread: its outer load could not end without it.
#[test]
fn nested_loads_finish_when_no_thread_is_free() {
    fn deep(cache: &Cache<u64, u64>, depth: u64) -> u64 {
        let inner = cache.clone();
        let loader = move |_| Ok::<_, ()>(if depth == 0 { 0 } else { deep(&inner, depth - 1) + 1 });
        cache.load(depth, loader).unwrap()
    }
    let cache = larder::mcache::<u64, u64>("deep").hard_timeout(LIMIT).build().unwrap();
    assert_eq!(deep(&cache, 100), 100);
    assert_eq!(cache.stats().cache.loads, 101);
}

#[test]
fn caller_of_a_hung_load_gets_a_timeout() {
    let cache = limited("waits");
    let hung = Hung::new();
    let loader = hung.loader();
    let outcome = cache.load(1, move |_| loader());
    assert!(matches!(outcome, Err(LoadError::Timeout)));
    let runs = AtomicUsize::new(0);
    assert_eq!(cache.get_with(1, || 2 + runs.fetch_add(1, SeqCst) as u64), 2);
    assert_eq!(runs.load(SeqCst), 1);
    drop(hung.release);
}
