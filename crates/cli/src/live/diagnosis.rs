//! What is wrong with the observed caches of running processes.

use serde_json::Value as Json;

use super::{ProcessReading, Processes};
use crate::args::Arguments;
use crate::exit::Outcome;

/// Below this share of hits a cache is too small, if it is full.
const HIT_RATIO_MIN: f64 = 0.5;
/// Look-ups before a share of hits says something.
const LOOK_UPS_MIN: f64 = 1000.0;
/// How full a cache is that evicts.
const FULL: f64 = 0.95;
/// Mean time of a load, in microseconds, from which on the slowest loader is named.
const SLOW_MIN: f64 = 10_000.0;

/// What a running process told of one of its caches.
pub(crate) struct LiveFinding {
    pub(crate) subject: String,
    pub(crate) found: String,
    /// What to do; empty if nothing is wrong.
    pub(crate) advice: &'static str,
    /// Whether it is a problem, rather than a warning.
    pub(crate) is_problem: bool,
}

/// Asks the observed processes of the chosen folder. No process is no finding.
pub(crate) fn diagnosis(arguments: &Arguments) -> Outcome<Vec<LiveFinding>> {
    let processes = Processes::chosen(arguments)?.read();
    let caches =
        || processes.iter().flat_map(|process| process.caches.iter().map(move |cache| (process, cache)));
    let slowest = caches().filter_map(|(_, cache)| mean_load(cache)).fold(SLOW_MIN, f64::max);
    Ok(caches().flat_map(|(process, cache)| of_cache(process, cache, slowest)).collect())
}

/// What is to be said of a cache. `slowest` is the longest mean time of a load, of all caches.
fn of_cache(process: &ProcessReading, cache: &Json, slowest: f64) -> Vec<LiveFinding> {
    let name = cache["name"].as_str().unwrap_or_default();
    let subject = format!("{name}, process {} {}", process.pid, process.program);
    let mut findings = vec![LiveFinding { found: summary(cache, slowest), ..new(&subject) }];
    for tier in cache["tiers"].as_array().into_iter().flatten().filter(|tier| is_down(tier)) {
        let why = tier["trouble"].as_str().unwrap_or("its circuit is open");
        let found = format!("the {} tier is down: {why}", tier["tier"].as_str().unwrap_or_default());
        let advice = "the other tiers serve meanwhile; `larder top` shows when it is back";
        findings.push(LiveFinding { found, advice, is_problem: true, ..new(&subject) });
    }
    if let Some(found) = too_small(cache) {
        let advice = "record_trace and `larder simulate` tell which size would pay";
        findings.push(LiveFinding { found, advice, ..new(&subject) });
    }
    findings
}

fn new(subject: &str) -> LiveFinding {
    LiveFinding { subject: subject.to_owned(), found: String::new(), advice: "", is_problem: false }
}

/// The hits and loads of a cache.
fn summary(cache: &Json, slowest: f64) -> String {
    let hits = cache["hit_ratio"].as_f64().map_or_else(
        || "no look-up yet".to_owned(),
        |ratio| format!("{:.1} % of the look-ups hit", ratio * 100.0),
    );
    let Some(mean) = mean_load(cache) else { return format!("{hits}; nothing was loaded") };
    let note = if mean >= slowest { ": the slowest loader here" } else { "" };
    format!("{hits}; a load takes {:.1} ms on average{note}", mean / 1000.0)
}

/// The mean time of a load in microseconds.
fn mean_load(cache: &Json) -> Option<f64> {
    let loads = &cache["load_latency"];
    loads["count"].as_u64().filter(|count| *count > 0)?;
    loads["mean_us"].as_f64()
}

fn is_down(tier: &Json) -> bool {
    let has_open_circuit = tier["open_circuits"].as_array().is_some_and(|open| !open.is_empty());
    !tier["trouble"].is_null() || tier["is_healthy"] == false || has_open_circuit
}

/// Says that memory is full and few look-ups hit, if both hold and no other tier has the entries.
fn too_small(cache: &Json) -> Option<String> {
    let tiers = cache["tiers"].as_array()?;
    let [memory] = tiers.as_slice() else { return None };
    let used =
        [("entries", "memory_entries_max"), ("bytes", "memory_bytes_max")].into_iter().any(|(used, most)| {
            let most = cache[most].as_f64().filter(|most| *most > 0.0);
            most.is_some_and(|most| memory[used].as_f64().unwrap_or_default() >= most * FULL)
        });
    let ratio = cache["hit_ratio"].as_f64()?;
    let look_ups = cache["hits"].as_f64()? + cache["counts"]["misses"].as_f64()?;
    let is_small = used && ratio < HIT_RATIO_MIN && look_ups >= LOOK_UPS_MIN;
    let entries = &memory["entries"];
    is_small.then(|| format!("memory is full with {entries} entries, and most look-ups miss"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(cache: Json) -> Vec<(bool, String)> {
        let process = ProcessReading { pid: 7, program: "shop".to_owned(), caches: Vec::new() };
        let findings = of_cache(&process, &cache, SLOW_MIN);
        assert!(findings.iter().all(|finding| finding.subject.ends_with(", process 7 shop")));
        findings.into_iter().map(|finding| (finding.is_problem, finding.found)).collect()
    }

    #[test]
    fn small_cache_slow_load_and_tier_that_is_down_are_told() {
        let small = json!({
            "name": "thumbnails", "hit_ratio": 0.31, "hits": 3100, "counts": { "misses": 6900 },
            "load_latency": { "count": 6900, "mean_us": 634.0 },
            "memory_entries_max": 200, "memory_bytes_max": null,
            "tiers": [{ "tier": "memory", "entries": 200, "bytes": 0, "trouble": null, "open_circuits": [] }],
        });
        assert_eq!(
            found(small),
            [
                (false, "31.0 % of the look-ups hit; a load takes 0.6 ms on average".to_owned()),
                (false, "memory is full with 200 entries, and most look-ups miss".to_owned()),
            ]
        );
        let slow = json!({
            "name": "rates", "hit_ratio": 0.98, "load_latency": { "count": 70, "mean_us": 47_200.0 }, "tiers": [],
        });
        let told = "98.0 % of the look-ups hit; a load takes 47.2 ms on average: the slowest loader here";
        assert_eq!(found(slow), [(false, told.to_owned())]);
        let down = json!({
            "name": "baskets", "hit_ratio": null, "load_latency": { "count": 0, "mean_us": 0.0 },
            "tiers": [
                { "tier": "memory", "is_healthy": true },
                { "tier": "redis", "trouble": "Connection refused" },
                { "tier": "disk", "open_circuits": ["writes"] },
            ],
        });
        assert_eq!(
            found(down),
            [
                (false, "no look-up yet; nothing was loaded".to_owned()),
                (true, "the redis tier is down: Connection refused".to_owned()),
                (true, "the disk tier is down: its circuit is open".to_owned()),
            ]
        );
    }
}
