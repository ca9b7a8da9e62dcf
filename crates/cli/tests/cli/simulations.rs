//! `larder simulate` over traces that the test writes.

use std::fs;
use std::path::Path;

use crate::fixtures::{Ran, plain};

fn simulate(path: &Path, arguments: &[&str]) -> Ran {
    plain(&[&["simulate", path.to_str().unwrap()], arguments].concat())
}

/// Requests for a loop of 100 keys, which a cache below that size mostly misses, ten times.
fn written(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("loop.lis");
    fs::write(&path, "1000 100 0 1\n".repeat(10)).unwrap();
    path
}

#[test]
fn table_json_and_chart_have_the_same_hit_ratios() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path());
    let chart = dir.path().join("loop.svg");
    simulate(&path, &["--capacity", "200", "--svg", chart.to_str().unwrap()]).exits(0).says(&[
        "1000 requests, 100 distinct keys",
        "200 (200.0 %)",
        "Auto",
        "90.0",
        "Half the size would do",
    ]);
    let svg = fs::read_to_string(chart).unwrap();
    assert_eq!(svg.matches("<polyline").count(), 9, "{svg}");
    let document = simulate(&path, &["--capacity", "100", "--policy", "lru", "--json"]).exits(0).json();
    assert_eq!((&document["schema"], &document["policy"]), (&"larder.simulate.v1".into(), &"Lru".into()));
    let sizes = document["sizes"].as_array().unwrap();
    let capacities: Vec<_> = sizes.iter().map(|size| size["capacity"].as_u64().unwrap()).collect();
    assert_eq!(capacities, [25, 50, 100], "a larger cache hits nothing more");
    assert_eq!(sizes[0]["optimum"], 0.225);
    let lru = sizes[0]["policies"].as_array().unwrap().iter().find(|hits| hits["policy"] == "Lru").unwrap();
    assert_eq!(lru["hit_ratio"], 0.0, "a loop is the worst case of LRU");
}

#[test]
fn advice_names_the_size_that_pays() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path());
    simulate(&path, &["--capacity", "50", "--policy", "Lru"]).exits(0).says(&[
        "Twice the size would raise the hit ratio from 0.0 to 90.0 %",
        "in place of Lru would reach",
    ]);
}

#[test]
fn csv_with_sizes_is_simulated_in_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("requests.csv");
    let rows: String = (0..500).map(|at| format!("{at},k{},{}\n", at % 20, 1000)).collect();
    fs::write(&path, rows).unwrap();
    simulate(&path, &["--key", "2", "--size", "3", "--capacity", "64 KiB"])
        .exits(0)
        .says(&["BYTES", "64.0 KiB", "96.0"]);
    simulate(&path, &["--key", "2", "--limit", "100"]).exits(0).says(&["100 requests, the rest is left out"]);
}

#[test]
fn bad_traces_and_arguments_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let bad = dir.path().join("bad.lis");
    fs::write(&bad, "1 2 3 4\nx\u{1b}[2J\n").unwrap();
    let ran = simulate(&bad, &[]).exits(1).complains(&["bad.lis: line 2"]);
    assert!(!ran.stderr.contains('\u{1b}'), "{:?}", ran.stderr);
    let empty = dir.path().join("empty.csv");
    fs::write(&empty, "").unwrap();
    simulate(&empty, &[]).exits(2).complains(&["TRACE", "at least one request"]);
    simulate(&dir.path().join("trace.txt"), &[]).exits(2).complains(&["format", ".lis"]);
    simulate(&written(dir.path()), &["--policy", "best"]).exits(2).complains(&[
        "--policy",
        "best",
        "Auto, TinyLfu",
    ]);
    simulate(&written(dir.path()), &["--capacity", "0"])
        .exits(2)
        .complains(&["--capacity", "1 entries or more"]);
    simulate(&dir.path().join("none.lis"), &[]).exits(1).complains(&["none.lis"]);
}

/// Look-ups of a cache are replayed, with sizes as those of the cache.
#[test]
fn recorded_trace_of_a_cache_is_simulated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("squares.trace");
    let squares = larder::mcache::<u64, u64>("squares").capacity(50).record_trace(&path).build().unwrap();
    for number in (0..10).flat_map(|_| 0..100) {
        squares.get_with(number, || number * number);
    }
    drop(squares);
    simulate(&path, &["--capacity", "50"]).exits(0).says(&[
        "1000 requests, 100 distinct keys",
        "Twice the size would raise the hit ratio from",
        "to 90.0 %",
    ]);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8..16].copy_from_slice(&(u64::MAX / 4).to_le_bytes());
    let quarter = dir.path().join("quarter.trace");
    fs::write(&quarter, bytes).unwrap();
    let ran = simulate(&quarter, &["--capacity", "200"]).exits(0);
    let ran = ran.says(&["The trace has 25.0 % of the keys", "400 (100.0 %)", "to 90.0 %"]);
    assert!(!ran.stdout.contains("800"), "{}", ran.stdout);
    let document = simulate(&quarter, &["--json"]).exits(0).json();
    assert_eq!(document["key_share"], 0.25);
}
