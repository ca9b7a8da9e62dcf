//! `larder simulate`: the hit ratios of a trace, at several sizes and with every policy.

use std::path::Path;

use larder_simulate::advice::Compared;
use larder_simulate::chart::{Chart, ChartLine, Scale, Style};
use larder_simulate::policies::{self, POLICIES};
use larder_simulate::trace::{self, REQUESTS_MAX, TraceFormat, TraceOptions};
use larder_simulate::{Weights, Workload, optimum};
use serde::Serialize;

use crate::args::{SimulateArguments, TraceForm};
use crate::exit::{Exit, Failure, Outcome};
use crate::printer::{self, Printer, TextTable, escaped_line};

/// Sizes that are simulated, as factors of the present one.
const FACTORS: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];

/// The smallest bound of a cache in bytes.
const BYTES_MIN: u64 = 64 << 10;

/// Colours that can be told apart by those who see few of them (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d1f"];

#[derive(Serialize)]
struct PolicyHits {
    policy: &'static str,
    hit_ratio: f64,
}

/// The hit ratios at one size.
#[derive(Serialize)]
struct SizeHits {
    /// Entries, or bytes where the trace has sizes.
    capacity: u64,
    factor: f64,
    /// The part of what the trace asks for, in percent.
    percent: f64,
    optimum: f64,
    policies: Vec<PolicyHits>,
}

impl SizeHits {
    fn of(&self, policy: &str) -> f64 {
        self.policies.iter().find(|hits| hits.policy == policy).map_or(0.0, |hits| hits.hit_ratio)
    }
}

#[derive(Serialize)]
struct Simulation {
    trace: String,
    requests: usize,
    distinct: u32,
    /// The share of the keys that the trace has.
    key_share: f64,
    unit: &'static str,
    policy: &'static str,
    is_cut: bool,
    sizes: Vec<SizeHits>,
    advice: String,
}

pub(super) fn run(simulate: &SimulateArguments, printer: &mut Printer) -> Outcome {
    let limit = if simulate.limit == 0 { REQUESTS_MAX } else { simulate.limit };
    let format = simulate.format.map(|form| match form {
        TraceForm::Lis => TraceFormat::Lis,
        TraceForm::Csv => TraceFormat::Csv,
        TraceForm::Recorded => TraceFormat::Recorded,
    });
    let (key, size) = (simulate.key.clone(), simulate.size.clone());
    let workload = trace::read(&simulate.trace, &TraceOptions { format, key, size, requests_max: limit })?;
    if workload.requests.is_empty() {
        let place = simulate.trace.display();
        return Err(Failure::argument("TRACE", place, "a trace with at least one request: this has none"));
    }
    let simulation = simulated(&workload, simulate, limit)?;
    if let Some(path) = &simulate.svg {
        let svg = chart(&workload.name, &simulation).draw();
        std::fs::write(path, svg).map_err(|error| unwritable(path, &error))?;
    }
    if printer.is_json() {
        printer.json("larder.simulate.v1", &simulation)?;
    } else {
        print(&simulation, printer)?;
    }
    Ok(Exit::Done)
}

fn simulated(workload: &Workload, simulate: &SimulateArguments, limit: usize) -> Outcome<Simulation> {
    // Of a cache that was recorded in part: what the whole cache has, and what is simulated.
    let whole = |part: u64| (part as f64 / workload.share) as u64;
    let part = |whole: f64| ((whole * workload.share) as u64).max(1);
    let all = whole(workload.room(100.0));
    let least = match workload.weights {
        Weights::Entries => 1,
        Weights::Bytes(_) => BYTES_MIN,
    };
    let present = simulate.capacity.unwrap_or_else(|| whole(workload.room(10.0)).max(least));
    if present < least {
        return Err(Failure::argument(
            "--capacity",
            present,
            format_args!("{least} {} or more", unit(workload)),
        ));
    }
    let mut sizes: Vec<SizeHits> = Vec::new();
    for factor in FACTORS {
        let capacity = ((present as f64 * factor) as u64).max(1);
        // A cache with room for everything hits whatever there is to hit.
        let is_enough = sizes.last().is_some_and(|last| last.factor >= 1.0 && last.capacity >= all);
        if capacity < least || is_enough || sizes.last().is_some_and(|last| last.capacity == capacity) {
            continue;
        }
        let simulated = part(capacity as f64);
        let hits = |(policy, by): (&'static str, larder::Policy)| {
            Ok(PolicyHits { policy, hit_ratio: policies::share(workload, simulated, by)? })
        };
        let policies: Outcome<Vec<_>> = POLICIES.into_iter().map(hits).collect();
        let percent = capacity as f64 / all as f64 * 100.0;
        let optimum = optimum::share(workload, simulated);
        sizes.push(SizeHits { capacity, factor, percent, optimum, policies: policies? });
    }
    Ok(Simulation {
        trace: simulate.trace.display().to_string(),
        requests: workload.requests.len(),
        distinct: workload.distinct,
        key_share: workload.share,
        unit: unit(workload),
        policy: simulate.policy,
        is_cut: workload.requests.len() >= limit,
        advice: advice(&sizes, simulate.policy),
        sizes,
    })
}

fn unit(workload: &Workload) -> &'static str {
    match workload.weights {
        Weights::Entries => "entries",
        Weights::Bytes(_) => "bytes",
    }
}

fn advice(sizes: &[SizeHits], policy: &str) -> String {
    let Some(present) =
        sizes.iter().min_by(|one, other| (one.factor - 1.0).abs().total_cmp(&(other.factor - 1.0).abs()))
    else {
        return String::new();
    };
    let others: Vec<(&str, f64)> = present
        .policies
        .iter()
        .filter(|hits| hits.policy != policy)
        .map(|hits| (hits.policy, hits.hit_ratio))
        .collect();
    let factors: Vec<(f64, f64)> = sizes
        .iter()
        .filter(|size| size.factor != present.factor)
        .map(|size| (size.factor, size.of(policy)))
        .collect();
    Compared { policy, now: present.of(policy), sizes: &factors, others: &others }.sentence()
}

fn print(simulation: &Simulation, printer: &mut Printer) -> Outcome<()> {
    let cut = if simulation.is_cut { ", the rest is left out" } else { "" };
    printer.line(&format!(
        "{}: {}{cut}, {}",
        escaped_line(&simulation.trace),
        printer::count(simulation.requests as u64, "request", "requests"),
        printer::count(u64::from(simulation.distinct), "distinct key", "distinct keys")
    ))?;
    if simulation.key_share < 1.0 {
        let percent = simulation.key_share * 100.0;
        printer.line(&format!(
            "The trace has {percent:.1} % of the keys; sizes are those of the whole cache."
        ))?;
    }
    printer.line("Hit ratio in %, by the size of the cache and the policy:")?;
    printer.line("")?;
    let capacity = |size: &SizeHits| match simulation.unit {
        "bytes" => printer::bytes(size.capacity),
        _ => size.capacity.to_string(),
    };
    let heading: Vec<String> = std::iter::once(simulation.unit.to_uppercase())
        .chain(simulation.sizes.iter().map(|size| format!("{} ({:.1} %)", capacity(size), size.percent)))
        .collect();
    let heading: Vec<&str> = heading.iter().map(String::as_str).collect();
    let mut table = TextTable::new(&heading, &[1, 2, 3, 4, 5]);
    let mut row = |name: &str, share: &dyn Fn(&SizeHits) -> f64| {
        let shares = simulation.sizes.iter().map(|size| format!("{:.1}", share(size) * 100.0));
        table.row(std::iter::once(name.to_owned()).chain(shares));
    };
    row("optimum", &|size| size.optimum);
    for (policy, _) in POLICIES {
        row(policy, &|size| size.of(policy));
    }
    printer.table(&table)?;
    printer.line("")?;
    printer.line(&simulation.advice)
}

fn chart(name: &str, simulation: &Simulation) -> Chart {
    let points = |share: &dyn Fn(&SizeHits) -> f64| -> Vec<(f64, f64)> {
        simulation.sizes.iter().map(|size| (rounded(size.percent), share(size) * 100.0)).collect()
    };
    let mut colours = COLOURS.iter().cycle().copied();
    let mut lines: Vec<ChartLine> = POLICIES
        .into_iter()
        .map(|(policy, _)| {
            let is_present = policy == simulation.policy;
            let style = if is_present { Style::Thick } else { Style::Plain };
            let colour = if is_present { "#000" } else { colours.next().unwrap_or("#000") };
            ChartLine { name: policy.to_owned(), colour, style, points: points(&|size| size.of(policy)) }
        })
        .collect();
    let optimum = points(&|size| size.optimum);
    lines.push(ChartLine {
        name: "optimum".to_owned(),
        colour: "#888",
        style: Style::Dotted,
        points: optimum,
    });
    let title = format!("{}: hit ratio in %, over the size in % of all entries", escaped_line(name));
    Chart { title, scale: Scale::Linear, lines }
}

/// Two digits after the point: what a chart prints.
fn rounded(percent: f64) -> f64 {
    ((percent * 100.0).round() / 100.0).max(0.01)
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{}: {error}", path.display()))
}
