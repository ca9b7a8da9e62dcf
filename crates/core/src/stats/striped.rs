//! Counters that many threads increment without sharing a cache line.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What is counted once a call of a cache of memory alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HotCount {
    /// Look-ups that memory answered.
    Hits,
    /// Look-ups that no tier answered.
    Misses,
    /// Loaders that were run.
    Loads,
    /// Nanoseconds spent in loaders.
    LoadNanos,
    /// Entries written by callers.
    Insertions,
    /// Entries written by loads.
    Published,
    /// Entries removed by callers.
    Removals,
    /// Entries stored in memory.
    Puts,
}

/// The number of counts.
const COUNTS: usize = HotCount::Puts as usize + 1;

/// Counters that many threads increment without sharing a cache line.
///
/// Up to 15 threads at a time have a stripe each, in which an increment costs a load and a store. Other threads
/// share one more stripe, by an atomic addition. A read sums the stripes.
#[derive(Debug, Default)]
pub struct HotCounts {
    stripes: [Stripe; STRIPES],
}

const STRIPES: usize = 16;
/// The stripe of all threads that have none of their own.
const SHARED: usize = 0;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe([AtomicU64; COUNTS]);

/// A bit for each stripe that a thread has, or that is shared.
static TAKEN: AtomicUsize = AtomicUsize::new(1 << SHARED);

/// The right of one thread to count in a stripe, in every counter.
struct OwnStripe(usize);

impl OwnStripe {
    fn take() -> Self {
        let mut index = SHARED;
        // Acquires what the former owner of the stripe has counted.
        let _taken = TAKEN.fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
            index = (!taken).trailing_zeros() as usize;
            (index < STRIPES).then(|| taken | 1 << index)
        });
        Self(if index < STRIPES { index } else { SHARED })
    }
}

impl Drop for OwnStripe {
    fn drop(&mut self) {
        if self.0 != SHARED {
            TAKEN.fetch_and(!(1 << self.0), Ordering::AcqRel);
        }
    }
}

thread_local! {
    static STRIPE: OwnStripe = OwnStripe::take();
}

impl HotCounts {
    /// Adds one to a count.
    #[inline]
    pub fn increment(&self, count: HotCount) {
        self.add([(count, 1)]);
    }

    /// Adds to several counts at once.
    #[inline]
    pub fn add<const N: usize>(&self, counts: [(HotCount, u64); N]) {
        let stripe = own_stripe();
        for (count, n) in counts {
            self.count(stripe, count, n);
        }
    }

    /// Adds one to a count, and returns what this stripe counted before.
    #[inline]
    pub fn count_one(&self, count: HotCount) -> u64 {
        self.count(own_stripe(), count, 1)
    }

    #[inline]
    fn count(&self, stripe: usize, count: HotCount, n: u64) -> u64 {
        let place = &self.stripes[stripe % STRIPES].0[count as usize];
        if stripe == SHARED {
            return place.fetch_add(n, Ordering::Relaxed);
        }
        let before = place.load(Ordering::Relaxed);
        place.store(before.wrapping_add(n), Ordering::Relaxed);
        before
    }

    /// The number of the stripe of this thread, and counts of it: a value that no other thread has now.
    pub fn of_thread<const N: usize>(&self, counts: [HotCount; N]) -> (usize, [u64; N]) {
        let stripe = own_stripe();
        (stripe, counts.map(|count| self.stripes[stripe % STRIPES].0[count as usize].load(Ordering::Relaxed)))
    }

    /// The sum of all stripes.
    pub fn get(&self, count: HotCount) -> u64 {
        self.stripes.iter().map(|stripe| stripe.0[count as usize].load(Ordering::Relaxed)).sum()
    }
}

/// The stripe of this thread. A thread whose thread-locals are destroyed counts in the shared one.
#[inline]
fn own_stripe() -> usize {
    STRIPE.try_with(|stripe| stripe.0).unwrap_or(SHARED)
}
