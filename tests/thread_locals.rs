//! A cache that is used in the destructor of a thread-local. A panic there ends the process, so
//! each set of tiers runs in its own child process.
#![allow(clippy::print_stdout, reason = "that is how a process answers")]

use std::cell::RefCell;
use std::process::Command;
use std::time::Duration;

use larder::{Cache, EntryOptions, Persistence};
use larder_exec::runtime::block_on;

/// Set in a child process: the tiers of the cache.
const TIERS: &str = "LARDER_TEST_THREAD_LOCALS";
const ALL: [&str; 4] = ["memory", "disk", "files", "all"];

type Numbers = Cache<u64, u64>;

thread_local! {
    static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
}

/// The operation that a destructor runs.
struct Late(Numbers, Verb);

type Verb = (&'static str, fn(&Numbers));

impl Drop for Late {
    fn drop(&mut self) {
        let Self(cache, (_, verb)) = self;
        verb(cache);
    }
}

fn many(keys: Vec<u64>) -> Vec<(u64, u64)> {
    keys.into_iter().map(|key| (key, 10 * key)).collect()
}

/// Every operation of a cache for threads, with its expected result.
const SYNC: &[Verb] = &[
    ("get", |c| assert_eq!((c.get(&1), c.get(&404)), (Some(10), None))),
    ("try_get", |c| assert_eq!(c.try_get(&1).unwrap(), Some(10))),
    ("inspect", |c| assert!(c.inspect(&1).unwrap().is_some())),
    ("explain", |c| drop(c.explain(&1).unwrap())),
    ("contains_key", |c| assert!(c.contains_key(&1))),
    ("get_with", |c| assert_eq!(c.get_with(20, || 200), 200)),
    ("get_with in get_with", |c| assert_eq!(c.get_with(21, || c.get_with(22, || 1) + 1), 2)),
    ("get_with of its own key", |c| assert_eq!(c.get_with(23, || c.get_with(23, || 1) + 1), 2)),
    ("try_get_with", |c| assert!(c.try_get_with(24, || Err(())).is_err())),
    ("optionally_get_with", |c| assert_eq!(c.optionally_get_with(25, || None), None)),
    ("get_with_by_ref", |c| assert_eq!(c.get_with_by_ref(&29, || 290), 290)),
    ("load", |c| assert!(matches!(c.load(26, |_| Ok::<_, ()>(1)), Ok(1)))),
    ("load in load", |c| {
        let inner = c.clone();
        let loader = move |_| Ok::<_, ()>(inner.load(28, |_| Ok::<_, ()>(1)).unwrap() + 1);
        assert!(matches!(c.load(27, loader), Ok(2)));
    }),
    ("insert", |c| c.insert(30, 1)),
    ("insert_with", |c| c.insert_with(31, 1, EntryOptions::new().tag("t"))),
    ("insert_if_absent", |c| assert!(c.insert_if_absent(32, 1).unwrap())),
    ("increment", |c| assert_eq!(c.increment(33, 1, 0).unwrap(), 1)),
    ("touch", |c| assert!(c.touch(&1).unwrap())),
    ("expire_in", |c| assert!(c.expire_in(&1, Duration::from_secs(60)).unwrap())),
    ("remove", |c| assert!(c.remove(&2))),
    ("take", |c| assert_eq!(c.take(&3).unwrap(), Some(30))),
    ("invalidate", |c| c.invalidate(&4).unwrap()),
    ("invalidate_tag", |c| c.invalidate_tag("t").unwrap()),
    ("get_many", |c| assert_eq!(c.get_many(&[1, 404]), [Some(10), None])),
    ("insert_many", |c| c.insert_many([(34, 1), (35, 2)])),
    ("remove_many", |c| _ = c.remove_many(&[5, 404]).unwrap()),
    ("get_many_with", |c| assert_eq!(c.get_many_with([1, 36], many), [Some(10), Some(360)])),
    ("memoize", |c| assert_eq!(c.memoize(|n| 10 * n).call(&37), 370)),
    ("keys", |c| assert!(!c.keys().unwrap().is_empty())),
    ("iter", |c| assert!(c.iter().unwrap().count() > 0)),
    ("len", |c| assert_ne!(c.len(), 0)),
    ("stats", |c| drop(c.stats().to_string())),
    ("sweep", |c| _ = c.try_sweep().unwrap()),
    ("flush", |c| c.flush().unwrap()),
    ("an event", |_| larder::mcache::<u8, u8>("heard").on_event(|_| {}).build().unwrap().insert(1, 1)),
    ("build", |_| {
        larder::mcache::<u8, u8>("late").hard_timeout(Duration::from_secs(9)).build().unwrap().insert(1, 1)
    }),
    ("load in the pool", |_| {
        let cache = larder::mcache::<u8, u8>("late").hard_timeout(Duration::from_secs(9)).build().unwrap();
        assert!(matches!(cache.load(1, |_| Ok::<_, ()>(1)), Ok(1)));
    }),
    ("all_stats", |_| drop(larder::all_stats())),
    ("clear", |c| c.clear().unwrap()),
    ("set_enabled", |c| c.set_enabled(true).unwrap()),
];

/// The same operations by tasks, without a runtime.
const ASYNC: &[Verb] = &[
    ("get", |c| assert_eq!(block_on(c.to_async().get(&1)), Some(10))),
    ("get_with", |c| assert_eq!(block_on(c.to_async().get_with(40, async { 1 })), 1)),
    ("load", |c| assert!(matches!(block_on(c.to_async().load(41, |_| async { Ok::<_, ()>(1) })), Ok(1)))),
    ("get_many_with", |c| {
        let loaded = block_on(c.to_async().get_many_with([1, 42], |keys| async { many(keys) }));
        assert_eq!(loaded, [Some(10), Some(420)]);
    }),
    ("insert", |c| block_on(c.to_async().insert(43, 1))),
    ("insert_many", |c| block_on(c.to_async().insert_many([(44, 1)]))),
    ("increment", |c| assert_eq!(block_on(c.to_async().increment(45, 1, 0)).unwrap(), 1)),
    ("remove", |c| assert!(block_on(c.to_async().remove(&6)))),
    ("clear", |c| block_on(c.to_async().clear()).unwrap()),
];

fn open(tiers: &str, dir: &std::path::Path) -> Numbers {
    let long = Persistence::LongTerm;
    match tiers {
        "memory" => larder::mcache("late").ttl(Duration::from_secs(600)).build(),
        "disk" => larder::bcache("late").dir(dir).disk_bytes(16 << 20).build(),
        "files" => larder::fcache("late").dir(dir).disk_bytes(16 << 20).build(),
        _ => larder::ucache("late").persistence(long).dir(dir).disk_bytes(16 << 20).build(),
    }
    .unwrap()
}

/// Runs an operation in two destructors: one that runs before those of the thread-locals of the
/// cache, and one that runs after them.
fn try_in_destructors(cache: &Numbers, verb: Verb) {
    println!("{}", verb.0);
    for is_first in [true, false] {
        (1..10).for_each(|key| cache.insert(key, 10 * key));
        let late = Late(cache.clone(), verb);
        let use_it = |cache: &Numbers| {
            for key in 0..20 {
                cache.get_with(key + 1000, || key);
            }
        };
        let body = move || match is_first {
            true => {
                use_it(&late.0);
                LATE.set(Some(late));
            }
            false => {
                let other = late.0.clone();
                LATE.set(Some(late));
                use_it(&other);
            }
        };
        std::thread::spawn(body).join().unwrap();
        (20..50).chain(1000..1020).for_each(|key| _ = cache.remove(&key));
    }
}

#[test]
#[ignore = "run by the test of thread-locals, as a process of its own"]
fn the_child() {
    let Ok(tiers) = std::env::var(TIERS) else { return };
    let dir = tempfile::tempdir().unwrap();
    let cache = open(&tiers, dir.path());
    SYNC.iter().chain(ASYNC).for_each(|verb| try_in_destructors(&cache, *verb));
    // Drops the last handle of a cache, and closes a cache.
    let (closed, dropped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    try_in_destructors(&cache, ("close", |c| c.close().unwrap()));
    let cache = open(&tiers, closed.path());
    cache.insert(1, 10);
    let late = Late(cache, ("close of the last handle", |c| c.close().unwrap()));
    std::thread::spawn(move || LATE.set(Some(late))).join().unwrap();
    let late = Late(open(&tiers, dropped.path()), ("drop of the last handle", |_| {}));
    std::thread::spawn(move || LATE.set(Some(late))).join().unwrap();
    println!("survived");
}

/// The fault: operations panicked in a destructor. The cause: the thread-locals of the cache were
/// already destroyed.
#[test]
fn every_operation_works_in_the_destructor_of_a_thread_local() {
    for tiers in ALL {
        let out = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "thread_locals::the_child", "--nocapture", "--include-ignored"])
            .env(TIERS, tiers)
            .output()
            .unwrap();
        let (said, failed) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success() && said.contains("survived"), "{tiers}: {said}\n{failed}");
    }
}
