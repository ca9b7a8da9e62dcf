//! The past of each cache: what changed from one sample to the next.

use std::collections::VecDeque;
use std::time::Instant;

use serde_json::Value as Json;

/// Maximum number of rates that are kept.
const SAMPLES_MAX: usize = 240;

/// The counts of a cache at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
struct Counts {
    misses: u64,
    loads: u64,
    /// The sum of all load times, in microseconds.
    load_us: f64,
    /// The hits of each tier, by its name.
    hits: Vec<(String, u64)>,
}

/// What happened to a cache between two samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rates {
    /// Look-ups a second.
    pub(super) gets: f64,
    /// Loads a second.
    pub(super) loads: f64,
    /// The mean time of the loads in this interval, in microseconds; 0 without loads.
    pub(super) load_us: f64,
    /// Hits divided by look-ups; `None` without look-ups.
    pub(super) hit_ratio: Option<f64>,
    /// The hits of each tier divided by the look-ups of the whole cache; `None` without look-ups.
    pub(super) tiers: Vec<(String, Option<f64>)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct History {
    last: Option<(Instant, Counts)>,
    rates: VecDeque<Rates>,
}

impl History {
    /// Adds a sample.
    pub(super) fn add(&mut self, at: Instant, cache: &Json) {
        let counts = Counts::of(cache);
        if let Some((then, before)) = &self.last {
            let seconds = at.saturating_duration_since(*then).as_secs_f64();
            if seconds > 0.0 {
                self.rates.push_back(counts.since(before, seconds));
            }
        }
        if self.rates.len() > SAMPLES_MAX {
            self.rates.pop_front();
        }
        self.last = Some((at, counts));
    }

    /// The newest rates.
    pub(super) fn now(&self) -> Rates {
        self.rates.back().cloned().unwrap_or_default()
    }

    /// The hit ratios of the cache, or of one tier, the oldest first, at most `n`.
    pub(super) fn ratios(&self, tier: Option<&str>, n: usize) -> Vec<Option<f64>> {
        let of = |rates: &Rates| match tier {
            None => rates.hit_ratio,
            Some(name) => rates.tiers.iter().find(|(tier, _)| tier == name).and_then(|(_, ratio)| *ratio),
        };
        self.rates.iter().skip(self.rates.len().saturating_sub(n)).map(of).collect()
    }
}

impl Counts {
    fn of(cache: &Json) -> Self {
        let tiers = cache["tiers"].as_array().map_or(&[][..], Vec::as_slice);
        let hits = |tier: &Json| {
            (tier["tier"].as_str().unwrap_or("?").to_owned(), tier["counts"]["hits"].as_u64().unwrap_or(0))
        };
        Self {
            misses: cache["counts"]["misses"].as_u64().unwrap_or(0),
            loads: cache["load_latency"]["count"].as_u64().unwrap_or(0),
            load_us: cache["load_latency"]["sum_us"].as_f64().unwrap_or(0.0),
            hits: tiers.iter().map(hits).collect(),
        }
    }

    /// Computes the rates since `before`. A count that fell belongs to a new cache with the same number, and counts
    /// as unchanged.
    fn since(&self, before: &Self, seconds: f64) -> Rates {
        let misses = self.misses.saturating_sub(before.misses);
        let hits = |(tier, now): &(String, u64)| {
            let then = before.hits.iter().find(|(name, _)| name == tier).map_or(0, |(_, hits)| *hits);
            (tier.clone(), now.saturating_sub(then))
        };
        let tiers: Vec<(String, u64)> = self.hits.iter().map(hits).collect();
        let found: u64 = tiers.iter().map(|(_, hits)| hits).sum();
        let gets = found + misses;
        let loads = self.loads.saturating_sub(before.loads);
        let share = |hits: u64| (gets > 0).then(|| hits as f64 / gets as f64);
        Rates {
            gets: gets as f64 / seconds,
            loads: loads as f64 / seconds,
            load_us: if loads == 0 { 0.0 } else { (self.load_us - before.load_us).max(0.0) / loads as f64 },
            hit_ratio: share(found),
            tiers: tiers.into_iter().map(|(tier, hits)| (tier, share(hits))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn rates_are_count_differences_per_second() {
        let look = |memory: u64, disk: u64, misses: u64, loads: u64| {
            json!({
                "counts": { "misses": misses },
                "load_latency": { "count": loads, "sum_us": loads * 1000 },
                "tiers": [
                    { "tier": "memory", "counts": { "hits": memory } },
                    { "tier": "disk", "counts": { "hits": disk } },
                ],
            })
        };
        let (mut history, start) = (History::default(), Instant::now());
        history.add(start, &look(1000, 0, 500, 1));
        assert_eq!(history.now(), Rates::default());
        history.add(start + Duration::from_secs(2), &look(1060, 20, 520, 11));
        let rates = history.now();
        assert_eq!((rates.gets, rates.loads, rates.load_us), (50.0, 5.0, 1000.0));
        assert_eq!(rates.hit_ratio, Some(0.8));
        assert_eq!(rates.tiers, [("memory".to_owned(), Some(0.6)), ("disk".to_owned(), Some(0.2))]);
        // The cache was built anew.
        history.add(start + Duration::from_secs(3), &look(1, 1, 1, 1));
        assert_eq!(history.ratios(None, 9), [Some(0.8), None]);
        assert_eq!(history.ratios(Some("disk"), 1), [None]);
    }
}
