//! Policies with an exact order.

use super::Shard;
use crate::memory::Policy;

fn filled(policy: Policy) -> Shard {
    let mut shard = Shard::new(policy, 4);
    for key in 1..=4 {
        assert!(shard.insert(key, 1).is_empty());
    }
    shard
}

fn drained(shard: &mut Shard) -> Vec<u64> {
    std::iter::from_fn(|| shard.evict()).collect()
}

#[test]
fn lru_evicts_in_the_order_of_last_use() {
    let mut shard = filled(Policy::Lru);
    assert!(shard.get(1) && shard.get(3));
    assert_eq!(shard.insert(5, 1), [2]);
    assert_eq!(shard.hottest(3), [5, 3, 1]);
    assert_eq!(drained(&mut shard), [4, 1, 3, 5]);
}

#[test]
fn lru_counts_a_replacement_as_a_use() {
    let mut shard = filled(Policy::Lru);
    assert!(shard.insert(1, 1).is_empty());
    assert_eq!(drained(&mut shard), [2, 3, 4, 1]);
}

#[test]
fn fifo_evicts_in_the_order_of_insertion_despite_uses() {
    let mut shard = filled(Policy::Fifo);
    assert!(shard.get(1) && shard.get(1) && shard.insert(2, 1).is_empty());
    assert_eq!(shard.insert(5, 1), [1]);
    assert_eq!(drained(&mut shard), [2, 3, 4, 5]);
}

#[test]
fn removed_entry_leaves_no_gap_in_the_order() {
    for policy in [Policy::Lru, Policy::Fifo] {
        let mut shard = filled(policy);
        shard.remove(1);
        shard.remove(3);
        assert_eq!(drained(&mut shard), [2, 4]);
    }
}
