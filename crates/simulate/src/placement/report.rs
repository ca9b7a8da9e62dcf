//! Tables in markdown, and a chart.

use std::fmt::Write;

use crate::chart::{Chart, ChartLine, DotChart, Scale, Style};

use super::{Scenario, Simulated};

/// The outcomes of one scenario.
#[derive(Clone, Debug)]
pub struct Row {
    /// The name of the scenario.
    pub name: String,
    /// The set of tiers.
    pub set: &'static str,
    /// With `Table`.
    pub table: Simulated,
    /// With `Adaptive`.
    pub adaptive: Simulated,
    /// With placements that know the future.
    pub oracle: Simulated,
    /// What no cache can be below, in nanoseconds.
    pub bound: f64,
    /// The first request for which a tier is slow.
    pub slow_from: Option<usize>,
}

impl Row {
    /// Total times over that of the oracle: of `Table`, of `Adaptive`.
    pub fn ratios(&self) -> [f64; 2] {
        [&self.table, &self.adaptive].map(|outcome| outcome.total / self.oracle.total)
    }

    /// The time of `Adaptive` over that of `Table`.
    pub fn against_table(&self) -> f64 {
        self.adaptive.total / self.table.total
    }

    /// The time of `Adaptive` over that of the oracle, from 10,000 to 20,000 requests after a slowdown.
    pub fn recovered(&self) -> Option<f64> {
        let from = self.slow_from? + 10_000;
        let time = |outcome: &Simulated| outcome.between(from, from + 10_000);
        Some(time(&self.adaptive) / time(&self.oracle))
    }

    /// The outcomes of a scenario with these simulations.
    pub fn new(scenario: &Scenario, [table, adaptive, oracle]: [Simulated; 3], bound: f64) -> Self {
        Self {
            name: scenario.name.clone(),
            set: scenario.set.name,
            table,
            adaptive,
            oracle,
            bound,
            slow_from: scenario.slowdown.map(|slow| slow.from),
        }
    }
}

/// A line for each scenario.
pub fn table(rows: &[Row]) -> String {
    let mut text = "| requests | tiers | Table, s | Adaptive, s | oracle, s | bound, s | Table / oracle | \
                    Adaptive / oracle | Adaptive / Table | 10,000 requests after the slowdown |\n\
                    |---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for row in rows {
        let seconds =
            [row.table.total, row.adaptive.total, row.oracle.total, row.bound].map(|nanos| nanos / 1e9);
        let [table, adaptive] = row.ratios();
        let recovered = row.recovered().map_or_else(String::new, |ratio| format!("{ratio:.3}"));
        let _ = writeln!(
            text,
            "| {} | {} | {:.3} | {:.3} | {:.3} | {:.3} | {table:.3} | {adaptive:.3} | {:.3} | {recovered} |",
            row.name,
            row.set,
            seconds[0],
            seconds[1],
            seconds[2],
            seconds[3],
            row.against_table()
        );
    }
    text
}

/// Means and extremes of all rows.
pub fn means(rows: &[Row]) -> String {
    let mean = |of: &dyn Fn(&Row) -> f64| rows.iter().map(of).sum::<f64>() / rows.len().max(1) as f64;
    let most = |of: &dyn Fn(&Row) -> f64| rows.iter().map(of).fold(0.0, f64::max);
    let recovered = rows.iter().filter_map(Row::recovered).fold(0.0, f64::max);
    format!(
        "Adaptive over the oracle: {:.3} in the mean, {:.3} at most; Table over the oracle: {:.3} and {:.3}.\n\
         Adaptive over Table: {:.3} in the mean, {:.3} at most. 10,000 requests after a slowdown: {recovered:.3} \
         of the oracle at most.\nOracle over the bound: {:.3} in the mean, {:.3} at most.\n",
        mean(&|row| row.ratios()[1]),
        most(&|row| row.ratios()[1]),
        mean(&|row| row.ratios()[0]),
        most(&|row| row.ratios()[0]),
        mean(&Row::against_table),
        most(&Row::against_table),
        mean(&|row| row.oracle.total / row.bound),
        most(&|row| row.oracle.total / row.bound),
    )
}

/// The times of `Table` and of `Adaptive` over that of the oracle, for all rows.
pub fn dots(rows: &[Row]) -> DotChart {
    let series = [("oracle", "#bbb"), ("Table", "#d55e00"), ("Adaptive", "#000")];
    let values = |row: &Row| std::iter::once(1.0).chain(row.ratios()).collect();
    DotChart {
        title: "time of all requests, over that of placements that know the future".to_owned(),
        series: series.map(|(name, colour)| (name.to_owned(), colour)).into(),
        rows: rows.iter().map(|row| (format!("{}, {}", row.name, row.set), values(row))).collect(),
    }
}

/// The time of each window of a scenario over the requests, in microseconds a request.
pub fn chart(row: &Row) -> Chart {
    let line = |name: &str, colour, style, outcome: &Simulated| {
        let points = outcome.windows.iter().enumerate().map(|(window, nanos)| {
            let requests = ((window + 1) * Simulated::WINDOW) as f64;
            (requests, nanos / Simulated::WINDOW as f64 / 1e3)
        });
        ChartLine { name: name.to_owned(), colour, style, points: points.collect() }
    };
    let lines = vec![
        line("Adaptive", "#000", Style::Thick, &row.adaptive),
        line("Table", "#d55e00", Style::Plain, &row.table),
        line("oracle", "#888", Style::Dotted, &row.oracle),
    ];
    let title = format!("{}, tiers {}: µs a request, over the requests", row.name, row.set);
    Chart { title, scale: Scale::Log, lines }
}
