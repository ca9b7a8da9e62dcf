//! Replays traces and generated requests against every policy and against other caches.
//!
//! `cargo run --release -p larder-compare --bin replay` prints tables in markdown: the hit
//! ratio and the time a request, at several sizes of the cache. `--help` lists the flags.
//! A request looks a key up, and inserts it if it is absent.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

mod contenders;
mod generators;
mod measure;
mod options;
mod plot;
mod report;
mod traces;

use std::fmt::Display;

use larder::{Error, ErrorKind, Result};
use larder_simulate::Workload;

use self::measure::Row;
use self::options::Options;

fn main() -> Result<()> {
    let Some(options) = Options::parse(std::env::args().skip(1))? else {
        print!("{}", options::HELP);
        return Ok(());
    };
    let has_traces = traces::are_in(&options.traces);
    if !has_traces {
        println!("The folder {} does not exist: no traces, generators alone.\n", options.traces.display());
    }
    let mut rows = Vec::new();
    for name in options.names() {
        if !has_traces && traces::NAMES.contains(&name) {
            continue;
        }
        let workload = match generators::generate(name) {
            Some(workload) => workload,
            None => traces::read(&options.traces, name)?,
        };
        rows.extend(replay(&workload, &options)?);
    }
    print!("{}", report::summary(&rows));
    print!("{}", report::means(&rows));
    Ok(())
}

/// Measures all sizes of a workload, prints its table and draws its plots.
fn replay(workload: &Workload, options: &Options) -> Result<Vec<Row>> {
    let rows: Vec<Row> = options
        .sizes
        .iter()
        .map(|size| measure::row(workload, *size, options.rounds))
        .collect::<Result<_>>()?;
    print!("{}", report::table(workload, &rows));
    if let Some(folder) = &options.plots {
        plot::write(folder, workload, &rows)?;
    }
    Ok(rows)
}

/// An error of a file or a folder, which is named.
fn unreadable(path: &std::path::Path, error: impl Display) -> Error {
    Error::new(ErrorKind::Io, format!("{}: {error}", path.display()))
}
