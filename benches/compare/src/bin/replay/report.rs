//! Tables in markdown.

use std::fmt::Write;

use crate::contenders::AUTO;
use crate::measure::{Outcome, Row};
use larder_simulate::{Weights, Workload};

/// The table of one workload: a line for each cache, a column for each size.
pub(crate) fn table(workload: &Workload, rows: &[Row]) -> String {
    let requests = grouped(workload.requests.len() as u64);
    let keys = grouped(u64::from(workload.distinct));
    let mut text = format!("## {}\n\n", workload.name);
    let _ = writeln!(text, "{}: {requests} requests, {keys} distinct keys.", capitalized(&workload.about));
    text.push_str(
        "Hit ratio in %, in brackets ns of processor time a request and the ratio to moka TinyLFU.\n\n",
    );
    let unit = match workload.weights {
        Weights::Entries => "",
        Weights::Bytes(_) => " B",
    };
    let sizes = rows.iter().map(|row| format!("{} % ({}{unit})", row.size, grouped(row.room)));
    line(&mut text, "", sizes);
    line(&mut text, "---", rows.iter().map(|_| "--:".to_owned()));
    line(&mut text, "optimum", rows.iter().map(|row| percent(row.optimum)));
    for outcome in rows.first().map_or(&[][..], |row| &row.outcomes) {
        line(&mut text, outcome.name, rows.iter().map(|row| cell(row, outcome.name)));
    }
    line(&mut text, "Auto against the best single policy", rows.iter().map(distance));
    text.push('\n');
    text
}

fn line(text: &mut String, head: &str, cells: impl Iterator<Item = String>) {
    let _ = write!(text, "| {head} |");
    for cell in cells {
        let _ = write!(text, " {cell} |");
    }
    text.push('\n');
}

fn cell(row: &Row, name: &str) -> String {
    row.outcome(name).map_or_else(String::new, |outcome| {
        format!("{} ({:.0}, {:.2})", percent(outcome.hits), outcome.nanos, row.time_ratio(outcome))
    })
}

fn distance(row: &Row) -> String {
    match (row.outcome(AUTO), row.best_single()) {
        (Some(auto), Some(best)) => format!("{:+.1} ({})", row.points(auto), best.name),
        _ => String::new(),
    }
}

/// The table of all rows: how far `Auto` is from the best single policy.
pub(crate) fn summary(rows: &[Row]) -> String {
    let mut text = "## Auto, row by row\n\n".to_owned();
    text.push_str("| requests | size, % | optimum | best single policy | its ratio | Auto | points | ns | of moka's time |\n");
    text.push_str("|---|--:|--:|---|--:|--:|--:|--:|--:|\n");
    for row in rows {
        let (Some(auto), Some(best)) = (row.outcome(AUTO), row.best_single()) else { continue };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {:+.1} | {:.0} | {:.2} |",
            row.workload,
            row.size,
            percent(row.optimum),
            best.name,
            percent(best.hits),
            percent(auto.hits),
            row.points(auto),
            auto.nanos,
            row.time_ratio(auto)
        );
    }
    text.push('\n');
    text
}

/// The table of means over all rows, the highest hit ratio first.
pub(crate) fn means(rows: &[Row]) -> String {
    let mut text = "## Means of all rows\n\n".to_owned();
    text.push_str(
        "| policy | hit ratio, % | points from the best single policy | at worst | ns | of moka's time |\n",
    );
    text.push_str("|---|--:|--:|--:|--:|--:|\n");
    let names = rows.first().map_or(&[][..], |row| &row.outcomes).iter().map(|outcome| outcome.name);
    let mut means: Vec<Mean> = names.map(|name| Mean::of(name, rows)).collect();
    means.sort_by(|one, other| other.hits.total_cmp(&one.hits));
    for mean in means {
        let Mean { name, hits, points, worst, nanos, ratio } = mean;
        let _ = writeln!(
            text,
            "| {name} | {} | {points:+.1} | {worst:+.1} | {nanos:.0} | {ratio:.2} |",
            percent(hits)
        );
    }
    text
}

/// Means of one cache.
struct Mean {
    name: &'static str,
    hits: f64,
    points: f64,
    /// The least points of a row.
    worst: f64,
    nanos: f64,
    ratio: f64,
}

impl Mean {
    fn of(name: &'static str, rows: &[Row]) -> Self {
        let mean = |value: &dyn Fn(&Row, &Outcome) -> f64| {
            let values = rows.iter().filter_map(|row| Some(value(row, row.outcome(name)?)));
            values.sum::<f64>() / rows.len() as f64
        };
        let points = rows.iter().filter_map(|row| Some(row.points(row.outcome(name)?)));
        Self {
            name,
            hits: mean(&|_, outcome| outcome.hits),
            points: mean(&Row::points),
            worst: points.fold(f64::INFINITY, f64::min),
            nanos: mean(&|_, outcome| outcome.nanos),
            ratio: mean(&Row::time_ratio),
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}", share * 100.0)
}

/// A number with a comma after each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let row = |size: f64, hits: [f64; 3]| {
            let names = [AUTO, "moka TinyLFU", "quick_cache"];
            let outcome = |(name, hits)| Outcome { name, hits, nanos: 100.0 * (1.0 + hits) };
            let outcomes = names.into_iter().zip(hits).map(outcome).collect();
            Row { workload: "loop".into(), size, room: 12, optimum: 0.9, outcomes }
        };
        vec![row(1.0, [0.5, 0.25, 0.625]), row(30.0, [0.75, 0.5, 0.25])]
    }

    #[test]
    fn table_has_a_line_for_each_cache() {
        let workload = Workload::new("loop", "a loop".into(), 0..1_234);
        let text = table(&workload, &rows());
        assert!(text.contains("A loop: 1,234 requests, 1,234 distinct keys."), "{text}");
        assert!(text.contains("| larder Auto | 50.0 (150, 1.20) | 75.0 (175, 1.17) |\n"), "{text}");
        let distance = "| Auto against the best single policy | -12.5 (quick_cache) | +25.0 (moka TinyLFU) |";
        assert!(text.contains(distance), "{text}");
    }

    #[test]
    fn summary_compares_auto_with_the_best_other() {
        let text = summary(&rows());
        assert!(
            text.contains("| loop | 1 | 90.0 | quick_cache | 62.5 | 50.0 | -12.5 | 150 | 1.20 |"),
            "{text}"
        );
    }

    #[test]
    fn means_are_sorted_by_the_hit_ratio() {
        let text = means(&rows());
        let lines: Vec<&str> = text.lines().skip(4).collect();
        assert_eq!(lines[0], "| larder Auto | 62.5 | +6.2 | -12.5 | 162 | 1.18 |");
        assert!(lines[1].starts_with("| quick_cache | 43.8 |"), "{text}");
        assert!(lines[2].starts_with("| moka TinyLFU | 37.5 |"), "{text}");
    }

    #[test]
    fn long_numbers_are_grouped() {
        assert_eq!([1, 123, 1_234, 1_234_567].map(grouped), ["1", "123", "1,234", "1,234,567"]);
    }
}
