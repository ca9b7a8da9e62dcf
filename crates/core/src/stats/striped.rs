//! Counters that many threads increment without sharing a cache line.

use std::cell::Cell;
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
    /// Entries written by callers.
    Insertions,
    /// Entries written by loads.
    Published,
    /// Entries removed by callers.
    Removals,
    /// Entries stored in memory.
    Puts,
    /// Nanoseconds spent in loaders.
    LoadNanos,
}

/// The number of counts.
const COUNTS: usize = HotCount::LoadNanos as usize + 1;

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

#[derive(Debug)]
#[repr(C, align(128))]
struct Stripe {
    /// The number of hits from which on a hit is a sample. The greatest number: none is.
    sampled_from: AtomicU64,
    counts: [AtomicU64; COUNTS],
}

impl Default for Stripe {
    fn default() -> Self {
        Self { sampled_from: AtomicU64::new(u64::MAX), counts: Default::default() }
    }
}

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
        let index = if index < STRIPES { index } else { SHARED };
        STRIPE.set(index);
        Self(index)
    }
}

impl Drop for OwnStripe {
    fn drop(&mut self) {
        STRIPE.set(SHARED);
        if self.0 != SHARED {
            TAKEN.fetch_and(!(1 << self.0), Ordering::AcqRel);
        }
    }
}

thread_local! {
    /// The number of the stripe of this thread. Until it counts for the first time, and after its thread-locals
    /// are destroyed, the shared one.
    static STRIPE: Cell<usize> = const { Cell::new(SHARED) };
    static OWN: OwnStripe = OwnStripe::take();
}

/// The number of the stripe of this thread.
#[inline]
fn stripe_of_thread() -> usize {
    match STRIPE.get() {
        SHARED => taken_stripe(),
        own => own,
    }
}

/// The number of the stripe of this thread, which takes one now if it has none.
#[cold]
fn taken_stripe() -> usize {
    OWN.try_with(|own| own.0).unwrap_or(SHARED)
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
        let Some(stripe) = self.own_stripe() else { return self.add_first_or_shared(&counts) };
        for (count, n) in counts {
            stripe.add(count, n);
        }
    }

    /// Counts a hit, and returns whether it is a sample: never, unless [`sample_at_once`](Self::sample_at_once)
    /// was called.
    #[inline]
    pub fn hit(&self) -> bool {
        match self.own_stripe() {
            Some(stripe) => stripe.is_sampled(stripe.add(HotCount::Hits, 1)),
            None => self.hit_first_or_shared(),
        }
    }

    /// Makes the next hit of each stripe a sample, and all hits after it until
    /// [`sample_after`](Self::sample_after).
    pub fn sample_at_once(&self) {
        self.stripes.iter().for_each(|stripe| stripe.sampled_from.store(0, Ordering::Relaxed));
    }

    /// Makes the hit after this number of hits of the stripe of this thread the next sample: 1 is the next hit.
    pub fn sample_after(&self, hits: u64) {
        let stripe = &self.stripes[stripe_of_thread() % STRIPES];
        let counted = stripe.counts[HotCount::Hits as usize].load(Ordering::Relaxed);
        stripe.sampled_from.store(counted.saturating_add(hits.saturating_sub(1)), Ordering::Relaxed);
    }

    /// The number of the stripe of this thread, and counts of it: a value that no other thread has now.
    pub fn of_thread<const N: usize>(&self, counts: [HotCount; N]) -> (usize, [u64; N]) {
        let stripe = stripe_of_thread();
        let stripe_counts = &self.stripes[stripe % STRIPES].counts;
        (stripe, counts.map(|count| stripe_counts[count as usize].load(Ordering::Relaxed)))
    }

    /// The sum of all stripes.
    pub fn get(&self, count: HotCount) -> u64 {
        self.stripes.iter().map(|stripe| stripe.counts[count as usize].load(Ordering::Relaxed)).sum()
    }

    /// The stripe of this thread, if it has one of its own.
    #[inline]
    fn own_stripe(&self) -> Option<&Stripe> {
        let stripe = STRIPE.get();
        (stripe != SHARED).then(|| &self.stripes[stripe % STRIPES])
    }

    /// As [`add`](Self::add), by a thread that has not counted before, or shares a stripe.
    #[cold]
    fn add_first_or_shared(&self, counts: &[(HotCount, u64)]) {
        let index = taken_stripe();
        for (count, n) in counts {
            match index {
                SHARED => self.stripes[SHARED].add_shared(*count, *n),
                own => self.stripes[own % STRIPES].add(*count, *n),
            };
        }
    }

    /// As [`hit`](Self::hit), by a thread that has not counted before, or shares a stripe.
    #[cold]
    fn hit_first_or_shared(&self) -> bool {
        let index = taken_stripe();
        let stripe = &self.stripes[index % STRIPES];
        let before = match index {
            SHARED => stripe.add_shared(HotCount::Hits, 1),
            _ => stripe.add(HotCount::Hits, 1),
        };
        stripe.is_sampled(before)
    }
}

impl Stripe {
    /// Adds to a count that only this thread changes. Returns what it was before.
    #[inline]
    fn add(&self, count: HotCount, n: u64) -> u64 {
        let place = &self.counts[count as usize];
        let before = place.load(Ordering::Relaxed);
        place.store(before.wrapping_add(n), Ordering::Relaxed);
        before
    }

    /// Adds to a count that several threads change. Returns what it was before.
    fn add_shared(&self, count: HotCount, n: u64) -> u64 {
        self.counts[count as usize].fetch_add(n, Ordering::Relaxed)
    }

    /// Whether the hit is a sample before which this stripe had counted so many.
    #[inline]
    fn is_sampled(&self, before: u64) -> bool {
        before >= self.sampled_from.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hit_is_a_sample_only_where_one_is_asked_for() {
        let counts = HotCounts::default();
        assert!((0..10).all(|_| !counts.hit()), "nothing is asked for");
        counts.sample_at_once();
        assert!(counts.hit() && counts.hit());
        counts.sample_after(1);
        assert!(counts.hit());
        counts.sample_after(3);
        assert_eq!([(); 4].map(|()| counts.hit()), [false, false, true, true]);
        counts.sample_after(u64::MAX);
        assert!(!counts.hit());
        assert_eq!(counts.get(HotCount::Hits), 18);
    }

    #[test]
    fn hits_of_more_threads_than_stripes_are_counted_and_sampled() {
        let counts = HotCounts::default();
        counts.sample_at_once();
        let barrier = std::sync::Barrier::new(2 * STRIPES);
        let samples = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 * STRIPES {
                scope.spawn(|| {
                    for _ in 0..100 {
                        if counts.hit() {
                            counts.sample_after(10);
                            samples.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    // Each thread keeps its stripe until all have counted.
                    barrier.wait();
                });
            }
        });
        assert_eq!(counts.get(HotCount::Hits), 2 * STRIPES as u64 * 100);
        let samples = samples.into_inner();
        assert!((2 * STRIPES as u64 * 10 / 2..2 * STRIPES as u64 * 100).contains(&samples), "{samples}");
    }
}
