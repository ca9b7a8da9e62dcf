//! Leaders whose future is no longer polled, because its owner waits for something else. Waiters of
//! the same key must not hang.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use larder::{AsyncCache, LoadError};
use larder_core::tier::Tier;
use larder_exec::runtime::{Blocking, Tokio, block_on};
use larder_testkit::history::{Act, Contract, History, Keeps};
use larder_testkit::schedule::{Task, explore, turn};
use larder_testkit::{HashMapTier, ManualClock};
use tokio::sync::oneshot;

use crate::fixtures::Plan;

/// Far longer than a waiter waits for a leader that is not polled.
const LIMIT: Duration = Duration::from_secs(30);

fn memory(name: &str) -> AsyncCache<u64, u64> {
    larder::mcache(name).build().unwrap().to_async()
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls `led` until its loader waits for `go`, and wakes it. Does not poll it again until `other`,
/// which needs the same key, has finished.
async fn stopped<A, B>(
    led: impl Future<Output = A>,
    go: oneshot::Sender<()>,
    other: impl Future<Output = B>,
) -> (A, B) {
    let mut led = pin!(led);
    assert!(poll_once(led.as_mut()).is_pending());
    go.send(()).unwrap();
    let other = tokio::time::timeout(LIMIT, other).await.expect("it hangs");
    (led.await, other)
}

async fn after<T>(go: oneshot::Receiver<()>, value: T) -> T {
    go.await.unwrap();
    value
}

/// The common form: a stream of lookups in progress, and a lookup in the body of its loop. The
/// stream is not polled while the body waits.
#[tokio::test]
async fn buffered_stream_with_a_lookup_in_its_loop_finishes() {
    let cache = memory("buffered");
    let page = |key: u64| {
        let cache = cache.clone();
        async move {
            let slow = async {
                tokio::time::sleep(Duration::from_millis(5 * key)).await;
                key
            };
            cache.get_with(key, slow).await
        }
    };
    let ended = tokio::time::timeout(LIMIT, async {
        let mut pages = futures_util::stream::iter(1..=5).map(page).buffered(3);
        let mut seen = Vec::new();
        while let Some(key) = pages.next().await {
            seen.push(key);
            cache.get_with(key + 1, async { key + 1 }).await;
        }
        seen
    });
    assert_eq!(ended.await.expect("it hangs"), [1, 2, 3, 4, 5]);
    assert!(cache.stats().cache.takeovers > 0);
}

#[tokio::test]
async fn each_operation_takes_over_from_a_leader_that_is_not_polled() {
    let cache = &memory("verbs");
    for (key, verb) in
        ["get_with", "optionally_get_with", "load", "get_many_with", "memo"].into_iter().enumerate()
    {
        let key = key as u64;
        let (go, gone) = oneshot::channel();
        let other = async move {
            match verb {
                "get_with" => cache.get_with(key, async { 2 }).await,
                "optionally_get_with" => cache.optionally_get_with(key, async { Some(2) }).await.unwrap(),
                "load" => cache.load(key, |_| async { Ok::<_, ()>(2) }).await.unwrap(),
                "memo" => cache.memoize(|_| async { 2 }).call(&key).await,
                _ => {
                    let loader =
                        |keys: Vec<u64>| async { keys.into_iter().map(|key| (key, 2)).collect::<Vec<_>>() };
                    let values = cache.get_many_with([key, key + 100], loader).await;
                    assert_eq!(values, [Some(2), Some(2)]);
                    2
                }
            }
        };
        let (led, other) = stopped(cache.get_with(key, after(gone, 1)), go, other).await;
        assert_eq!((led, other), (1, 2), "{verb}: each has what its own loader answered");
        assert_eq!(cache.get(&key).await, Some(2), "{verb}: what was loaded first stays");
    }
    let counts = cache.stats().cache;
    assert_eq!((counts.takeovers, counts.superseded), (5, 5));
}

#[tokio::test]
async fn batch_that_is_not_polled_blocks_none_of_its_keys() {
    let cache = memory("batch");
    let (go, gone) = oneshot::channel();
    let mut gone = Some(gone);
    let batch = cache.get_many_with([1, 2, 3], |keys: Vec<u64>| {
        let gone = gone.take().unwrap();
        async move { after(gone, keys.into_iter().map(|key| (key, 10 * key)).collect::<Vec<_>>()).await }
    });
    let others = async {
        let (one, two) = tokio::join!(cache.get_with(1, async { 7 }), cache.get_with(2, async { 7 }));
        [one, two]
    };
    let (batch, others) = stopped(batch, go, others).await;
    assert_eq!((batch, others), (vec![Some(10), Some(20), Some(30)], [7, 7]));
    assert_eq!(cache.get_many(&[1, 2, 3]).await, [Some(7), Some(7), Some(30)]);
}

/// The loader of the stopped leader never began, so the leader uses the value loaded meanwhile.
#[tokio::test]
async fn leader_stopped_before_its_loader_uses_the_value_loaded_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let cache =
        larder::ucache::<u64, u64>("look").dir(dir.path()).disk_bytes(16 << 20).build().unwrap().to_async();
    // The read from disk runs on another thread, so the first poll does not reach the loader.
    let led = async {
        let mut led = pin!(cache.get_with(1, async { 1 }));
        assert!(poll_once(led.as_mut()).is_pending());
        let other = tokio::time::timeout(LIMIT, cache.get_with(1, async { 2 })).await.expect("it hangs");
        assert_eq!(other, 2);
        led.await
    };
    assert_eq!(led.await, 2);
    assert_eq!(cache.stats().cache.loads, 1);
    cache.close().await.unwrap();
}

/// The losing branch of a `select!` is kept, and is not polled in the handler of the other.
#[tokio::test]
async fn losing_select_branch_does_not_block_its_key() {
    let cache = memory("select");
    let (go, gone) = oneshot::channel();
    let mut kept = pin!(cache.get_with(1, after(gone, 1)));
    tokio::select! {
        biased;
        _ = &mut kept => unreachable!("it waits"),
        () = std::future::ready(()) => {
            go.send(()).unwrap();
            let other = cache.try_get_with(1, async { Err::<u64, _>("no source") });
            let failed = tokio::time::timeout(LIMIT, other).await.expect("it hangs");
            assert_eq!(*failed.unwrap_err(), "no source");
        }
    }
    assert_eq!(kept.await, 1, "nobody else loads it by then");
    assert_eq!(cache.get(&1).await, Some(1), "so it is stored");
}

/// A thread outside the runtime waits for a task whose executor has stopped.
#[test]
fn thread_takes_over_from_a_task_that_is_not_polled() {
    let cache = memory("thread");
    let (go, gone) = oneshot::channel();
    let mut led = pin!(cache.get_with(1, after(gone, 1)));
    assert!(poll_once(led.as_mut()).is_pending());
    go.send(()).unwrap();
    assert_eq!(cache.to_sync().get_with(1, || 2), 2);
    assert_eq!(block_on(led), 1);
    assert_eq!(cache.to_sync().get(&1), Some(2));
}

/// A leader that waits for its source has not been woken, so waiters wait for it however slow it
/// is.
#[tokio::test]
async fn slow_leader_that_waits_for_its_source_is_not_taken_over() {
    let cache = memory("slow");
    let begun = Instant::now();
    let slow = async {
        tokio::time::sleep(3 * larder_engine::STALL).await;
        1
    };
    let (led, waited) = tokio::join!(cache.get_with(1, slow), cache.get_with(1, async { 2 }));
    assert_eq!((led, waited), (1, 1));
    assert!(begun.elapsed() >= 3 * larder_engine::STALL);
    let counts = cache.stats().cache;
    assert_eq!((counts.loads, counts.joins, counts.takeovers), (1, 1, 0));
}

/// A long poll still counts as polling: another caller could not load any sooner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_that_computes_within_one_poll_is_not_taken_over() {
    let cache = memory("computing");
    let (led, leads) = oneshot::channel();
    let leader = tokio::spawn({
        let cache = cache.clone();
        async move {
            let computes = async {
                led.send(()).unwrap();
                let waker = std::future::poll_fn(|context| Poll::Ready(context.waker().clone())).await;
                let begun = Instant::now();
                while begun.elapsed() < 2 * larder_engine::STALL {
                    waker.wake_by_ref();
                    std::thread::yield_now();
                }
                1
            };
            cache.get_with(1, computes).await
        }
    });
    leads.await.unwrap();
    assert_eq!(cache.get_with(1, async { 2 }).await, 1);
    assert_eq!(leader.await.unwrap(), 1);
    assert_eq!(cache.stats().cache.takeovers, 0);
}

/// A future that wakes itself a few more times than its inner future does.
struct Restless<F> {
    future: Pin<Box<F>>,
    polls_left: usize,
}

impl<F: Future> Future for Restless<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let polled = self.future.as_mut().poll(context);
        if polled.is_pending() && self.polls_left > 0 {
            self.polls_left -= 1;
            context.waker().wake_by_ref();
        }
        polled
    }
}

/// Runs every schedule of a leader, a waiter, and the moment when the stall time passes. Every
/// answer can be explained, and a value that was loaded first is not overwritten by the load that
/// was taken over.
#[test]
fn takeover_at_any_moment_keeps_the_history_sound() {
    const STALL: Duration = Duration::from_secs(60);
    let tier = || vec![Arc::new(HashMapTier::new()) as Arc<dyn Tier>];
    let plans: [&dyn Fn() -> Plan; 2] = [&|| Plan::over(vec![]), &|| Plan::over(tier())];
    for plan in plans {
        let took_over = AtomicUsize::new(0);
        let schedules = explore(2_000_000, |scene| {
            let (clock, history) = (ManualClock::default(), History::new());
            let plan = Plan { clock: clock.clone(), stall: Some(STALL), ..plan() };
            let (engine, loads) = (plan.build(), AtomicUsize::new(0));
            let load = async |turns: usize, polls_left: usize| {
                let mut recorder = history.recorder();
                let call = recorder.begin(Act::Load(1));
                let stamp = recorder.stamp(1);
                let mark = recorder.loader(call, stamp);
                let loader = || async {
                    mark.begins();
                    loads.fetch_add(1, SeqCst);
                    for _ in 0..turns {
                        turn().await;
                    }
                    Ok::<_, ()>(stamp.text(20))
                };
                let future = Box::pin(engine.try_get_with::<Tokio, (), _, _>(1, loader));
                let value = Restless { future, polls_left }.await.unwrap();
                recorder.end_with(call, Some(value.as_bytes()));
            };
            let time_passes = async {
                turn().await;
                clock.advance(STALL);
            };
            scene.play(vec![Task::new(load(2, 0)), Task::new(load(1, 3)), Task::new(time_passes)]);
            let mut recorder = history.recorder();
            let call = recorder.begin(Act::Get(1));
            let found = block_on(engine.get::<Blocking>(&1)).unwrap().or_else(|| engine.hit(&1));
            recorder.end_with(call, found.as_ref().map(String::as_bytes));
            drop(recorder);
            let counts = engine.stats().cache;
            assert!(found.is_some(), "{scene}");
            assert_eq!(loads.load(SeqCst) as u64, counts.published + counts.superseded, "{scene}");
            assert_eq!((counts.published, loads.load(SeqCst) as u64), (1, 1 + counts.superseded), "{scene}");
            assert!(counts.superseded <= counts.takeovers, "{scene}");
            took_over.fetch_add(usize::from(counts.takeovers > 0), SeqCst);
            let contract = Contract { keeps: Keeps::Nothing, failures_change: true };
            history.check(&contract).assert_sound(format_args!("{scene}"));
        });
        println!("{} of {schedules} schedules with a take-over", took_over.load(SeqCst));
        assert!(took_over.load(SeqCst) > 0);
    }
}

/// `load` does not depend on its caller once it has started.
#[tokio::test]
async fn load_continues_while_its_caller_is_not_polled() {
    let cache = memory("owned");
    let mut led = pin!(cache.load(1, |_| async {
        tokio::task::yield_now().await;
        Ok::<_, ()>(1)
    }));
    assert!(poll_once(led.as_mut()).is_pending());
    let other = cache.load(1, |_| async { Err::<u64, _>(()) });
    let other: Result<u64, LoadError<()>> = tokio::time::timeout(LIMIT, other).await.expect("it hangs");
    assert_eq!((other.unwrap(), led.await.unwrap()), (1, 1));
    assert_eq!(cache.stats().cache.takeovers, 0);
}

static GO: tokio::sync::Notify = tokio::sync::Notify::const_new();

#[larder::mcache]
async fn tenfold(number: u64) -> u64 {
    GO.notified().await;
    10 * number
}

#[tokio::test]
async fn call_of_a_cached_function_that_is_not_polled_blocks_no_key() {
    let mut led = pin!(tenfold(1));
    // The first polls may still build the cache and look for the entry.
    for _ in 0..5 {
        assert!(poll_once(led.as_mut()).is_pending());
    }
    // One permit for the waiting call, one for the call that takes over.
    GO.notify_one();
    GO.notify_one();
    let other = tokio::time::timeout(LIMIT, tenfold(1)).await.expect("it hangs");
    assert_eq!((other, led.await), (10, 10));
}
