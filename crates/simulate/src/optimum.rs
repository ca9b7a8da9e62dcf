//! The most hits that a cache can have that knows all requests beforehand.

use std::collections::BinaryHeap;

use crate::{Weights, Workload};

/// No later request.
const NEVER: u32 = u32::MAX;

/// The share of hits of the optimum, in a cache with this bound.
///
/// For entries of equal weight it is exact: Belady, "A study of replacement algorithms for a
/// virtual-storage computer", IBM Systems Journal 5(2), 1966; a cache need not keep a new
/// entry. For entries of different sizes it is an upper bound, PFOO-L of Berger, Beckmann and
/// Harchol-Balter, "Practical Bounds on Optimal Caching with Variable Object Sizes",
/// SIGMETRICS 2018.
///
/// ```
/// use larder_simulate::{Workload, optimum};
///
/// let workload = Workload::new("loop", String::new(), (0..10).cycle().take(100));
/// assert_eq!(optimum::share(&workload, 5), 0.45);
/// ```
pub fn share(workload: &Workload, room: u64) -> f64 {
    let hits = match &workload.weights {
        Weights::Entries => belady(&workload.requests, room as usize),
        Weights::Bytes(bytes) => bound(&workload.requests, bytes, room),
    };
    hits as f64 / workload.requests.len().max(1) as f64
}

/// For each request, the place of the next one for the same key.
fn next_requests(requests: &[u32]) -> Vec<u32> {
    let keys = requests.iter().max().map_or(0, |largest| *largest as usize + 1);
    let mut last = vec![NEVER; keys];
    let mut next = vec![NEVER; requests.len()];
    for (place, key) in requests.iter().enumerate().rev() {
        next[place] = std::mem::replace(&mut last[*key as usize], place as u32);
    }
    next
}

/// Hits of the cache that evicts the entry whose next request is the last to come.
fn belady(requests: &[u32], room: usize) -> u64 {
    let next = next_requests(requests);
    // The next request of each key in the cache. `NEVER`: it is not there.
    let mut cached = vec![NEVER; next.len()];
    let mut furthest: BinaryHeap<(u32, u32)> = BinaryHeap::new();
    let (mut hits, mut entries) = (0, 0);
    for (place, (key, next)) in requests.iter().zip(next).enumerate() {
        if cached[*key as usize] == place as u32 {
            hits += 1;
            entries -= 1;
        }
        cached[*key as usize] = next;
        if next == NEVER {
            continue;
        }
        furthest.push((next, *key));
        entries += 1;
        while entries > room {
            let Some((next, key)) = furthest.pop() else { break };
            if cached[key as usize] == next {
                cached[key as usize] = NEVER;
                entries -= 1;
            }
        }
        // Entries that were requested since are of the past, at the end of the heap.
        if furthest.len() > 4 * room + 1024 {
            furthest.retain(|(next, key)| cached[*key as usize] == *next);
        }
    }
    hits
}

/// At most so many hits: those that take the least bytes for the shortest time, as long as
/// bytes and time last.
fn bound(requests: &[u32], bytes: &[u32], room: u64) -> u64 {
    let next = next_requests(requests);
    let cost = |(place, next): (usize, &u32)| {
        let time = u64::from(*next) - place as u64;
        (*next != NEVER).then(|| time * u64::from(bytes[requests[place] as usize]))
    };
    let mut costs: Vec<u64> = next.iter().enumerate().filter_map(cost).collect();
    costs.sort_unstable();
    let mut left = room.saturating_mul(requests.len() as u64);
    let pays = |cost: &&u64| {
        let is_left = left.checked_sub(**cost);
        left = is_left.unwrap_or(0);
        is_left.is_some()
    };
    costs.iter().take_while(pays).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_request_of_the_same_key_is_found() {
        assert_eq!(next_requests(&[0, 1, 0, 0, 2]), [2, NEVER, 3, NEVER, NEVER]);
    }

    #[test]
    fn entry_that_is_needed_last_leaves() {
        // Of 0, 1 and 2 the cache keeps 0 and 1.
        assert_eq!(belady(&[0, 1, 2, 0, 1, 2], 2), 2);
        assert_eq!(belady(&[0, 1, 2, 0, 1, 2], 3), 3);
    }

    #[test]
    fn new_entry_that_is_needed_last_is_not_kept() {
        assert_eq!(belady(&[0, 1, 0, 2, 0, 1], 1), 2);
    }

    #[test]
    fn loop_hits_as_many_keys_as_fit_in_each_pass() {
        let requests: Vec<u32> = (0..10).cycle().take(100).collect();
        for room in 1..=10 {
            assert_eq!(belady(&requests, room), 9 * room as u64);
        }
    }

    /// Tries each way to keep up to `room` of the keys.
    fn by_trial(requests: &[u32], cached: &[u32], room: usize) -> u64 {
        let Some((key, later)) = requests.split_first() else { return 0 };
        let hit = u64::from(cached.contains(key));
        let mut all = cached.to_vec();
        if hit == 0 {
            all.push(*key);
        }
        if all.len() <= room {
            return hit + by_trial(later, &all, room);
        }
        let without = |place: usize| {
            let mut kept = all.clone();
            kept.remove(place);
            by_trial(later, &kept, room)
        };
        hit + (0..all.len()).map(without).max().unwrap_or(0)
    }

    #[test]
    fn belady_is_the_best_of_all_ways() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let requests: Vec<u32> = (0..9).map(|_| random.u32(0..5)).collect();
            for room in 1..4 {
                assert_eq!(belady(&requests, room), by_trial(&requests, &[], room), "{requests:?} {room}");
            }
        }
    }

    #[test]
    fn long_loop_forgets_the_past_of_the_heap() {
        let requests: Vec<u32> = (0..3_000).flat_map(|step| [0, 1, 2 + step % 100]).collect();
        assert_eq!(belady(&requests, 2), 2 * 2_999);
    }

    #[test]
    fn bound_is_what_bytes_and_time_pay_for() {
        // Hits cost 2 * 10, 1 * 10 and 3 * 20 byte-requests.
        let requests = [0, 1, 0, 0, 1];
        assert_eq!(bound(&requests, &[10, 20], 5), 1);
        assert_eq!(bound(&requests, &[10, 20], 6), 2);
        assert_eq!(bound(&requests, &[10, 20], 18), 3);
    }

    #[test]
    fn bound_is_not_below_the_optimum_of_equal_sizes() {
        let mut random = fastrand::Rng::with_seed(2);
        let requests: Vec<u32> = (0..5_000).map(|_| random.u32(0..random.clone().u32(1..200))).collect();
        for room in [1, 5, 20, 100] {
            assert!(bound(&requests, &[1; 200], room) >= belady(&requests, room as usize), "{room}");
        }
    }
}
