//! Life cycle of a cache: errors and effects of `close`, `destroy`, `set_enabled`, and of dropping
//! the last handle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use larder::{Cache, ErrorKind, Persistence, TierKind, bcache, fcache, mcache, ucache};
use larder_core::tier::Tier;
use larder_exec::runtime::{Blocking, block_on};
use larder_testkit::{FaultyTier, HashMapTier, MapStorage, Operation, Times};

use crate::fixtures::{Plan, get, insert};
use crate::layers::Silent;

fn faulty() -> (FaultyTier<HashMapTier>, Plan) {
    let disk = FaultyTier::new(HashMapTier::on(&MapStorage::default()));
    let plan = Plan::over(vec![Arc::new(disk.clone()) as Arc<dyn Tier>]);
    (disk, plan)
}

#[test]
fn repeated_close_returns_the_error_of_the_first() {
    let (disk, plan) = faulty();
    let engine = plan.build();
    disk.fail(Operation::Close, Times::Next(1), ErrorKind::Full);
    disk.stall(Operation::Close);
    let close = || block_on(engine.close::<Blocking>()).unwrap_err();
    std::thread::scope(|scope| {
        let first = scope.spawn(close);
        disk.wait_until_stalled(Operation::Close, 1);
        let second = scope.spawn(close);
        assert!(!second.is_finished());
        disk.release();
        let (first, second) = (first.join().unwrap(), second.join().unwrap());
        assert_eq!(first.kind(), ErrorKind::Full);
        assert_eq!(first.to_string(), second.to_string());
        assert_eq!((second.kind(), second.tier()), (ErrorKind::Full, Some(TierKind::Disk)));
    });
    assert_eq!(close().kind(), ErrorKind::Full);
    assert_eq!(disk.calls(Operation::Close), 1);
}

#[test]
fn concurrent_writes_store_nothing_after_close() {
    for round in 0..50 {
        let cache = mcache::<u64, u64>("raced").build().unwrap();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let (cache, ended) = (cache.clone(), &ended);
                scope.spawn(move || {
                    for step in 0.. {
                        match (step + writer) % 4 {
                            0 => cache.insert(step % 8, step),
                            1 => _ = cache.get_with(step % 8, || step),
                            2 => _ = cache.remove(&(step % 8)),
                            _ => drop(cache.clear()),
                        }
                        if ended.load(Ordering::Acquire) {
                            break;
                        }
                    }
                });
            }
            std::thread::yield_now();
            cache.close().unwrap();
            assert_eq!(cache.len(), 0, "round {round}");
            ended.store(true, Ordering::Release);
        });
        assert_eq!(cache.len(), 0, "round {round}: stored after close");
    }
}

#[test]
fn write_during_close_fails_as_closed() {
    let (disk, plan) = faulty();
    let engine = plan.build();
    insert(&engine, 1, "first").unwrap();
    disk.stall(Operation::Close);
    std::thread::scope(|scope| {
        let closer = scope.spawn(|| block_on(engine.close::<Blocking>()));
        disk.wait_until_stalled(Operation::Close, 1);
        assert_eq!(insert(&engine, 2, "late").unwrap_err().kind(), ErrorKind::Closed);
        disk.release();
        closer.join().unwrap().unwrap();
    });
    assert_eq!(disk.calls(Operation::Put), 1);
}

/// The names of the threads of this process.
#[cfg(target_os = "linux")]
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default().trim().to_owned()
    };
    tasks.map(name).collect()
}

#[cfg(target_os = "linux")]
fn assert_no_thread_is_left(what: &str, live: impl FnOnce()) {
    let before = threads();
    live();
    let deadline = Instant::now() + Duration::from_secs(20);
    while threads().len() > before.len() {
        assert!(Instant::now() < deadline, "{what}: {:?}, before {before:?}", threads());
        std::thread::yield_now();
    }
}

/// Returns whether this process runs one test alone. Otherwise it runs `test` in a child process.
/// Tests of process-wide state need this.
fn is_alone(test: &str) -> bool {
    const ALONE: &str = "LARDER_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", test, "--nocapture"]).env(ALONE, "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    false
}

#[cfg(target_os = "linux")]
#[test]
fn no_thread_outlives_the_last_handle() {
    if !is_alone("lifecycle::no_thread_outlives_the_last_handle") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let used = |cache: Cache<u64, String>| {
        (0..50).for_each(|key| cache.insert(key, "x".repeat(2_000)));
        assert_eq!(cache.get(&1).map(|value| value.len()), Some(2_000));
        cache
    };
    assert_no_thread_is_left("mcache", || drop(used(mcache("m").build().unwrap())));
    assert_no_thread_is_left("fcache", || drop(used(fcache("f").dir(dir.path()).build().unwrap())));
    assert_no_thread_is_left("bcache", || drop(used(bcache("b").dir(dir.path()).build().unwrap())));
    assert_no_thread_is_left("ucache", || drop(used(ucache("u").dir(dir.path()).build().unwrap())));
    assert_no_thread_is_left("closed", || {
        used(ucache("u").dir(dir.path()).build().unwrap()).close().unwrap()
    });
}

#[test]
fn last_handle_dropped_inside_a_runtime_does_not_block_it() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for round in 0..5_u64 {
            let cache = bcache::<u64, u64>("dropped").dir(dir.path()).build().unwrap().to_async();
            assert_eq!(cache.get(&0).await, round.checked_sub(1), "what the former one wrote is there");
            cache.insert(0, round).await;
        }
    });
    drop(runtime);
    let cache = bcache::<u64, u64>("dropped").dir(dir.path()).build().unwrap();
    assert_eq!(cache.get(&0), Some(4));
}

#[test]
fn tiers_are_dropped_outside_the_executor() {
    let ((on_drop, dropped), (answer, on_answer)) = (channel(), channel());
    let tier = Arc::new(Silent { dropped: Some((on_drop, on_answer)).into() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        drop(Plan::over(vec![tier as Arc<dyn Tier>]).build());
        let dropper = dropped.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_ne!(dropper, std::thread::current().id());
        answer.send(()).unwrap();
    });
}

#[test]
fn all_caches_are_listed_and_closed() {
    if !is_alone("lifecycle::all_caches_are_listed_and_closed") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let memory = mcache::<u64, u64>("listed memory").build().unwrap();
    let disk = bcache::<u64, u64>("listed disk").dir(dir.path()).build().unwrap();
    drop(mcache::<u64, u64>("listed and gone").build().unwrap());
    disk.insert(1, 2);
    let listed = |name: &str| larder::all_stats().into_iter().find(|row| row.name == name);
    assert_eq!(listed("listed disk").unwrap().stats.cache.insertions, 1);
    assert!(listed("listed memory").is_some() && listed("listed and gone").is_none());
    assert_eq!((memory.name(), disk.to_async().name()), ("listed memory", "listed disk"));
    larder::close_all().unwrap();
    assert!(listed("listed disk").is_none());
    assert_eq!(disk.try_insert(1, 3).unwrap_err().kind(), ErrorKind::Closed);
    let disk = bcache::<u64, u64>("listed disk").dir(dir.path()).build().unwrap();
    assert_eq!(disk.get(&1), Some(2), "its lock was let go of, and what it held is there");
}

#[test]
fn destroy_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let build = || ucache::<u64, String>("doomed").dir(dir.path()).persistence(Persistence::LongTerm).build();
    let cache = build().unwrap();
    cache.insert(1, "small".to_owned());
    cache.insert(2, "x".repeat(3 << 20));
    let path = cache.dir().unwrap().to_path_buf();
    cache.destroy().unwrap();
    assert!(!path.exists());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(cache.destroy().unwrap_err().kind(), ErrorKind::Closed);
    let cache = build().unwrap();
    assert_eq!(cache.len(), 0);
    cache.close().unwrap();
    assert_eq!(cache.destroy().unwrap_err().kind(), ErrorKind::Closed);
    assert!(path.exists());
}

#[test]
fn disabled_cache_passes_loads_through_and_keeps_no_stale_entry() {
    let dir = tempfile::tempdir().unwrap();
    let cache = ucache::<u64, String>("switched").dir(dir.path()).persistence(Persistence::LongTerm);
    let cache = cache.build().unwrap();
    (1..=4).for_each(|key| cache.insert(key, "old".to_owned()));
    cache.set_enabled(false).unwrap();
    assert!(!cache.is_enabled());
    let loads = AtomicU64::new(0);
    let load = || {
        loads.fetch_add(1, Ordering::Relaxed);
        "loaded".to_owned()
    };
    assert_eq!((cache.get(&1), cache.contains_key(&1)), (None, false));
    assert_eq!([cache.get_with(1, load), cache.get_with(1, load)], ["loaded", "loaded"]);
    assert_eq!(loads.load(Ordering::Relaxed), 2);
    assert_eq!(cache.try_insert(2, "dropped".to_owned()).unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(cache.remove(&3));
    assert_eq!(cache.stats().cache.dropped, 1);
    cache.set_enabled(true).unwrap();
    assert_eq!([1, 2, 3, 4].map(|key| cache.get(&key).is_some()), [true, false, false, true]);
}

#[test]
fn write_in_progress_when_disabled_is_not_in_memory_afterwards() {
    let (disk, plan) = faulty();
    let engine = plan.build();
    disk.stall(Operation::Put);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| insert(&engine, 1, "in progress"));
        disk.wait_until_stalled(Operation::Put, 1);
        let switch = scope.spawn(|| block_on(engine.set_enabled::<Blocking>(false)));
        disk.release();
        switch.join().unwrap().unwrap();
        writer.join().unwrap().unwrap();
    });
    assert_eq!(engine.hit(&1), None);
    assert_eq!(get(&engine, 1), None);
}

/// The fault: `build` failed with `Busy` after the last handle was dropped. The cause: a thread of
/// the library still used the engine and kept the lock of the directory.
#[test]
fn directory_can_be_opened_after_the_last_handle_is_dropped() {
    for tier_set in crate::tier_sets::TIER_SETS {
        let dir = tempfile::tempdir().unwrap();
        let clock = larder_testkit::ManualClock::default();
        for round in 0..50 {
            let builder = crate::tier_sets::tiered::<u64, u64>(tier_set, dir.path(), &clock);
            let cache = builder.build().unwrap_or_else(|error| panic!("{tier_set}, round {round}: {error}"));
            cache.insert(round, round);
            assert_eq!(cache.get(&round), Some(round));
        }
    }
}

/// The load of a caller that timed out keeps using the engine for a while.
#[test]
fn directory_can_be_opened_while_a_timed_out_load_still_runs() {
    let dir = tempfile::tempdir().unwrap();
    let builder =
        || larder::bcache::<u64, u64>("overdue").dir(dir.path()).hard_timeout(Duration::from_millis(10));
    let cache = builder().build().unwrap();
    let (release, released) = std::sync::mpsc::channel::<()>();
    cache
        .load(1, move |_| {
            released.recv().unwrap();
            Ok::<_, larder::Error>(1)
        })
        .unwrap_err();
    drop(cache);
    let next = builder().build().unwrap();
    release.send(()).unwrap();
    next.insert(1, 2);
    assert_eq!(next.get(&1), Some(2), "what the old one loads is stored nowhere");
    next.close().unwrap();
}
