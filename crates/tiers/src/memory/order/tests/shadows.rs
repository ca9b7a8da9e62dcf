//! Tests of the choice of a tuning.

use super::super::adaptive::Tuning;
use super::super::shadows::{Sample, Shadows};
use super::hash;

/// Feeds keys to simulations of a cache of `capacity`; returns the final tuning.
fn tuned(capacity: u64, keys: impl Iterator<Item = u64>) -> Tuning {
    let sample = Sample::of(capacity);
    let mut shadows = Shadows::new(sample);
    let mut tuning = Tuning::START;
    for hash in keys.map(hash).filter(|hash| sample.takes(*hash)) {
        let is_hit = shadows.holds(hash);
        tuning = shadows.access(hash, capacity, is_hit).unwrap_or(tuning);
    }
    tuning
}

#[test]
fn sample_takes_about_one_key_in_32_and_fewer_of_a_large_cache() {
    let taken = |capacity| {
        let sample = Sample::of(capacity);
        (0..1_000_000).filter(|key| sample.takes(hash(*key))).count()
    };
    assert!((30_000..33_000).contains(&taken(10)), "{}", taken(10));
    assert!((30_000..33_000).contains(&taken(4_000)), "{}", taken(4_000));
    assert!((14_800..16_600).contains(&taken(40_000)), "{}", taken(40_000));
    assert!((14_800..16_600).contains(&taken(10_000_000)), "{}", taken(10_000_000));
}

#[test]
fn loop_leads_to_a_small_window() {
    let tuning = tuned(10_000, (0..200_000).map(|step| step % 30_000));
    assert!(tuning.window <= 10, "{tuning:?}");
}

/// Each key is used four times within 6,000 accesses to others, and never again.
fn recent(from: u64, to: u64) -> impl Iterator<Item = u64> {
    (from..to).map(|step| step / 4 - (step % 4) * 2_000)
}

#[test]
fn keys_used_for_a_short_time_lead_to_a_large_window() {
    let tuning = tuned(10_000, recent(1_000_000, 1_300_000));
    assert!(tuning.window >= 300, "{tuning:?}");
}

#[test]
fn tuning_follows_a_change_of_the_accesses() {
    let loops = (0..200_000).map(|step| step % 30_000);
    let tuning = tuned(10_000, loops.chain(recent(1_000_000, 1_400_000)));
    assert!(tuning.window >= 300, "{tuning:?}");
}

#[test]
fn uniform_accesses_rarely_change_the_tuning() {
    let mut random = fastrand::Rng::with_seed(3);
    let sample = Sample::of(10_000);
    let mut shadows = Shadows::new(sample);
    let changes = (0..400_000)
        .map(|_| hash(random.u64(0..100_000)))
        .filter(|hash| sample.takes(*hash))
        .filter(|hash| {
            let is_hit = shadows.holds(*hash);
            shadows.access(*hash, 10_000, is_hit).is_some()
        })
        .count();
    // Of 40 rounds.
    assert!(changes < 10, "{changes}");
}

/// A cache that has fewer hits than a simulation, over many rounds, takes its tuning, though none was better
/// than that of the cache lately.
#[test]
fn cache_behind_a_simulation_takes_its_tuning() {
    let (capacity, sample) = (10_000, Sample::of(10_000));
    let mut random = fastrand::Rng::with_seed(5);
    let mut changes = |has_hits: bool| {
        let mut shadows = Shadows::new(sample);
        let hashes = (0..300_000).map(|_| hash(random.u64(0..100_000))).filter(|hash| sample.takes(*hash));
        hashes
            .filter(|hash| {
                let is_hit = has_hits && shadows.holds(*hash);
                shadows.access(*hash, capacity, is_hit).is_some()
            })
            .count()
    };
    let (with_hits, without) = (changes(true), changes(false));
    assert!(without > with_hits, "{with_hits} and {without}");
}
