//! Statistics, states and events as JSON.

use larder_core::events::{Event, Extent, Writer};
use larder_core::latency::Latency;
use larder_core::stats::{Counted, TierStats};
use larder_core::tier::TierKind;
use larder_engine::observation::{HotKey, KeyName, RecentEvent, TierState};
use larder_engine::{Engine, Explanation};
use serde_json::{Map, Value as Json, json};

use super::Observed;
use super::keys::json_of;

/// The statistics and the state of a cache.
pub(super) fn cache(observed: &Observed, engine: &Engine) -> Json {
    let (stats, state) = (engine.stats(), engine.state());
    let tiers: Vec<Json> = stats
        .tiers
        .iter()
        .map(|tier| {
            let state = state.tiers.iter().find(|state| state.kind == tier.kind);
            self::tier(tier, state, observed.disk_bytes)
        })
        .collect();
    json!({
        "id": observed.id,
        "name": engine.name(),
        "kind": observed.kind.to_string(),
        "directory": engine.dir().map(|dir| dir.display().to_string()),
        "is_private": stats.is_private,
        "is_enabled": state.is_enabled,
        "is_sampled": engine.observer().is_some(),
        "may_control": observed.may_control,
        "confirms_copies": state.confirms_copies,
        "hits": stats.hits(),
        "hit_ratio": stats.hit_ratio(),
        "counts": counts(stats.cache.each()),
        "load_latency": latency(&stats.load_latency),
        "memory_entries_max": state.bounds.entries,
        "memory_bytes_max": state.bounds.bytes,
        "tiers": tiers,
    })
}

fn counts(counts: impl Iterator<Item = Counted>) -> Json {
    Json::Object(counts.map(|count| (count.name.to_owned(), json!(count.value))).collect::<Map<_, _>>())
}

fn latency(latency: &Latency) -> Json {
    let micros = |time: std::time::Duration| time.as_secs_f64() * 1e6;
    json!({
        "count": latency.count(),
        "sum_us": micros(latency.sum()),
        "mean_us": micros(latency.mean()),
        "p50_us": micros(latency.p50()),
        "p90_us": micros(latency.p90()),
        "p99_us": micros(latency.p99()),
        "max_us": micros(latency.max()),
    })
}

fn tier(stats: &TierStats, state: Option<&TierState>, disk_bytes: Option<u64>) -> Json {
    let is_on_disk = matches!(stats.kind, TierKind::Disk | TierKind::File);
    let [get, put, remove] = stats.latency.each().map(|(_, latency)| self::latency(latency));
    let servers: Vec<Json> = stats
        .servers
        .iter()
        .map(|server| {
            json!({
                "version": server.version,
                "memory_bytes": server.memory_bytes,
                "memory_bytes_max": server.memory_bytes_max,
            })
        })
        .collect();
    json!({
        "tier": stats.kind.name(),
        "counts": counts(stats.counts.each()),
        "entries": stats.usage.entries,
        "bytes": stats.usage.bytes,
        "bytes_max": disk_bytes.filter(|_| is_on_disk),
        "evictions": stats.usage.evictions,
        "latency": { "get": get, "put": put, "remove": remove },
        "engine": stats.memory.map(|memory| memory.engine),
        "policy": stats.memory.map(|memory| memory.policy),
        "servers": servers,
        "trouble": stats.trouble.as_deref(),
        "is_healthy": state.is_none_or(|state| state.is_healthy),
        "open_circuits": state.map_or(Vec::new(), |state| state.open.iter().map(|line| line.name()).collect()),
        "has_missed_changes": state.is_some_and(|state| state.has_missed_changes),
        "is_shared": state.is_some_and(|state| state.is_shared),
    })
}

/// The heaviest keys, with their shares of all.
pub(super) fn hot_keys((keys, total): (Vec<HotKey>, u64)) -> Json {
    let share = |weight: u64| if total == 0 { 0.0 } else { weight as f64 / total as f64 };
    let key = |hot: &HotKey| {
        json!({
            "key": json_of(&hot.key),
            "weight": hot.weight,
            "error": hot.error,
            "times": hot.times,
            "share": share(hot.weight),
        })
    };
    json!({ "total": total, "keys": keys.iter().map(key).collect::<Vec<_>>() })
}

pub(super) fn event(recent: &RecentEvent) -> Json {
    let mut fields = Map::new();
    fields.insert("number".into(), json!(recent.number));
    fields.insert("at_ms".into(), json!(recent.at.as_millis()));
    fields.insert("event".into(), json!(recent.event.name()));
    if let Some(key) = recent.event.key() {
        fields.insert("key".into(), json_of(key));
    }
    for (name, value) in details(&recent.event) {
        fields.insert(name.into(), value);
    }
    Json::Object(fields)
}

fn details(event: &Event<KeyName>) -> Vec<(&'static str, Json)> {
    let tier = |tier: &TierKind| json!(tier.name());
    match event {
        Event::Inserted { home, by, .. } => {
            let by = if *by == Writer::Load { "load" } else { "caller" };
            vec![("tier", tier(home)), ("by", json!(by))]
        }
        Event::Evicted { count, tier: from, bytes, cause, .. } => vec![
            ("tier", tier(from)),
            ("count", json!(count)),
            ("bytes", json!(bytes)),
            ("cause", json!(cause.name())),
        ],
        Event::Expired { tier: from, .. } | Event::Repaired { tier: from, .. } => vec![("tier", tier(from))],
        Event::Promoted { from, .. } => vec![("from", tier(from))],
        Event::Moved { from, to, .. } => vec![("from", tier(from)), ("tier", tier(to))],
        Event::Invalidated(Extent::Tag(tag)) => vec![("tag", json!(tag.as_str()))],
        Event::Invalidated(Extent::All) => vec![("extent", json!("all"))],
        Event::Invalidated(Extent::Cleared) => vec![("extent", json!("cleared"))],
        Event::TierDown { tier: of, line } | Event::TierUp { tier: of, line } => {
            vec![("tier", tier(of)), ("operations", json!(line.name()))]
        }
        Event::TierUnusable { tier: of, why } => vec![("tier", tier(of)), ("why", json!(&**why))],
        Event::Dropped { why, .. } => vec![("why", json!(format!("{why:?}").to_lowercase()))],
        Event::Missed { count } => vec![("count", json!(count))],
        _ => Vec::new(),
    }
}

pub(super) fn explanation(found: &Explanation) -> Json {
    let unusable =
        |(tier, why): &(TierKind, std::sync::Arc<str>)| json!({ "tier": tier.name(), "why": &**why });
    json!({
        "text": found.to_string(),
        "tiers": found.tiers.iter().map(|tier| tier.name()).collect::<Vec<_>>(),
        "home": found.home.map(|home| home.name().to_owned()),
        "bytes": found.bytes,
        "stored_bytes": found.stored_bytes,
        "rule": found.placement.as_ref().map(|placement| placement.rule),
        "unusable": found.unusable.iter().map(unusable).collect::<Vec<_>>(),
    })
}
