//! The arguments of the command.

use std::path::PathBuf;

use larder::{Error, Result};

use crate::{generators, traces};

pub(crate) const HELP: &str = "\
replay [--traces DIR] [--sizes PERCENT,..] [--only NAME,..] [--rounds N] [--plots DIR]

--traces  the folder of the traces; default: the variable LARDER_TRACES,
          else ../shared/traces beside the repository
--sizes   sizes of the caches, in percent of the distinct keys; default: 1,5,10,30
--only    what to replay: OLTP, P3, P6, zipf-0.99, zipf-0.7, loop, scans,
          shifting, sizes, uniform; default: all
--rounds  replays of each row, of which the median counts; default: 3
--plots   the folder for plots in SVG; default: no plots
";

/// The folder of the traces, where neither an argument nor the variable names one.
const TRACES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/traces");
const ROUNDS_MAX: usize = 99;

/// What the arguments ask for.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) traces: PathBuf,
    /// In percent of the distinct keys.
    pub(crate) sizes: Vec<f64>,
    /// The names of workloads; empty for all.
    only: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) plots: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments. `None` if they ask for help.
    ///
    /// # Errors
    /// Names the option, what was given and what is allowed.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self {
            traces: std::env::var_os("LARDER_TRACES").map_or_else(|| PathBuf::from(TRACES), PathBuf::from),
            sizes: vec![1.0, 5.0, 10.0, 30.0],
            only: Vec::new(),
            rounds: 3,
            plots: None,
        };
        while let Some(flag) = arguments.next() {
            if flag == "--help" || flag == "-h" {
                return Ok(None);
            }
            options.set(&flag, arguments.next())?;
        }
        Ok(Some(options))
    }

    fn set(&mut self, flag: &str, value: Option<String>) -> Result<()> {
        let allowed = match flag {
            "--traces" | "--plots" => "the path of a folder",
            "--sizes" => "numbers above 0 and up to 100, parted by commas",
            "--only" => "names out of OLTP, P3, P6 and those of the generators, see --help",
            "--rounds" => "a number from 1 to 99",
            _ => {
                return Err(Error::config(
                    flag,
                    "an unknown flag",
                    "--traces, --sizes, --only, --rounds, --plots, --help",
                ));
            }
        };
        let Some(value) = value else { return Err(Error::config(flag, "nothing", allowed)) };
        let is_set = match flag {
            "--traces" => path(&value).map(|path| self.traces = path),
            "--plots" => path(&value).map(|path| self.plots = Some(path)),
            "--sizes" => list(&value, size).map(|sizes| self.sizes = sizes),
            "--only" => list(&value, name).map(|names| self.only = names),
            _ => rounds(&value).map(|rounds| self.rounds = rounds),
        };
        is_set.ok_or_else(|| Error::config(flag, format_args!("`{value}`"), allowed))
    }

    /// The workloads to replay, in a fixed order.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        let is_asked = |name: &&str| self.only.is_empty() || self.only.iter().any(|only| only == name);
        traces::NAMES.into_iter().chain(generators::NAMES).filter(is_asked).collect()
    }
}

fn path(value: &str) -> Option<PathBuf> {
    (!value.is_empty()).then(|| value.into())
}

fn list<T>(value: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    value.split(',').map(|part| parse(part.trim())).collect()
}

fn size(value: &str) -> Option<f64> {
    value.parse().ok().filter(|size| *size > 0.0 && *size <= 100.0)
}

fn name(value: &str) -> Option<String> {
    let is_known = traces::NAMES.contains(&value) || generators::NAMES.contains(&value);
    is_known.then(|| value.to_owned())
}

fn rounds(value: &str) -> Option<usize> {
    value.parse().ok().filter(|rounds| (1..=ROUNDS_MAX).contains(rounds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Result<Option<Options>> {
        Options::parse(arguments.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn each_flag_sets_its_option() {
        let options =
            parse("--traces a --sizes 0.5,30 --only loop,P3 --rounds 7 --plots b").unwrap().unwrap();
        assert_eq!(options.traces, PathBuf::from("a"));
        assert_eq!(options.sizes, [0.5, 30.0]);
        assert_eq!(options.names(), ["P3", "loop"]);
        assert_eq!(options.rounds, 7);
        assert_eq!(options.plots, Some(PathBuf::from("b")));
    }

    #[test]
    fn without_arguments_everything_is_replayed_at_four_sizes() {
        let options = parse("").unwrap().unwrap();
        assert_eq!(options.sizes, [1.0, 5.0, 10.0, 30.0]);
        assert_eq!(options.names().len(), traces::NAMES.len() + generators::NAMES.len());
        assert_eq!(parse("--rounds 1 --help").unwrap(), None);
    }

    #[test]
    fn bad_arguments_are_named_with_what_is_allowed() {
        for (arguments, given) in [
            ("--sizes 0", "`0`"),
            ("--sizes 1,101", "`1,101`"),
            ("--sizes NaN", "`NaN`"),
            ("--only zipf", "`zipf`"),
            ("--rounds 0", "`0`"),
            ("--rounds 100", "`100`"),
            ("--plots", "nothing"),
            ("--size 3", "unknown"),
        ] {
            let error = parse(arguments).unwrap_err().to_string();
            let flag = arguments.split(' ').next().unwrap();
            assert!(error.contains(flag) && error.contains("allowed"), "{arguments}: {error}");
            assert!(error.contains(given), "{arguments}: {error}");
        }
    }
}
