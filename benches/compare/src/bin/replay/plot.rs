//! Plots of the hit ratio and of the time a request, over the size of the cache.

use std::path::Path;

use larder::Result;

use crate::contenders::AUTO;
use crate::measure::{Outcome, Row};
use crate::unreadable;
use larder_simulate::Workload;
use larder_simulate::chart::{Chart, ChartLine, Scale, Style};

/// Colours that can be told apart by those who see few of them (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d1f"];

/// Writes `NAME-hits.svg` and `NAME-time.svg` into `folder`, which is made if it is absent.
///
/// # Errors
/// A file or folder that cannot be written.
pub(crate) fn write(folder: &Path, workload: &Workload, rows: &[Row]) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| unreadable(folder, error))?;
    for (kind, chart) in [("hits", hits(&workload.name, rows)), ("time", times(&workload.name, rows))] {
        let path = folder.join(format!("{}-{kind}.svg", workload.name.to_lowercase()));
        std::fs::write(&path, chart.draw()).map_err(|error| unreadable(&path, error))?;
    }
    Ok(())
}

fn hits(name: &str, rows: &[Row]) -> Chart {
    let mut lines = lines(rows, |outcome| outcome.hits * 100.0);
    let optimum = rows.iter().map(|row| (row.size, row.optimum * 100.0)).collect();
    lines.push(ChartLine { name: "optimum".into(), colour: "#888", style: Style::Dotted, points: optimum });
    let title = format!("{name}: hit ratio in %, over the size of the cache in % of the keys");
    Chart { title, scale: Scale::Linear, lines }
}

fn times(name: &str, rows: &[Row]) -> Chart {
    let title = format!("{name}: ns a request, over the size of the cache in % of the keys");
    Chart { title, scale: Scale::Log, lines: lines(rows, |outcome| outcome.nanos) }
}

/// A line for each cache: `Auto` is thick, other policies of Larder are drawn through, the
/// other caches are dashed.
fn lines(rows: &[Row], value: impl Fn(&Outcome) -> f64) -> Vec<ChartLine> {
    let names = rows.first().map_or(&[][..], |row| &row.outcomes).iter().map(|outcome| outcome.name);
    let (mut ours, mut others) = (COLOURS.iter().cycle(), COLOURS.iter().cycle());
    names
        .map(|name| {
            let (style, colour) = match name {
                AUTO => (Style::Thick, Some(&"#000")),
                _ if name.starts_with("larder") => (Style::Plain, ours.next()),
                _ => (Style::Dashed, others.next()),
            };
            let points = rows.iter().filter_map(|row| Some((row.size, value(row.outcome(name)?)))).collect();
            ChartLine { name: name.to_owned(), colour: colour.copied().unwrap_or("#000"), style, points }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_plots_are_written_with_a_line_for_each_cache() {
        let folder = tempfile::tempdir().unwrap();
        let outcome = |name, hits| Outcome { name, hits, nanos: 100.0 };
        let outcomes = vec![outcome(AUTO, 0.5), outcome("moka TinyLFU", 0.25)];
        let row =
            |size| Row { workload: "P3".into(), size, room: 1, optimum: 0.9, outcomes: outcomes.clone() };
        let plots = folder.path().join("plots");
        write(&plots, &Workload::new("P3", String::new(), 0..10), &[row(1.0), row(10.0)]).unwrap();
        let read = |name: &str| std::fs::read_to_string(plots.join(name)).unwrap();
        assert_eq!(read("p3-hits.svg").matches("<polyline").count(), 3);
        assert_eq!(read("p3-time.svg").matches("<polyline").count(), 2);
        let error = write(&plots.join("p3-hits.svg"), &Workload::new("P3", String::new(), 0..10), &[]);
        assert!(error.unwrap_err().to_string().contains("p3-hits.svg"));
    }
}
