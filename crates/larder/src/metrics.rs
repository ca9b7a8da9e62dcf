//! Publishes the statistics through the crate `metrics`.
//!
//! A cache keeps its own counters, so that a hit costs only one addition. [`publish`] passes the increments
//! to the installed recorder: call it before the recorder is read, in the handler of `/metrics` or
//! periodically. The names, units and labels are listed in
//! [docs/observability.md](https://github.com/larder-rs/larder/blob/main/docs/observability.md).
//!
//! ```
//! let squares = larder::mcache::<u64, u64>("squares").build()?;
//! assert_eq!(squares.get_with(12, || 144), 144);
//! larder::metrics::publish();
//! # Ok::<(), larder::Error>(())
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use larder_core::latency::Latency;
use larder_core::stats::{CacheCounts, Counted, Stats, TierCounts, TierStats};
use larder_core::tier::TierKind;
use larder_engine::Engine;
use once_cell::sync::Lazy;
use parking_lot::Mutex;

use crate::registry::{self, AnyCache};

/// The most samples that one histogram receives in one call, since most recorders take them one by one. If
/// there are more, each bucket is sampled in proportion.
const TIMES_MAX: u64 = 10_000;

/// How long the final counts of a cache wait for a concurrent call of [`publish`].
const PATIENCE: Duration = Duration::from_secs(1);

/// The values that were published before.
static PUBLISHED: Lazy<Mutex<Published>> = Lazy::new(Mutex::default);

#[derive(Default)]
struct Published {
    /// Keyed by address, which is not reused while a weak handle is held.
    caches: HashMap<usize, (Weak<dyn AnyCache>, Stats)>,
    /// Gauges by cache and tier: entries and bytes.
    gauges: BTreeMap<(String, TierKind), (u64, u64)>,
}

/// Publishes the statistics of all caches of this process to the recorder of the crate `metrics`: what they
/// counted since the last call, and what they hold now.
///
/// Costs one [`all_stats`](crate::all_stats), and some twenty calls of the recorder for each cache and tier.
/// Caches of one name add up. The counts after the last call are published when the last handle of a cache is
/// dropped, in the dropping thread. Counts of a call without an installed recorder are not published. A
/// concurrent call returns at once.
pub fn publish() {
    // Declared first, so that it is dropped last: dropping the last handle of a cache takes the lock.
    let caches = registry::caches_with_handles();
    let Some(mut published) = PUBLISHED.try_lock() else { return };
    describe();
    let mut gauges = BTreeMap::new();
    for cache in &caches {
        let stats = AnyCache::stats(&**cache);
        for tier in stats.tiers.iter().filter(|_| !cache.is_ended()) {
            let (entries, bytes) = gauges.entry((cache.name().to_owned(), tier.kind)).or_insert((0, 0));
            *entries += tier.usage.entries;
            *bytes += tier.usage.bytes;
        }
        let known = published.known(cache);
        publish_cache(cache.name(), &stats, known);
        *known = stats;
    }
    // A dropped or closed cache holds nothing: its gauges are set to zero.
    let gone = published.gauges.keys().filter(|key| !gauges.contains_key(*key));
    gone.for_each(|(cache, tier)| set_gauges(cache, *tier, (0, 0)));
    gauges.iter().for_each(|((cache, tier), held)| set_gauges(cache, *tier, *held));
    published.gauges = gauges;
    published.caches.retain(|_, (known, _)| known.strong_count() > 0);
}

/// Publishes the remaining counts of a cache when its last handle is dropped.
pub(crate) fn publish_last(cache: &Engine) {
    // The holder of this lock drops no cache, unless a recorder does.
    let Some(mut published) = PUBLISHED.try_lock_for(PATIENCE) else { return };
    let known = published.caches.remove(&std::ptr::from_ref(cache).addr());
    let known = known.map(|(_, known)| known).unwrap_or_default();
    publish_cache(cache.name(), &cache.stats(), &known);
}

impl Published {
    /// The statistics that were last published of a cache.
    fn known(&mut self, cache: &Arc<dyn AnyCache>) -> &mut Stats {
        let address = Arc::as_ptr(cache).addr();
        &mut self.caches.entry(address).or_insert_with(|| (Arc::downgrade(cache), Stats::default())).1
    }
}

fn publish_cache(cache: &str, stats: &Stats, before: &Stats) {
    for (now, then) in stats.cache.each().zip(before.cache.each()) {
        let count = now.value.saturating_sub(then.value);
        counter!(name_of(&now), "cache" => cache.to_owned()).increment(count);
    }
    publish_times(&stats.load_latency, &before.load_latency, |time, count| {
        histogram!("larder_load_seconds", "cache" => cache.to_owned()).record_many(time, count);
    });
    for tier in &stats.tiers {
        let nothing = TierStats::new(tier.kind, TierCounts::default(), larder_core::tier::Usage::default());
        publish_tier(cache, tier, before.tier(tier.kind).unwrap_or(&nothing));
    }
}

fn publish_tier(cache: &str, tier: &TierStats, before: &TierStats) {
    let labels = [("cache", cache.to_owned()), ("tier", tier.kind.name().to_owned())];
    for (now, then) in tier.counts.each().zip(before.counts.each()) {
        let count = now.value.saturating_sub(then.value);
        match now.name {
            "expired" | "refused" => publish_evictions(&labels, now.name, count),
            _ => counter!(tier_name_of(&now), &labels).increment(count),
        }
    }
    let evicted = tier.usage.evictions.saturating_sub(before.usage.evictions);
    publish_evictions(&labels, "capacity", evicted);
    for ((operation, now), (_, then)) in tier.latency.each().into_iter().zip(before.latency.each()) {
        let [cache, tier] = labels.clone();
        let labels = [cache, tier, ("operation", operation.to_owned())];
        let count = now.count().saturating_sub(then.count());
        if now.count() > 0 {
            counter!("larder_tier_operations_total", &labels).increment(count);
        }
        publish_times(now, then, |time, count| {
            histogram!("larder_tier_operation_seconds", &labels).record_many(time, count);
        });
    }
}

fn publish_evictions(labels: &[(&'static str, String); 2], cause: &'static str, count: u64) {
    let [cache, tier] = labels.clone();
    counter!("larder_tier_evictions_total", &[cache, tier, ("cause", cause.to_owned())]).increment(count);
}

fn publish_times(now: &Latency, before: &Latency, mut record: impl FnMut(f64, usize)) {
    let total = now.count().saturating_sub(before.count()).max(1);
    for (time, count) in now.since(before) {
        let count = if total > TIMES_MAX { (count * TIMES_MAX).div_ceil(total) } else { count };
        record(time.as_secs_f64(), usize::try_from(count).unwrap_or(usize::MAX));
    }
}

fn set_gauges(cache: &str, tier: TierKind, (entries, bytes): (u64, u64)) {
    let labels = [("cache", cache.to_owned()), ("tier", tier.name().to_owned())];
    gauge!("larder_tier_entries", &labels).set(entries as f64);
    gauge!("larder_tier_bytes", &labels).set(bytes as f64);
}

fn name_of(counted: &Counted) -> String {
    format!("larder_{}_total", counted.name)
}

fn tier_name_of(counted: &Counted) -> String {
    format!("larder_tier_{}_total", counted.name)
}

/// Repeated at each call, since no event reports that another recorder was installed.
fn describe() {
    for counted in CacheCounts::default().each() {
        describe_counter!(name_of(&counted), unit_of(counted.name), counted.help);
    }
    for counted in TierCounts::default().each() {
        if !matches!(counted.name, "expired" | "refused") {
            describe_counter!(tier_name_of(&counted), unit_of(counted.name), counted.help);
        }
    }
    describe_counter!("larder_tier_evictions_total", Unit::Count, "Entries that a tier removed by itself.");
    describe_counter!("larder_tier_operations_total", Unit::Count, "Calls that reached the tier.");
    describe_gauge!("larder_tier_entries", Unit::Count, "Entries that a tier holds.");
    describe_gauge!("larder_tier_bytes", Unit::Bytes, "Bytes that a tier holds.");
    describe_histogram!("larder_load_seconds", Unit::Seconds, "How long loaders ran.");
    describe_histogram!("larder_tier_operation_seconds", Unit::Seconds, "How long calls of a tier took.");
}

fn unit_of(name: &str) -> Unit {
    match name {
        _ if name.starts_with("bytes") => Unit::Bytes,
        _ if name.ends_with("nanos") => Unit::Nanoseconds,
        _ => Unit::Count,
    }
}
