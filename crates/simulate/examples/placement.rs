//! Simulates placements with `Table`, `Adaptive` and an oracle, and prints tables in markdown.
//!
//! `cargo run --release -p larder-simulate --example placement -- [--traces FOLDER] [--only NAME,…]
//! [--sets NAME,…] [--requests N] [--plots FOLDER]`
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::path::{Path, PathBuf};

use larder::{Adaptive, Result, Table};
use larder_simulate::placement::{NAMES, Row, SETS, Scenario, TierSet, bound, chart, generate, means, of_trace, oracle, run, table};
use larder_simulate::trace::{TraceOptions, read};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| arguments.iter().skip_while(|given| *given != flag).nth(1);
    let list = |flag: &str| value(flag).map(|list| list.split(',').map(str::to_owned).collect::<Vec<_>>());
    let (only, sets) = (list("--only"), list("--sets"));
    let requests = value("--requests").and_then(|number| number.parse().ok()).unwrap_or(200_000);
    let traces = PathBuf::from(value("--traces").map_or("traces", |folder| folder));
    let plots = value("--plots").map(PathBuf::from);
    let mut rows = Vec::new();
    for set in SETS.iter().filter(|set| sets.as_ref().is_none_or(|sets| sets.iter().any(|name| name == set.name))) {
        for scenario in scenarios(set, &traces, requests)? {
            if only.as_ref().is_none_or(|only| only.contains(&scenario.name)) {
                let row = simulate(&scenario)?;
                eprintln!("{}", table(std::slice::from_ref(&row)).lines().last().unwrap_or_default());
                rows.push(row);
            }
        }
    }
    println!("{}\n{}", table(&rows), means(&rows));
    if let Some(folder) = plots {
        plot(&folder, &rows);
    }
    Ok(())
}

fn scenarios(set: &'static TierSet, traces: &Path, requests: usize) -> Result<Vec<Scenario>> {
    let generated = |name: &&str| generate(name, set, requests);
    let mut all: Vec<Scenario> = NAMES.iter().filter_map(generated).collect();
    let slow = ["small", "medium", "cheap", "few"];
    all.extend(slow.iter().filter_map(generated).map(Scenario::with_slowdown));
    for name in ["OLTP", "P3", "P6"] {
        let path = traces.join(format!("{name}.lis.zst"));
        if path.exists() {
            let options = TraceOptions { requests_max: requests * 3, ..TraceOptions::default() };
            all.push(of_trace(&read(&path, &options)?, set));
        }
    }
    Ok(all)
}

fn simulate(scenario: &Scenario) -> Result<Row> {
    let table = run(scenario, &Table)?;
    let adaptive = run(scenario, &Adaptive::default())?;
    eprintln!("table {} {} adaptive {} {} of {}", table.memory_hits, table.tier_hits, adaptive.memory_hits, adaptive.tier_hits, scenario.requests.len());
    let oracle = if std::env::var("FAST").is_ok() { table.clone() } else { oracle::best(scenario)? };
    Ok(Row::new(scenario, [table, adaptive, oracle], bound::least(scenario)))
}

fn plot(folder: &Path, rows: &[Row]) {
    let _there = std::fs::create_dir_all(folder);
    for row in rows.iter().filter(|row| row.slow_from.is_some()) {
        let name = format!("{}-{}.svg", row.name.replace(", ", "-"), row.set);
        let written = std::fs::write(folder.join(&name), chart(row).draw());
        written.unwrap_or_else(|error| println!("{name}: {error}"));
    }
}
