//! Allocations of a memory hit: no more than a hit of moka. A load that no other caller joins, and a placement by
//! measured times, allocate nothing.

use std::hint::black_box;
use std::sync::Arc;

const HITS: u64 = 10_000;

fn allocations(get: impl Fn(u64)) -> u64 {
    (0..HITS).for_each(&get);
    allocation_counter::measure(|| (0..HITS).for_each(&get)).count_total
}

#[test]
fn memory_hit_allocates_no_more_than_moka() {
    let moka = moka::sync::Cache::builder()
        .max_capacity(HITS * 2)
        .build_with_hasher(foldhash::fast::RandomState::default());
    let larder = larder::mcache::<u64, Arc<str>>("allocations").capacity(HITS * 2).build().unwrap();
    let value: Arc<str> = Arc::from("value");
    for key in 0..HITS {
        moka.insert(key, Arc::clone(&value));
        larder.insert(key, Arc::clone(&value));
    }
    let of_moka = allocations(|key| drop(black_box(moka.get(&key))));
    let of_larder = allocations(|key| drop(black_box(larder.get(&key))));
    // The housekeeping of moka allocates in one call of a hundred.
    assert!(of_larder <= of_moka + HITS / 1000, "moka {of_moka}, larder {of_larder} in {HITS} hits");
}

#[test]
fn load_that_no_other_caller_joins_allocates_nothing() {
    let larder = larder::mcache::<u64, Arc<str>>("allocations").capacity(1000).build().unwrap();
    let value: Arc<str> = Arc::from("value");
    // Twice as many keys as fit: each is loaded again.
    let load = |key: u64| drop(black_box(larder.get_with(key % 2000, || Arc::clone(&value))));
    (0..10).for_each(|_| (0..HITS).for_each(load));
    let before = larder.stats().cache.loads;
    let allocated = allocation_counter::measure(|| (0..HITS).for_each(load)).count_total;
    let loads = larder.stats().cache.loads - before;
    assert!(loads > HITS / 4 && allocated < loads / 100, "{allocated} allocations in {loads} loads");
}

#[test]
fn placement_by_measured_times_allocates_nothing() {
    use std::time::Duration;

    use larder::{Adaptive, Capability, Facts, Kind, Lesson, Selector, TierFacts, TierKind};

    let tier = |kind| TierFacts {
        kind,
        capability: Capability {
            stores: true,
            persistent: kind != TierKind::Memory,
            shared: false,
            blocking: false,
            frame_bytes_max: 1 << 30,
        },
        coherent: true,
        healthy: true,
        position: None,
    };
    let tiers = [TierKind::Memory, TierKind::Disk, TierKind::File].map(tier);
    let selector = Adaptive::default();
    let time = Duration::from_micros(20);
    let request = |key: u64| {
        let mut facts = Facts::new(100 + key % 100_000, Kind::Other);
        (facts.key, facts.load_cost) = (Some(key.wrapping_mul(0x9E37_79B9_7F4A_7C15)), Some(time * 50));
        black_box(selector.place(&facts, &tiers));
        selector.learn(Lesson::Requested { facts: &facts, found: None });
        selector.learn(Lesson::Written { tier: TierKind::Disk, bytes: facts.bytes, time });
    };
    (0..HITS).for_each(request);
    let allocated = allocation_counter::measure(|| (0..HITS).for_each(request)).count_total;
    assert_eq!(allocated, 0);
}
