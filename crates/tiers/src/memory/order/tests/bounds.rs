//! Properties of every policy.

use std::collections::HashSet;

use super::Shard;
use crate::memory::Policy;

const ALL: [Policy; 9] = [
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

#[test]
fn small_capacity_is_exact_and_keeps_the_newest_entry() {
    for policy in ALL {
        for capacity in [1, 2, 10] {
            let mut shard = Shard::new(policy, capacity);
            for key in 0..100 {
                shard.insert(key % 13, 1);
                assert!(shard.get(key % 13), "{policy:?} of {capacity}: the newest entry");
                assert!(shard.slots.len() as u64 <= capacity);
                assert!(key < 13 || shard.slots.len() as u64 == capacity, "{policy:?} of {capacity} is full");
            }
        }
    }
}

#[test]
fn entry_of_a_quarter_of_the_budget_is_kept_by_its_insert() {
    for policy in ALL {
        let mut shard = Shard::new(policy, 1_000);
        let mut random = fastrand::Rng::with_seed(1);
        for key in 0..3_000 {
            let weight = if random.u8(0..20) == 0 { 250 } else { random.u32(1..20) };
            shard.insert(key % 500, weight);
            assert!(shard.get(key % 500), "{policy:?}");
            assert!(shard.weight <= 1_000, "{policy:?}");
            if random.bool() {
                shard.get(random.u64(0..500));
            }
        }
        assert!(shard.weight > 700, "{policy:?} uses its budget: {}", shard.weight);
    }
}

#[test]
fn every_entry_can_be_evicted_once() {
    for policy in ALL {
        let mut shard = Shard::new(policy, 100);
        for key in 0..150 {
            shard.insert(key, 1);
            shard.get(key / 2);
        }
        let left: HashSet<u64> = std::iter::from_fn(|| shard.evict()).collect();
        assert_eq!(left.len(), 100, "{policy:?}");
        assert!(shard.evict().is_none() && shard.slots.is_empty());
    }
}

#[test]
fn smaller_budget_evicts_down_to_it() {
    for policy in ALL {
        let mut shard = Shard::new(policy, 200);
        for key in 0..200 {
            shard.insert(key, 1);
        }
        shard.budget = 20;
        shard.order.set_budget(20);
        shard.insert(1_000, 1);
        assert_eq!(shard.weight, 20, "{policy:?}");
        assert!(shard.get(1_000), "{policy:?}");
    }
}

#[test]
fn cleared_order_behaves_like_a_new_one() {
    for policy in ALL {
        let mut shard = Shard::new(policy, 10);
        for key in 0..30 {
            shard.insert(key, 1);
        }
        shard.order.clear();
        let mut other = Shard { order: shard.order, ..Shard::new(policy, 10) };
        for key in 0..30 {
            other.insert(key, 1);
        }
        assert_eq!(other.slots.len(), 10, "{policy:?}");
    }
}

#[test]
fn hottest_entries_are_the_most_used() {
    for policy in ALL.into_iter().filter(|policy| !matches!(policy, Policy::Lru | Policy::CostAware)) {
        let mut shard = Shard::new(policy, 100);
        for key in 0..100 {
            shard.insert(key, 1);
        }
        for uses in 0..3 {
            for key in 10..20 - uses {
                shard.get(key);
            }
        }
        let mut hottest = shard.hottest(8);
        hottest.sort_unstable();
        assert_eq!(hottest, Vec::from_iter(10..18), "{policy:?}");
    }
}

#[test]
fn random_evicts_all_entries_about_equally_often() {
    let mut shard = Shard::new(Policy::Random, 10);
    let mut places = [0_u32; 10];
    for key in 0..10_000 {
        for victim in shard.insert(key, 1) {
            // Older entries are fewer: each age has a tenth less than the one before.
            places[((key - victim) as usize).min(9)] += 1;
        }
    }
    // The entry just inserted is spared; the one before it leaves with a chance of 1 in 10.
    assert!((800..1_200).contains(&places[1]), "{places:?}");
    assert!((600..1_000).contains(&places[3]), "{places:?}");
}
