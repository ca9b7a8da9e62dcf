//! The facade `metrics`: the published metrics, and their table in the documentation.

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::PrometheusBuilder;

use larder::bcache;
use parking_lot::Mutex;

/// The described metrics, as rows of the table.
#[derive(Default)]
struct Rows(Mutex<Vec<String>>);

impl Rows {
    fn add(&self, name: &KeyName, kind: &str, unit: Option<Unit>, help: &str) {
        let unit = unit.map_or("", |unit| unit.as_str()).replace('_', " ");
        let row = format!("| `{}` | {kind} | {unit} | {help} |", name.as_str());
        self.0.lock().push(row.replace(['[', ']'], ""));
    }
}

impl Recorder for Rows {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.add(&name, "counter", unit, &help);
    }
    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.add(&name, "gauge", unit, &help);
    }
    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.add(&name, "histogram", unit, &help);
    }
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn every_metric_is_documented() {
    let rows = Rows::default();
    metrics::with_local_recorder(&rows, larder::metrics::publish);
    let rows = rows.0.into_inner();
    let page = include_str!("../docs/observability.md");
    let documented = page
        .lines()
        .filter(|line| line.starts_with("| `larder_") && line.matches(" | ").count() == 3)
        .collect::<Vec<_>>();
    let table = rows.join("\n");
    assert!(documented == rows, "docs/observability.md should have this table:\n{table}");
}

#[test]
fn published_metrics_match_the_calls() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let dir = tempfile::tempdir().unwrap();
    let open = || bcache::<u64, String>("published").dir(dir.path()).build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        for round in 1..=3_u64 {
            let cache = open();
            cache.get_with(round, || "value".to_owned());
            assert!(cache.get(&round).is_some());
            larder::metrics::publish();
            larder::metrics::publish();
            cache.close().unwrap();
        }
        let page = handle.render();
        let has = |line: &str| assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
        has(r#"larder_loads_total{cache="published"} 3"#);
        has(r#"larder_tier_hits_total{cache="published",tier="memory"} 3"#);
        has(r#"larder_tier_puts_total{cache="published",tier="disk"} 3"#);
        has(r#"larder_tier_entries{cache="published",tier="disk"} 3"#);
        has(r#"larder_tier_evictions_total{cache="published",tier="disk",cause="refused"} 0"#);
        has(r#"larder_tier_operations_total{cache="published",tier="disk",operation="put"} 3"#);
        has(r#"larder_load_seconds_count{cache="published"} 3"#);
        larder::metrics::publish();
        let page = handle.render();
        assert!(page.contains(r#"larder_tier_entries{cache="published",tier="disk"} 0"#), "it is gone");
    });
}

#[test]
fn remaining_counts_are_published_when_the_last_handle_is_dropped() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let loads = |expected: u32| {
        let page = handle.render();
        let line = format!(r#"larder_loads_total{{cache="last words"}} {expected}"#);
        assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
    };
    metrics::with_local_recorder(&recorder, || {
        let open = || larder::mcache::<u64, u64>("last words").build().unwrap();
        let cache = open();
        cache.get_with(1, || 1);
        larder::metrics::publish();
        cache.get_with(2, || 2);
        drop(cache);
        loads(2);
        let closed = open();
        closed.get_with(1, || 1);
        closed.close().unwrap();
        closed.get_with(2, || 2);
        larder::metrics::publish();
        loads(4);
        closed.get_with(3, || 3);
        drop(closed);
        loads(5);
        larder::metrics::publish();
        loads(5);
    });
}
