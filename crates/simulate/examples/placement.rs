//! Simulates placements with `Table`, `Adaptive` and an oracle, and prints tables in markdown. Then it prints
//! how long a placement takes.
//!
//! `cargo run --release -p larder-simulate --example placement -- [--traces FOLDER] [--only NAME,…]
//! [--sets NAME,…] [--requests N] [--plot FILE] [--plots FOLDER]`
//!
//! A name of `--only` chooses the row with a slow tier too.
//! `--plot` draws all rows in one file, `--plots` the course of each row with a slow tier in one of its own.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use larder::{Adaptive, Facts, Kind, Lesson, Result, Selector, Table, TierFacts, TierKind};
use larder_simulate::placement::{
    NAMES, Row, SETS, Scenario, TierSet, bound, chart, dots, generate, means, of_trace, oracle, run, table,
};
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
    for set in
        SETS.iter().filter(|set| sets.as_ref().is_none_or(|sets| sets.iter().any(|name| name == set.name)))
    {
        for scenario in scenarios(set, &traces, requests)? {
            let name = scenario.name.trim_end_matches(", slow").to_owned();
            if only.as_ref().is_none_or(|only| only.contains(&name)) {
                let row = simulate(&scenario);
                eprintln!("{}", table(std::slice::from_ref(&row)).lines().last().unwrap_or_default());
                rows.push(row);
            }
        }
    }
    println!("{}\n{}", table(&rows), means(&rows));
    if let Some(file) = value("--plot") {
        let written = std::fs::write(file, dots(&rows).draw());
        written.unwrap_or_else(|error| println!("{file}: {error}"));
    }
    if let Some(folder) = plots {
        plot(&folder, &rows);
    }
    println!(
        "A placement: Table {:.0} ns, Adaptive {:.0} ns; a lesson {:.0} ns",
        nanos(&Table),
        nanos(&Adaptive::default()),
        lesson()
    );
    Ok(())
}

const CALLS: u32 = 1_000_000;

fn facts(number: u32) -> Facts {
    let mut facts = Facts::new(50 + u64::from(number) % 100_000, Kind::Other);
    facts.load_cost = Some(Duration::from_micros(u64::from(number) % 5_000));
    facts.key = Some(u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    facts
}

/// Nanoseconds of a placement among memory and the tiers of the first set.
fn nanos(selector: &impl Selector) -> f64 {
    let set = &SETS[0];
    let memory = TierFacts { kind: TierKind::Memory, ..set.tiers[0].facts(set.sharing) };
    let tiers: Vec<_> =
        std::iter::once(memory).chain(set.tiers.iter().map(|tier| tier.facts(set.sharing))).collect();
    let begun = Instant::now();
    for number in 0..CALLS {
        black_box(selector.place(black_box(&facts(number)), &tiers));
    }
    begun.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

/// Nanoseconds of telling the selector of a request.
fn lesson() -> f64 {
    let selector = Adaptive::default();
    let begun = Instant::now();
    for number in 0..CALLS {
        selector.learn(Lesson::Requested { facts: black_box(&facts(number % 50_000)), found: None });
    }
    begun.elapsed().as_nanos() as f64 / f64::from(CALLS)
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

fn simulate(scenario: &Scenario) -> Row {
    let table = run(scenario, &Table);
    let adaptive = run(scenario, &Adaptive::default());
    let oracle = oracle::best(scenario);
    Row::new(scenario, [table, adaptive, oracle], bound::least(scenario))
}

fn plot(folder: &Path, rows: &[Row]) {
    let _there = std::fs::create_dir_all(folder);
    for row in rows.iter().filter(|row| row.slow_from.is_some()) {
        let name = format!("{}-{}.svg", row.name.replace(", ", "-"), row.set);
        let written = std::fs::write(folder.join(&name), chart(row).draw());
        written.unwrap_or_else(|error| println!("{name}: {error}"));
    }
}
