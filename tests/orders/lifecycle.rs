//! Life cycle of a cache and of the registers of live caches: a cache closes once, leaks nothing,
//! and owns its directory alone.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use larder::{Cache, CacheContext, ErrorKind, Event, Result, all_stats, close_all, fcache, mcache};
use larder_exec::runtime::{Blocking, Tokio, block_on};

use crate::director::{ended, few_orders, orders, task, thread};
use crate::fixtures::Plan;
use crate::scenario::Scenario;
use crate::suspending_tier::SuspendingTier;

/// All calls of `close` return the same result. A write either ends before it, or is refused.
#[test]
fn concurrent_close_closes_the_tiers_once() {
    orders(|| {
        let tier = SuspendingTier::new();
        let scenario = Scenario::over(&tier);
        let (in_thread, in_task, write) = (scenario.clone(), scenario.clone(), scenario.clone());
        let in_thread = thread(move || block_on(in_thread.engine.close::<Blocking>()).unwrap());
        let in_task = task(async move { in_task.engine.close::<Tokio>().await.unwrap() });
        let write = task(async move { write.try_insert::<Tokio>().await });
        let load = scenario.clone();
        let load = thread(move || block_on(load.load::<Blocking>()));
        block_on(scenario.engine.close::<Blocking>()).unwrap();
        assert_eq!(tier.closes.load(Ordering::Relaxed), 1);
        in_thread.join().unwrap();
        ended(in_task);
        load.join().unwrap();
        let refused = ended(write).is_err_and(|error| error.kind() != ErrorKind::Closed);
        assert!(!refused, "a write is done, or refused because the cache is closed");
        drop(scenario);
        assert_eq!(tier.puts_after_close.load(Ordering::Relaxed), 0);
        assert_eq!((tier.closes.load(Ordering::Relaxed), Arc::strong_count(&tier)), (1, 1));
    });
}

/// The last handle is dropped in a task, in a load, or in a write whose caller was cancelled.
#[test]
fn dropped_cache_releases_its_tiers() {
    orders(|| {
        let tier = SuspendingTier::new();
        let scenario = Scenario::over(&tier);
        let (mortal, load) = (scenario.clone(), scenario.clone());
        let mortal = task(async move { mortal.insert::<Tokio>().await });
        let load = task(async move { load.load::<Tokio>().await });
        mortal.abort();
        drop(scenario);
        ended(load);
        let _cancelled = shuttle::future::block_on(mortal);
        while Arc::strong_count(&tier) > 1 {
            shuttle::thread::yield_now();
        }
    });
}

fn is_listed(name: &str) -> bool {
    all_stats().iter().any(|cache| cache.name == name)
}

#[test]
fn close_all_closes_every_live_cache() {
    orders(|| {
        let first = mcache::<u64, u64>("first").capacity(8).build().unwrap();
        let going = mcache::<u64, u64>("going").capacity(8).build().unwrap();
        let coming = thread(|| {
            let coming = mcache::<u64, u64>("coming").capacity(8).build().unwrap();
            coming.insert(1, 1);
            coming
        });
        let goes = thread(move || drop(going));
        let closes = thread(|| close_all().unwrap());
        close_all().unwrap();
        assert!(!is_listed("first") && first.get_with(1, || 2) == 2 && first.get(&1).is_none());
        closes.join().unwrap();
        goes.join().unwrap();
        assert!(!is_listed("going"));
        drop(coming.join().unwrap());
        assert!(!is_listed("coming"));
        drop(first);
    });
}

fn files(dir: &Path) -> Result<Cache<u64, String>> {
    fcache("files").dir(dir).build()
}

/// Retries while another caller has the directory open.
fn open_in_turn(dir: &Path) -> Option<Cache<u64, String>> {
    for _ in 0..20 {
        match files(dir) {
            Ok(cache) => return Some(cache),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Busy),
        }
        shuttle::thread::yield_now();
    }
    None
}

/// One caller at a time opens the directory, the others get `Busy`. After a close or a drop it can
/// be opened again.
#[test]
fn directory_is_open_in_one_cache_at_a_time() {
    few_orders(|| {
        let dir = tempfile::tempdir().unwrap();
        let open = Arc::new(AtomicBool::new(false));
        let callers = [true, false].map(|closes| {
            let (dir, open) = (dir.path().to_owned(), Arc::clone(&open));
            thread(move || {
                let Some(cache) = open_in_turn(&dir) else { return };
                assert!(!open.swap(true, Ordering::Relaxed), "two have the directory");
                // If another process had it, this one would get a private directory.
                assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "a private directory");
                cache.insert(1, "one".to_owned());
                open.store(false, Ordering::Relaxed);
                if closes {
                    cache.close().unwrap();
                }
            })
        });
        for caller in callers {
            caller.join().unwrap();
        }
        let again = files(dir.path()).unwrap();
        assert_eq!(again.get(&1).as_deref(), Some("one"));
    });
}

/// A directory closed by `close_all` can be opened again while a handle still exists.
#[test]
fn directory_can_be_opened_after_close_all() {
    few_orders(|| {
        let dir = tempfile::tempdir().unwrap();
        let first = files(dir.path()).unwrap();
        let (writes, closes) = (first.clone(), first.clone());
        let writes = thread(move || writes.insert(1, "one".to_owned()));
        let closes = thread(move || closes.close().unwrap());
        close_all().unwrap();
        let second = files(dir.path()).unwrap();
        second.insert(2, "two".to_owned());
        writes.join().unwrap();
        closes.join().unwrap();
        drop(first);
        assert_eq!(second.get(&2).as_deref(), Some("two"));
    });
}

/// The last handle is dropped inside a runtime, and the cache is closed on another thread. The next
/// open of the directory waits for that.
#[test]
fn directory_can_be_opened_after_a_drop_in_a_task() {
    few_orders(|| {
        let dir = tempfile::tempdir().unwrap();
        let first = files(dir.path()).unwrap();
        let path = dir.path().to_owned();
        let dropped = task(async move {
            first.to_async().insert(1, "one".to_owned()).await;
            drop(first);
        });
        let other = thread(move || files(&path).map(drop));
        ended(dropped);
        if let Err(error) = other.join().unwrap() {
            assert_eq!(error.kind(), ErrorKind::Busy);
        }
        let again = files(dir.path()).unwrap();
        assert_eq!(again.get(&1).as_deref(), Some("one"));
    });
}

/// A cache that is built while its context closes is closed too, or fails to build.
#[test]
fn context_closes_caches_built_during_its_close() {
    orders(|| {
        let context = CacheContext::new("ends");
        let builds = ["one", "two"].map(|name| {
            let inner = context.inner(name);
            thread(move || {
                let cache = inner.mcache::<u64, u64>(name).capacity(8).build();
                (inner, cache)
            })
        });
        context.close().unwrap();
        for build in builds {
            let (inner, cache) = build.join().unwrap();
            match cache {
                Ok(cache) => {
                    cache.insert(1, 1);
                    assert_eq!(cache.get(&1), None, "it outlives its context");
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
            }
            inner.close().unwrap();
        }
        assert!(!is_listed("one") && !is_listed("two"));
    });
}

/// `close` waits until the listener has received every event and its thread has ended.
#[test]
fn listener_receives_every_event_before_close_returns() {
    orders(|| {
        let heard = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&heard);
        let listener = move |event| {
            count.fetch_add(usize::from(matches!(event, Event::Inserted { .. })), Ordering::Relaxed);
        };
        let scenario = Scenario::of(Plan::over(vec![]).with_listener(listener));
        let (in_thread, in_task) = (scenario.clone(), scenario.clone());
        let in_thread = thread(move || block_on(in_thread.insert::<Blocking>()));
        let in_task = task(async move { in_task.insert::<Tokio>().await });
        in_thread.join().unwrap();
        ended(in_task);
        block_on(scenario.engine.close::<Blocking>()).unwrap();
        assert_eq!(heard.load(Ordering::Relaxed), 2);
    });
}
