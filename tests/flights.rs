//! Single flight: one miss runs one load, for any number of callers and however the leader ends.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use larder::{Cache, LoadError};
use tokio::sync::Notify;

const CALLERS: usize = 200;

/// Runs a check over memory alone and over tiers.
fn each_cache(check: impl Fn(Cache<u64, String>)) {
    check(larder::mcache("flights").build().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let tiered = larder::ucache("flights").dir(dir.path()).disk_bytes(16 << 20).build().unwrap();
    check(tiered.clone());
    tiered.close().unwrap();
}

fn many_threads(callers: usize, call: impl Fn(usize) + Sync) {
    let start = Barrier::new(callers);
    thread::scope(|scope| {
        for caller in 0..callers {
            let (start, call) = (&start, &call);
            scope.spawn(move || {
                start.wait();
                call(caller);
            });
        }
    });
}

/// Waits until another thread has made `condition` true, a minute at most.
pub(crate) fn until(condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "it did not come about in a minute");
        thread::yield_now();
    }
}

/// Spins for 30 ms, so that the other callers reach the point where they wait.
fn let_others_wait() {
    let until = Instant::now() + Duration::from_millis(30);
    while Instant::now() < until {
        thread::yield_now();
    }
}

fn runtime(workers: usize) -> tokio::runtime::Runtime {
    match workers {
        0 => tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap(),
        _ => {
            tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_time().build().unwrap()
        }
    }
}

#[test]
fn concurrent_callers_on_threads_share_one_load() {
    each_cache(|cache| {
        let loads = AtomicUsize::new(0);
        many_threads(CALLERS, |_| {
            let value = cache.get_with(1, || {
                loads.fetch_add(1, SeqCst);
                let_others_wait();
                "loaded".into()
            });
            assert_eq!(value, "loaded");
        });
        assert_eq!(loads.load(SeqCst), 1);
        assert_eq!(cache.stats().cache.loads, 1);
    });
}

#[test]
fn callers_that_arrive_during_a_load_join_it() {
    each_cache(|cache| {
        let loads = AtomicUsize::new(0);
        let start = Instant::now();
        many_threads(CALLERS, |caller| {
            while start.elapsed() < Duration::from_micros(100) * u32::try_from(caller).unwrap() {
                thread::yield_now();
            }
            cache.get_with(1, || {
                loads.fetch_add(1, SeqCst);
                let_others_wait();
                "loaded".into()
            });
        });
        assert_eq!(loads.load(SeqCst), 1);
    });
}

#[test]
fn one_waiter_leads_after_the_leader_panics() {
    each_cache(|cache| {
        let (calls, panicked) = (AtomicUsize::new(0), AtomicUsize::new(0));
        many_threads(CALLERS, |_| {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                cache.get_with(1, || {
                    let_others_wait();
                    assert!(calls.fetch_add(1, SeqCst) > 0, "the first loader panics");
                    "loaded".into()
                })
            }));
            match outcome {
                Ok(value) => assert_eq!(value, "loaded"),
                Err(_) => drop(panicked.fetch_add(1, SeqCst)),
            }
        });
        assert_eq!((calls.load(SeqCst), panicked.load(SeqCst)), (2, 1));
    });
}

#[test]
fn waiters_get_the_error_of_a_failing_leader() {
    each_cache(|cache| {
        let cache = cache.to_async();
        let loads = AtomicUsize::new(0);
        // One thread polls all callers in turn, so all of them wait before the leader goes on.
        let outcomes = runtime(0).block_on(async {
            let everyone_waits = Notify::new();
            let call = |caller: usize| {
                let (cache, loads, everyone_waits) = (&cache, &loads, &everyone_waits);
                async move {
                    let load = async {
                        loads.fetch_add(1, SeqCst);
                        everyone_waits.notified().await;
                        Err::<String, _>(format!("failed in {caller}"))
                    };
                    cache.try_get_with(1, load).await
                }
            };
            let release = async {
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                let_others_wait();
                everyone_waits.notify_one();
            };
            let all = join_all((0..CALLERS).map(call));
            tokio::join!(all, release).0
        });
        assert_eq!(loads.load(SeqCst), 1);
        for outcome in outcomes {
            assert_eq!(*outcome.unwrap_err(), "failed in 0");
        }
        assert_eq!(cache.to_sync().get(&1), None, "a failure stores nothing");
    });
}

#[test]
fn an_error_of_another_type_is_not_shared() {
    let cache = larder::mcache::<u64, u64>("flights").build().unwrap().to_async();
    runtime(0).block_on(async {
        let go = Notify::new();
        let fails = cache.try_get_with(1, async {
            go.notified().await;
            Err::<u64, &str>("no")
        });
        let loads = cache.try_get_with(1, async { Ok::<_, u8>(7) });
        let (failed, loaded, ()) = tokio::join!(fails, loads, async {
            tokio::task::yield_now().await;
            go.notify_one();
        });
        assert_eq!(*failed.unwrap_err(), "no");
        assert_eq!(loaded.unwrap(), 7);
    });
}

#[test]
fn threads_and_tasks_wait_in_one_queue() {
    each_cache(|cache| {
        let loads = Arc::new(AtomicUsize::new(0));
        let runtime = runtime(2);
        let tasks: Vec<_> = (0..CALLERS / 2)
            .map(|_| {
                let (cache, loads) = (cache.to_async(), Arc::clone(&loads));
                runtime.spawn(async move {
                    let load = async {
                        loads.fetch_add(1, SeqCst);
                        tokio::task::spawn_blocking(let_others_wait).await.unwrap();
                        "loaded".to_owned()
                    };
                    cache.get_with(1, load).await
                })
            })
            .collect();
        many_threads(CALLERS / 2, |_| {
            let value = cache.get_with(1, || {
                loads.fetch_add(1, SeqCst);
                let_others_wait();
                "loaded".into()
            });
            assert_eq!(value, "loaded");
        });
        for task in tasks {
            assert_eq!(runtime.block_on(task).unwrap(), "loaded");
        }
        assert_eq!(loads.load(SeqCst), 1);
    });
}

#[test]
fn one_waiter_leads_after_the_leader_is_cancelled() {
    each_cache(|cache| {
        let cache = cache.to_async();
        let loads = Arc::new(AtomicUsize::new(0));
        runtime(2).block_on(async {
            let started = Arc::new(Notify::new());
            let leader = tokio::spawn({
                let (cache, loads, started) = (cache.clone(), Arc::clone(&loads), Arc::clone(&started));
                async move {
                    let hang = async {
                        loads.fetch_add(1, SeqCst);
                        started.notify_one();
                        std::future::pending::<String>().await
                    };
                    cache.get_with(1, hang).await
                }
            });
            started.notified().await;
            let waiters: Vec<_> = (1..CALLERS)
                .map(|_| {
                    let (cache, loads) = (cache.clone(), Arc::clone(&loads));
                    tokio::spawn(async move {
                        let load = async {
                            loads.fetch_add(1, SeqCst);
                            tokio::task::yield_now().await;
                            "loaded".to_owned()
                        };
                        cache.get_with(1, load).await
                    })
                })
                .collect();
            tokio::task::yield_now().await;
            leader.abort();
            for waiter in waiters {
                assert_eq!(waiter.await.unwrap(), "loaded");
            }
        });
        assert_eq!(loads.load(SeqCst), 2, "the cancelled one and the one that led next");
    });
}

#[test]
fn load_continues_after_its_caller_is_cancelled() {
    each_cache(|cache| {
        let cache = cache.to_async();
        let loads = Arc::new(AtomicUsize::new(0));
        runtime(2).block_on(async {
            let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let call = || {
                let (cache, loads) = (cache.clone(), Arc::clone(&loads));
                let (started, go) = (Arc::clone(&started), Arc::clone(&go));
                tokio::spawn(async move {
                    let load = async move {
                        loads.fetch_add(1, SeqCst);
                        started.notify_one();
                        go.notified().await;
                        Ok::<_, ()>("loaded".to_owned())
                    };
                    cache.load(1, |_| load).await
                })
            };
            let first = call();
            started.notified().await;
            let others: Vec<_> = (1..CALLERS).map(|_| call()).collect();
            first.abort();
            assert!(first.await.unwrap_err().is_cancelled());
            go.notify_one();
            for other in others {
                assert_eq!(other.await.unwrap().unwrap(), "loaded");
            }
        });
        assert_eq!(loads.load(SeqCst), 1);
    });
}

#[test]
fn panic_in_load_is_returned_as_panicked() {
    each_cache(|cache| {
        let loads = Arc::new(AtomicUsize::new(0));
        let outcome = cache.load(1, {
            let loads = Arc::clone(&loads);
            move |_| -> Result<String, ()> {
                loads.fetch_add(1, SeqCst);
                panic!("the loader panics")
            }
        });
        assert!(matches!(outcome, Err(LoadError::Panicked)));
        assert_eq!(cache.load(1, |_| Ok::<_, ()>("loaded".to_owned())).unwrap(), "loaded");
        assert_eq!(loads.load(SeqCst), 1);
        assert_eq!(cache.stats().cache.load_failures, 1);
    });
}

#[test]
fn concurrent_calls_of_load_share_one_load() {
    each_cache(|cache| {
        let loads = Arc::new(AtomicUsize::new(0));
        many_threads(CALLERS, |_| {
            let loads = Arc::clone(&loads);
            let load = move |_| {
                loads.fetch_add(1, SeqCst);
                let_others_wait();
                Ok::<_, ()>("loaded".to_owned())
            };
            assert_eq!(cache.load(1, load).unwrap(), "loaded");
        });
        assert_eq!(loads.load(SeqCst), 1);
    });
}

#[test]
fn loader_that_loads_its_own_key_does_not_deadlock() {
    each_cache(|cache| {
        let value = cache.get_with(1, || cache.get_with(1, || "inner".into()) + " and outer");
        assert_eq!(value, "inner and outer");
        assert_eq!(cache.get(&1).as_deref(), Some("inner and outer"));
    });
}

#[test]
fn loaders_may_load_other_keys() {
    let cache = larder::mcache::<u64, u64>("fibonacci").build().unwrap();
    fn fibonacci(cache: &Cache<u64, u64>, n: u64) -> u64 {
        if n < 2 { n } else { cache.get_with(n, || fibonacci(cache, n - 1) + fibonacci(cache, n - 2)) }
    }
    assert_eq!(fibonacci(&cache, 90), 2_880_067_194_370_816_120);
    assert_eq!(cache.stats().cache.loads, 89);
}

#[test]
fn blocking_call_inside_a_runtime_does_not_wait_for_a_task() {
    let cache = larder::mcache::<u64, &str>("flights").build().unwrap();
    runtime(0).block_on(async {
        let go = Notify::new();
        let tasks = cache.to_async();
        let led = tasks.get_with(1, async {
            go.notified().await;
            "by the task"
        });
        let (led, alone) = tokio::join!(led, async {
            tokio::task::yield_now().await;
            let alone = cache.get_with(1, || "by the thread");
            go.notify_one();
            alone
        });
        assert_eq!((led, alone), ("by the task", "by the thread"));
    });
    assert_eq!(cache.get(&1), Some("by the task"), "who loads alone stores nothing");
}

#[test]
fn keys_need_no_clone() {
    #[derive(Debug, PartialEq, Eq, Hash)]
    struct Key(String);
    let cache = larder::mcache::<Key, u8>("no clone").build().unwrap();
    assert_eq!(cache.get_with(Key("a".into()), || 1), 1);
    cache.insert(Key("b".into()), 2);
    assert_eq!(cache.get(&Key("a".into())), Some(1));
    assert_eq!(cache.len(), 2);
}

/// Polls all futures in one task until each is done.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for (future, output) in &mut futures {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    futures.into_iter().filter_map(|(_, output)| output).collect()
}

#[test]
fn loaders_of_two_keys_that_load_each_other_do_not_deadlock() {
    each_cache(|cache| {
        let both_lead = Barrier::new(2);
        let ask = |mine: u64, other: u64| {
            cache.get_with(mine, || {
                both_lead.wait();
                cache.get_with(other, || "loaded without waiting".into()) + "!"
            })
        };
        let values = thread::scope(|scope| {
            let threads = [(1, 2), (2, 1)].map(|(mine, other)| scope.spawn(move || ask(mine, other)));
            threads.map(|thread| thread.join().unwrap())
        });
        // One of the two callers would close the cycle and loads by itself. The other waits for it,
        // or both loaded by themselves.
        assert!(values.iter().any(|value| value == "loaded without waiting!"), "{values:?}");
    });
}

#[test]
fn loads_of_two_caches_that_need_each_other_do_not_deadlock() {
    let one = larder::mcache::<u64, u64>("one").build().unwrap().to_async();
    let two = larder::mcache::<u64, u64>("two").build().unwrap().to_async();
    runtime(2).block_on(async {
        let both_lead = Arc::new(tokio::sync::Barrier::new(2));
        let ask = |mine: &larder::AsyncCache<u64, u64>, other: &larder::AsyncCache<u64, u64>| {
            let (mine, other, both_lead) = (mine.clone(), other.clone(), Arc::clone(&both_lead));
            tokio::spawn(async move {
                let load = move |_| async move {
                    both_lead.wait().await;
                    Ok::<_, ()>(other.get_with(7, async { 1 }).await + 1)
                };
                mine.load(7, load).await.unwrap()
            })
        };
        let (a, b) = (ask(&one, &two), ask(&two, &one));
        let limit = Duration::from_secs(10);
        let values = tokio::time::timeout(limit, async { (a.await.unwrap(), b.await.unwrap()) }).await;
        assert!(matches!(values, Ok((2 | 3, 2 | 3))), "{values:?}");
    });
}

#[test]
fn task_that_loads_its_own_key_does_not_deadlock() {
    each_cache(|cache| {
        let cache = cache.to_async();
        let inner = cache.clone();
        runtime(2).block_on(async {
            let load = move |_| async move {
                let own = inner.load(1, |_| async { Ok::<_, ()>("inner".to_owned()) }).await.unwrap();
                Ok::<_, ()>(own + " and outer")
            };
            let limit = Duration::from_secs(10);
            let value = tokio::time::timeout(limit, cache.load(1, load)).await.unwrap();
            assert_eq!(value.unwrap(), "inner and outer");
        });
    });
}

#[test]
fn blocking_call_on_a_single_thread_runtime_does_not_wait_for_a_thread() {
    let cache = larder::mcache::<u64, &str>("flights").build().unwrap();
    let runtime = runtime(0);
    let handle = runtime.handle().clone();
    let (led, leads) = std::sync::mpsc::channel();
    let leader = thread::spawn({
        let cache = cache.clone();
        move || {
            cache.get_with(1, || {
                led.send(()).unwrap();
                // The loader on the other thread needs the runtime that this caller blocks.
                handle.block_on(handle.spawn(async { "by the thread" })).unwrap()
            })
        }
    });
    leads.recv().unwrap();
    runtime.block_on(async {
        assert_eq!(cache.get_with(1, || "by the runtime's thread"), "by the runtime's thread");
        while !leader.is_finished() {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(leader.join().unwrap(), "by the thread");
}

/// A value that calls the cache from its `Drop`.
#[derive(Clone)]
struct Careless {
    cache: Arc<std::sync::OnceLock<Cache<u64, Careless>>>,
    next: u64,
}

impl Drop for Careless {
    fn drop(&mut self) {
        if let Some(cache) = self.cache.get().filter(|_| self.next > 0) {
            let calm = Careless { cache: Arc::new(std::sync::OnceLock::new()), next: 0 };
            cache.insert(self.next, calm.clone());
            cache.remove(&self.next);
            cache.get_with(self.next + 100, || calm);
            let _busy = cache.clear();
        }
    }
}

#[test]
fn value_that_calls_the_cache_in_drop_does_not_deadlock() {
    let cache = larder::mcache::<u64, Careless>("careless").capacity(8).build().unwrap();
    let own = Arc::new(std::sync::OnceLock::new());
    own.set(cache.clone()).ok().unwrap();
    many_threads(4, |caller| {
        for round in 0..500 {
            let key = round % 5;
            cache.insert(key, Careless { cache: Arc::clone(&own), next: 1 + (key + caller as u64) % 5 });
        }
    });
}
