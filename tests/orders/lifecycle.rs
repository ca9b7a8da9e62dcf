//! The life of a cache, and the registers of live ones: closed once, never leaked,
//! one cache a directory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use larder::{Cache, CacheContext, ErrorKind, Event, Result, all_stats, close_all, fcache, mcache};
use larder_exec::runtime::{Blocking, Tokio, block_on};

use crate::director::{ended, few_orders, orders, task, thread};
use crate::far::Far;
use crate::fixtures::Plan;
use crate::stage::Stage;

/// Whoever closes has the same answer; a write is done before, or is refused.
#[test]
fn a_cache_is_closed_once() {
    orders(|| {
        let far = Far::new();
        let stage = Stage::over(&far);
        let (in_thread, in_task, write) = (stage.clone(), stage.clone(), stage.clone());
        let in_thread = thread(move || block_on(in_thread.rig.close::<Blocking>()).unwrap());
        let in_task = task(async move { in_task.rig.close::<Tokio>().await.unwrap() });
        let write = task(async move { write.try_insert::<Tokio>().await });
        let load = stage.clone();
        let load = thread(move || block_on(load.load::<Blocking>()));
        block_on(stage.rig.close::<Blocking>()).unwrap();
        assert_eq!(far.closes.load(Ordering::Relaxed), 1);
        in_thread.join().unwrap();
        ended(in_task);
        load.join().unwrap();
        let refused = ended(write).is_err_and(|error| error.kind() != ErrorKind::Closed);
        assert!(!refused, "a write is done, or refused because the cache is closed");
        drop(stage);
        assert_eq!(far.puts_after_close.load(Ordering::Relaxed), 0);
        assert_eq!((far.closes.load(Ordering::Relaxed), Arc::strong_count(&far)), (1, 1));
    });
}

/// The last handle goes anywhere: in a task, or with a load or a write that nobody
/// waits for any more.
#[test]
fn a_cache_that_is_dropped_lets_go_of_its_tiers() {
    orders(|| {
        let far = Far::new();
        let stage = Stage::over(&far);
        let (mortal, load) = (stage.clone(), stage.clone());
        let mortal = task(async move { mortal.insert::<Tokio>().await });
        let load = task(async move { load.load::<Tokio>().await });
        mortal.abort();
        drop(stage);
        ended(load);
        let _cancelled = shuttle::future::block_on(mortal);
        while Arc::strong_count(&far) > 1 {
            shuttle::thread::yield_now();
        }
    });
}

fn is_listed(name: &str) -> bool {
    all_stats().iter().any(|cache| cache.name == name)
}

#[test]
fn every_live_cache_is_closed_whoever_comes_and_goes() {
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

/// Tries again while somebody else has the directory.
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

/// One at a time has the directory, the others are told so, and it is free again
/// when that has gone, however it goes.
#[test]
fn one_cache_a_directory() {
    few_orders(|| {
        let dir = tempfile::tempdir().unwrap();
        let open = Arc::new(AtomicBool::new(false));
        let callers = [true, false].map(|closes| {
            let (dir, open) = (dir.path().to_owned(), Arc::clone(&open));
            thread(move || {
                let Some(cache) = open_in_turn(&dir) else { return };
                assert!(!open.swap(true, Ordering::Relaxed), "two have the directory");
                // Another process would have it: then it would get a private one.
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

/// What `close_all` has closed is free, though somebody has a handle.
#[test]
fn a_directory_is_free_after_close_all() {
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

/// The last handle goes inside a runtime, and the cache is closed elsewhere: who
/// opens the directory next waits for that.
#[test]
fn a_directory_is_free_after_its_cache_was_dropped_in_a_task() {
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

/// A cache that is built while its context ends is closed by it, or not built.
#[test]
fn a_context_ends_what_was_built_in_it() {
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

/// `close` waits until the listener has heard everything, and its thread goes.
#[test]
fn a_listener_has_heard_all_when_its_cache_is_closed() {
    orders(|| {
        let heard = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&heard);
        let listener = move |event| {
            count.fetch_add(usize::from(matches!(event, Event::Inserted { .. })), Ordering::Relaxed);
        };
        let stage = Stage::of(Plan::over(vec![]).heard_by(listener));
        let (in_thread, in_task) = (stage.clone(), stage.clone());
        let in_thread = thread(move || block_on(in_thread.insert::<Blocking>()));
        let in_task = task(async move { in_task.insert::<Tokio>().await });
        in_thread.join().unwrap();
        ended(in_task);
        block_on(stage.rig.close::<Blocking>()).unwrap();
        assert_eq!(heard.load(Ordering::Relaxed), 2);
    });
}
