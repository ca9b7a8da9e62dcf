//! Allocations of a memory hit: no more than a hit of moka. A placement by measured times allocates nothing.

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
