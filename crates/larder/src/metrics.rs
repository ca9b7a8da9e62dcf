//! Statistics for the facade `metrics`.
//!
//! A cache keeps its own counters, so that a hit costs one addition and nothing
//! else. [`publish`] hands what they counted to the recorder that is installed:
//! call it before that is read, in the handler of `/metrics` or from time to
//! time. The table of names, units and labels is in
//! [docs/observability.md](https://github.com/larder-rs/larder/blob/main/docs/observability.md).
//!
//! ```
//! let squares = larder::mcache::<u64, u64>("squares").build()?;
//! assert_eq!(squares.get_with(12, || 144), 144);
//! larder::metrics::publish();
//! # Ok::<(), larder::Error>(())
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use larder_core::latency::Latency;
use larder_core::stats::{CacheCounts, Counted, Stats, TierCounts, TierStats};
use larder_core::tier::TierKind;
use once_cell::sync::Lazy;
use parking_lot::Mutex;

use crate::registry::{self, Living};

/// Times that one histogram is given at once. Where there were more, each
/// bucket is thinned in proportion: most recorders take them one by one.
const TIMES_MAX: u64 = 10_000;

/// What was published before.
static PUBLISHED: Lazy<Mutex<Published>> = Lazy::new(Mutex::default);

#[derive(Default)]
struct Published {
    caches: Vec<(Weak<dyn Living>, Stats)>,
    /// Gauges by cache and tier: entries and bytes.
    gauges: BTreeMap<(String, TierKind), (u64, u64)>,
}

/// Hands what all live caches of this process counted since the last call to
/// the recorder of the crate `metrics`, and what they hold now.
///
/// Costs what [`all_stats`](crate::all_stats) costs, and some twenty calls of
/// the recorder a cache and tier. Caches of one name add up. What a cache
/// counted between the last call and its end is not published; nor is what
/// was counted at a call without a recorder. A call while another is under way
/// returns at once.
pub fn publish() {
    let Some(mut published) = PUBLISHED.try_lock() else { return };
    describe();
    let mut caches = Vec::new();
    let mut gauges = BTreeMap::new();
    for cache in registry::live() {
        let (stats, known) = (Living::stats(&*cache), published.before(&cache));
        let nothing = Stats::default();
        publish_cache(cache.name(), &stats, known.unwrap_or(&nothing));
        for tier in &stats.tiers {
            let (entries, bytes) = gauges.entry((cache.name().to_owned(), tier.kind)).or_insert((0, 0));
            *entries += tier.usage.entries;
            *bytes += tier.usage.bytes;
        }
        caches.push((Arc::downgrade(&cache), stats));
    }
    // What is gone holds nothing any more.
    let gone = published.gauges.keys().filter(|key| !gauges.contains_key(*key));
    gone.for_each(|(cache, tier)| set_gauges(cache, *tier, (0, 0)));
    gauges.iter().for_each(|((cache, tier), held)| set_gauges(cache, *tier, *held));
    *published = Published { caches, gauges };
}

impl Published {
    fn before(&self, cache: &Arc<dyn Living>) -> Option<&Stats> {
        let same = |known: &Weak<dyn Living>| std::ptr::addr_eq(known.as_ptr(), Arc::as_ptr(cache));
        self.caches.iter().find(|(known, _)| same(known)).map(|(_, stats)| stats)
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

/// Each time anew: nobody says when another recorder is installed.
fn describe() {
    for counted in CacheCounts::default().each() {
        describe_counter!(name_of(&counted), unit_of(counted.name), counted.help);
    }
    for counted in TierCounts::default().each() {
        if !matches!(counted.name, "expired" | "refused") {
            describe_counter!(tier_name_of(&counted), unit_of(counted.name), counted.help);
        }
    }
    describe_counter!("larder_tier_evictions_total", Unit::Count, "Entries that a tier let go of by itself.");
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
