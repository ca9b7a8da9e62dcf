//! Tests beyond the conformance suite: accounting, limits, locks, expiry.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use larder_core::clock::Time;
use larder_core::entry_meta::{EntryMeta, Freshness, LiveEntryMeta};
use larder_core::erased::Key;
use larder_core::memory::{Bounds, DepartureCause, Lifespan, Lifetimes, MemoryStore, Record, ReloadCost};
use larder_core::tier::TierKind;
use parking_lot::Mutex;

use super::ShardedStore;
use crate::memory::Policy;

const POLICIES: [Policy; 9] = [
    Policy::Auto,
    Policy::TinyLfu,
    Policy::Lru,
    Policy::Lfu,
    Policy::S3Fifo,
    Policy::Sieve,
    Policy::Fifo,
    Policy::Random,
    Policy::CostAware,
];

/// A clock that a test sets; entries with a lower sequence number than `floor` are invalidated.
#[derive(Default)]
struct Hands {
    now: AtomicU64,
    floor: AtomicU64,
}

impl Lifetimes for Hands {
    fn now(&self) -> Time {
        Time::from_millis(self.now.load(SeqCst))
    }

    fn freshness(&self, lifespan: Lifespan<'_>, now: Time) -> Freshness {
        if lifespan.stamp < self.floor.load(SeqCst) {
            return Freshness::Gone;
        }
        lifespan.terms.map_or(Freshness::Fresh, |terms| terms.freshness(now))
    }

    fn invalidations(&self) -> u64 {
        self.floor.load(SeqCst)
    }
}

fn record<V>(value: V, weight: u32) -> Record<V> {
    Record {
        value: Some(value),
        created: Time::from_millis(0),
        stamp: 0,
        terms: None,
        weight,
        home: TierKind::Memory,
        checked: None,
        cost: ReloadCost::default(),
    }
}

/// A record that expires at `deadline` and may be served as stale for `stale`, in milliseconds.
fn mortal<V>(value: V, deadline: u64, stale: u64) -> Record<V> {
    let (deadline, stale) = (Time::from_millis(deadline), Duration::from_millis(stale));
    let terms = EntryMeta { deadline, stale, ..EntryMeta::PLAIN };
    Record { terms: Some(Arc::new(LiveEntryMeta::new(terms, Time::NEVER))), ..record(value, 1) }
}

fn attached<V: Clone + Send + Sync + 'static>(bounds: Bounds) -> (ShardedStore<u64, V>, Arc<Hands>) {
    let (store, hands) = (ShardedStore::new(bounds, Policy::Auto), Arc::new(Hands::default()));
    store.attach(Arc::clone(&hands) as Arc<dyn Lifetimes>);
    (store, hands)
}

#[test]
fn small_capacity_is_exact_for_every_policy() {
    for policy in POLICIES {
        for capacity in [1, 2, 10, 100, 3000] {
            let store = ShardedStore::<u64, u64>::new(Bounds::entries(capacity), policy);
            for key in 0..capacity * 4 {
                store.insert(key, record(key, 1));
                assert_eq!(
                    store.value(&key, |_| true),
                    Some(key),
                    "{policy:?}, {capacity}: the newest entry"
                );
                assert_eq!(store.usage().entries, capacity.min(key + 1), "{policy:?}, {capacity}");
            }
            assert_eq!(store.usage().evictions, capacity * 3);
        }
    }
}

/// They were evicted like others, to make room that their eviction does not make.
#[test]
fn entries_without_weight_are_evicted_only_under_a_limit_of_entries() {
    for policy in POLICIES {
        let store = ShardedStore::<u64, u64>::new(Bounds { entries: None, bytes: Some(1 << 20) }, policy);
        (0..1000).for_each(|key| _ = store.insert(key, record(key, 0)));
        (1000..3000).for_each(|key| _ = store.insert(key, record(key, 4 << 10)));
        let kept = |store: &ShardedStore<u64, u64>| (0..1000).filter(|key| store.contains(key)).count();
        assert_eq!(
            (kept(&store), store.usage().entries, store.usage().bytes),
            (1000, 1256, 1 << 20),
            "{policy:?}"
        );

        // It gains a weight and can be evicted; it loses that and cannot.
        (0..500).for_each(|key| _ = store.insert(key, record(key, 4 << 10)));
        (3000..4000).for_each(|key| _ = store.insert(key, record(key, 4 << 10)));
        (3500..4000).for_each(|key| _ = store.insert(key, record(key, 0)));
        (4000..5000).for_each(|key| _ = store.insert(key, record(key, 4 << 10)));
        assert_eq!(store.hottest(2000, |key| *key).len() as u64, store.usage().entries, "{policy:?}");
        assert!((500..1000).chain(3900..4000).all(|key| store.contains(&key)), "{policy:?}");
        (500..600).for_each(|key| assert!(store.remove(&key).is_some(), "{policy:?}"));

        store.set_bounds(Bounds { entries: Some(100), bytes: Some(1 << 20) }).unwrap();
        assert_eq!(store.usage().entries, 100, "{policy:?}: a limit of entries counts them");
        (0..200).for_each(|key| _ = store.insert(key, record(key, 0)));
        assert_eq!(store.usage().entries, 100, "{policy:?}");
        store.clear();
        assert_eq!((store.usage().entries, store.usage().bytes), (0, 0), "{policy:?}");
    }
}

#[test]
fn entry_of_a_quarter_of_the_budget_is_kept_beside_small_ones() {
    const BUDGET: u64 = 8 << 20;
    for policy in POLICIES {
        let store = ShardedStore::<u64, u64>::new(Bounds::bytes(BUDGET), policy);
        for key in 0..40_000 {
            store.insert(key, record(key, 300));
        }
        store.insert(1 << 40, record(7, (BUDGET / 4) as u32));
        assert_eq!(store.value(&(1 << 40), |_| true), Some(7), "{policy:?}");
        let usage = store.usage();
        assert!(usage.bytes <= BUDGET && usage.bytes > BUDGET - 1000, "{policy:?}: {usage:?}");
    }
}

#[test]
fn both_limits_hold_and_can_be_changed() {
    let bounds = Bounds { entries: Some(5000), bytes: Some(1 << 20) };
    let store = ShardedStore::<u64, u64>::new(bounds, Policy::Auto);
    for key in 0..9000 {
        store.insert(key, record(key, 10));
    }
    assert_eq!((store.usage().entries, store.usage().bytes), (5000, 50_000));
    for key in 0..9000 {
        store.insert(key, record(key, 1000));
    }
    let usage = store.usage();
    assert!(usage.bytes <= 1 << 20 && usage.bytes > (1 << 20) - 1000, "{usage:?}");
    store.set_bounds(Bounds { entries: Some(100), bytes: Some(1 << 20) }).unwrap();
    assert_eq!((store.usage().entries, store.usage().bytes), (100, 100_000));
    store.set_bounds(Bounds::entries(3)).unwrap();
    assert_eq!(store.usage().entries, 3);
    for key in 0..9 {
        store.insert(key, record(key, 1000));
    }
    assert_eq!(store.usage().entries, 3);
}

#[test]
fn expired_entries_leave_first_and_without_a_call_for_them() {
    let (store, hands) = attached::<u64>(Bounds::entries(1000));
    for key in 0..900 {
        store.insert(key, mortal(key, 1000, 0));
    }
    for _ in 0..10 {
        (0..900).for_each(|key| assert_eq!(store.value(&key, |_| true), Some(key)));
    }
    for key in 900..1000 {
        store.insert(key, record(key, 1));
    }
    hands.now.store(1300, SeqCst);
    for key in 2000..2900 {
        store.insert(key, record(key, 1));
    }
    assert_eq!(store.usage().evictions, 0, "an unexpired entry was evicted");
    assert_eq!((900..1000).chain(2000..2900).filter(|key| store.contains(key)).count(), 1000);
}

#[test]
fn few_inserts_free_the_space_of_many_expired_entries() {
    let (store, hands) = attached::<u64>(Bounds::entries(1000));
    for key in 0..1000 {
        store.insert(key, mortal(key, 1000, 0));
    }
    hands.now.store(2000, SeqCst);
    for key in 5000..5020 {
        store.insert(key, record(key, 1));
    }
    assert_eq!(store.usage().entries, 20);
}

#[test]
fn stale_entry_is_evicted_before_a_fresh_one() {
    let (store, hands) = attached::<u64>(Bounds::entries(100));
    for key in 0..50 {
        store.insert(key, mortal(key, 1000, 1_000_000));
    }
    for key in 50..100 {
        store.insert(key, record(key, 1));
    }
    hands.now.store(2000, SeqCst);
    assert!((0..100).all(|key| store.contains(&key)), "a stale entry is kept while there is room");
    for key in 100..150 {
        store.insert(key, record(key, 1));
    }
    assert_eq!((50..150).filter(|key| !store.contains(key)).collect::<Vec<_>>(), [0_u64; 0]);
}

#[test]
fn moved_deadline_takes_effect() {
    let (store, hands) = attached::<u64>(Bounds::entries(10));
    store.insert(1, mortal(1, 1000, 0));
    store.insert(1, mortal(1, 9000, 0));
    store.insert(2, mortal(2, 9000, 0));
    store.insert(2, mortal(2, 1000, 0));
    store.insert(3, mortal(3, 1000, 0));
    store.insert(3, record(3, 1));
    hands.now.store(2000, SeqCst);
    store.settle();
    assert_eq!([1, 2, 3].map(|key| store.contains(&key)), [true, false, true]);
}

#[test]
fn later_inserts_remove_invalidated_entries() {
    let (store, hands) = attached::<u64>(Bounds::entries(10_000));
    for key in 0..1600 {
        store.insert(key, record(key, 1));
    }
    hands.floor.store(1, SeqCst);
    for key in 0..1600 / 16 + 64 * 16 {
        store.insert(100_000 + key, Record { stamp: 1, ..record(key, 1) });
    }
    assert_eq!((0..1600).filter(|key| store.contains(key)).count(), 0);
}

#[test]
fn departures_are_reported_once_with_their_cause() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    let on_departure = move |key: Key, departure: larder_core::memory::Departure| {
        sink.lock().push((*key.downcast_ref::<u64>().unwrap(), departure.cause, departure.bytes));
    };
    let store = ShardedStore::<u64, u64>::with(
        Bounds { entries: Some(2), bytes: Some(1_000) },
        Policy::Fifo,
        Some(Box::new(on_departure)),
    );
    let hands = Arc::new(Hands::default());
    store.attach(Arc::clone(&hands) as Arc<dyn Lifetimes>);
    store.insert(1, mortal(1, 1000, 0));
    store.insert(2, record(2, 5));
    store.insert(3, record(3, 1));
    store.insert(3, record(4, 1));
    store.remove(&3);
    store.insert(1, mortal(1, 1000, 0));
    store.insert(4, record(4, 1));
    hands.now.store(1000, SeqCst);
    store.clear();
    let (evicted, expired) = (DepartureCause::Evicted, DepartureCause::Expired);
    assert_eq!(*told.lock(), [(1, evicted, Some(1)), (2, evicted, Some(5)), (1, expired, Some(1))]);
}

/// A value whose `Clone` and `Drop` call the store that holds it.
struct Caller {
    store: std::sync::Weak<ShardedStore<u64, Caller>>,
    live: Arc<AtomicI64>,
}

impl Caller {
    fn new(store: &Arc<ShardedStore<u64, Caller>>, live: &Arc<AtomicI64>) -> Self {
        live.fetch_add(1, SeqCst);
        Self { store: Arc::downgrade(store), live: Arc::clone(live) }
    }

    fn call(&self) {
        if let Some(store) = self.store.upgrade() {
            store.remove(&u64::MAX);
            store.contains(&1);
            store.usage();
        }
    }
}

impl Clone for Caller {
    fn clone(&self) -> Self {
        self.call();
        self.live.fetch_add(1, SeqCst);
        Self { store: self.store.clone(), live: Arc::clone(&self.live) }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.call();
        self.live.fetch_sub(1, SeqCst);
    }
}

/// A former engine kept values alive until some later call, and dropped them under locks.
#[test]
fn value_is_dropped_by_the_removing_call_without_a_lock() {
    let store = Arc::new(ShardedStore::<u64, Caller>::new(Bounds::entries(3), Policy::Auto));
    let live = Arc::new(AtomicI64::new(0));
    for key in 0..5 {
        store.insert(key, record(Caller::new(&store, &live), 1));
    }
    assert_eq!(live.load(SeqCst), 3, "evicted ones are dropped by the insert");
    store.insert(4, record(Caller::new(&store, &live), 1));
    assert_eq!(live.load(SeqCst), 3, "a replaced one by the insert");
    drop(store.get(&4));
    assert_eq!(live.load(SeqCst), 3);
    store.remove(&4);
    assert_eq!(live.load(SeqCst), 2);
    store.clear();
    assert_eq!(live.load(SeqCst), 0);
}

#[test]
fn accounting_is_exact_after_concurrent_calls() {
    const BUDGET: u64 = 1 << 20;
    let store = ShardedStore::<u64, Arc<[u8]>>::new(Bounds::bytes(BUDGET), Policy::Auto);
    thread::scope(|scope| {
        for seed in 0..4 {
            let store = &store;
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed);
                for _ in 0..20_000 {
                    let key = rng.u64(0..4000);
                    match rng.u32(0..10) {
                        0 => drop(store.remove(&key)),
                        1..5 => drop(store.value(&key, |_| true)),
                        _ => assert!(store.insert(key, record(Arc::from([0_u8; 8]), rng.u32(1..2000)))),
                    }
                    let usage = store.usage();
                    assert!(usage.bytes <= BUDGET + 4 * 2000, "{usage:?}");
                }
            });
        }
    });
    let held: Vec<u64> = (0..4000).filter_map(|key| Some(u64::from(store.peek(&key)?.weight))).collect();
    let usage = store.usage();
    assert_eq!((usage.entries, usage.bytes), (held.len() as u64, held.iter().sum()));
    store.clear();
    assert_eq!((store.usage().entries, store.usage().bytes), (0, 0));
}
