//! Loads of a thread in memory alone that other callers join: the first of them makes the flight.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use larder::{Cache, mcache};

/// A key whose hash is that of every other.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Colliding(u32);

impl Hash for Colliding {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(0);
    }
}

/// Waits long enough for a thread to reach the point where it waits.
fn wait_a_while() {
    let until = Instant::now() + Duration::from_millis(200);
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}

/// Runs `meanwhile` while a thread loads `key`, with `waiters` that ask for it too. Returns what the leader and the
/// waiters got.
fn joined(
    cache: &Cache<Colliding, u32>,
    key: &Colliding,
    waiters: u32,
    meanwhile: impl FnOnce(),
) -> Vec<u32> {
    let (begun, begins) = mpsc::channel();
    let (end, ends) = mpsc::channel();
    thread::scope(|scope| {
        let leader = scope.spawn(move || {
            cache.get_with(key.clone(), || {
                begun.send(()).unwrap();
                ends.recv().unwrap();
                1
            })
        });
        begins.recv().unwrap();
        let waiter = |number| move || cache.get_with(key.clone(), || 100 + number);
        let waiters: Vec<_> = (0..waiters).map(|number| scope.spawn(waiter(number))).collect();
        wait_a_while();
        meanwhile();
        end.send(()).unwrap();
        [leader].into_iter().chain(waiters).map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn waiters_share_the_value_of_a_load_that_began_alone() {
    let cache = mcache("joined").build().unwrap();
    assert_eq!(joined(&cache, &Colliding(1), 3, || ()), [1; 4]);
    assert_eq!(cache.get(&Colliding(1)), Some(1));
    assert_eq!(cache.stats().cache.loads, 1);
}

#[test]
fn waiter_of_another_key_with_an_equal_hash_loads_its_own_value() {
    let cache = mcache("colliding").build().unwrap();
    let loads = AtomicUsize::new(0);
    thread::scope(|scope| {
        let mut others = Vec::new();
        let values = joined(&cache, &Colliding(1), 2, || {
            for key in 2..5 {
                let (cache, loads) = (&cache, &loads);
                others.push(scope.spawn(move || {
                    cache.get_with(Colliding(key), || {
                        loads.fetch_add(1, SeqCst);
                        key
                    })
                }));
            }
            wait_a_while();
        });
        assert_eq!(values, [1; 3]);
        assert!(others.into_iter().map(|thread| thread.join().unwrap()).eq(2..5));
    });
    assert_eq!(loads.load(SeqCst), 3);
    // Of loads with one hash, one that ends after a load that began later is not stored.
    assert_eq!(cache.get(&Colliding(1)), Some(1));
    assert!((2..5).all(|key| cache.get(&Colliding(key)).is_none_or(|value| value == key)));
}

#[test]
fn load_superseded_by_a_removal_answers_its_waiters_and_is_not_stored() {
    let cache = mcache("removed").build().unwrap();
    let key = Colliding(1);
    let values = joined(&cache, &key, 2, || {
        cache.remove(&key);
        // It began after the removal, so it leads a load of its own.
        assert_eq!(cache.get_with(key.clone(), || 7), 7);
    });
    // A waiter that comes late, after the removal, joins neither.
    assert!(values[0] == 1 && values.iter().all(|value| [1, 7].contains(value)), "{values:?}");
    assert_eq!(cache.get(&key), Some(7));
}

#[test]
fn caller_after_an_invalidation_does_not_join_a_load_from_before() {
    let cache = mcache("invalidated").build().unwrap();
    let key = Colliding(1);
    let values = joined(&cache, &key, 1, || {
        cache.invalidate_all().unwrap();
        assert_eq!(cache.get_with(key.clone(), || 7), 7);
    });
    assert!(values[0] == 1 && values.iter().all(|value| [1, 7].contains(value)), "{values:?}");
    assert_eq!(cache.get(&key), Some(7), "the later load is stored, and the earlier one does not replace it");
}

#[test]
fn value_that_is_too_large_to_store_is_handed_to_the_waiters() {
    let weigher = |_: &Colliding, _: &u32| u32::MAX;
    let cache = mcache("large").memory_bytes(1 << 20).weigher(weigher).build().unwrap();
    assert_eq!(joined(&cache, &Colliding(1), 2, || ()), [1; 3]);
    assert_eq!(cache.get(&Colliding(1)), None);
}

#[test]
fn error_is_shared_by_callers_of_the_same_key_alone() {
    let cache: Cache<Colliding, u32> = mcache("failing").build().unwrap();
    let (begun, begins) = mpsc::channel();
    let (end, ends) = mpsc::channel();
    thread::scope(|scope| {
        let cache = &cache;
        let leader = scope.spawn(move || {
            cache.try_get_with(Colliding(1), || {
                begun.send(()).unwrap();
                ends.recv().unwrap();
                Err("leader")
            })
        });
        begins.recv().unwrap();
        let waiter = scope.spawn(|| cache.try_get_with(Colliding(1), || Err("waiter")));
        let other = scope.spawn(|| cache.try_get_with(Colliding(2), || Err("other")));
        wait_a_while();
        end.send(()).unwrap();
        assert_eq!(*leader.join().unwrap().unwrap_err(), "leader");
        assert_eq!(*waiter.join().unwrap().unwrap_err(), "leader");
        assert_eq!(*other.join().unwrap().unwrap_err(), "other");
    });
    assert_eq!(cache.stats().cache.loads, 2);
    assert_eq!(cache.stats().cache.load_failures, 2);
}
