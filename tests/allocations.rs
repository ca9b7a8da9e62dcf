//! Allocations of a memory hit: no more than a hit of moka.

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
