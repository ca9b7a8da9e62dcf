//! The arguments of the command.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use larder_core::place::Kind;
use larder_core::tier::TierKind;

use crate::entry::EntryState;

/// Looks into caches of Larder, without the program that wrote them.
///
/// Commands that look never change a cache. Commands that change one say what they did; with `--dry-run`
/// they say what they would do.
///
/// Exit codes: 0 done; 1 failed; 2 invalid arguments; 3 no such cache, key or tag; 4 another process has the
/// cache open; 5 `check` or `doctor` found a problem.
#[derive(Debug, Parser)]
#[command(name = "larder", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// The folder of the caches, or the directory of one cache. Default: `larder` in the cache folder of the
    /// platform, with the caches of every program.
    #[arg(long, global = true, value_name = "DIR", help_heading = "Source")]
    pub(crate) dir: Option<PathBuf>,
    /// Only the cache of this name. `PROGRAM/NAME` names one of several caches of the same name.
    #[arg(long, short, global = true, value_name = "NAME", help_heading = "Source")]
    pub(crate) cache: Option<String>,
    /// Looks into a Redis or Valkey server in place of directories: `redis://[user:password@]host[:port][/db]`
    /// or `redis+unix:///path`. Not for `config`, `doctor`, `simulate`, `top` and `serve`.
    #[arg(long, global = true, value_name = "URL", help_heading = "Source")]
    pub(crate) redis: Option<String>,
    /// Only the caches of this namespace on the server. Default: all.
    #[arg(long, global = true, value_name = "NAME", help_heading = "Source")]
    pub(crate) namespace: Option<String>,
    /// Prints one JSON document.
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Lists the caches, with their sizes and ages.
    Ls,
    /// Prints what each cache holds: entries, bytes, states, ages.
    Stats(Filter),
    /// Lists keys, with the size, the age and the state of their entries.
    Keys(KeysArguments),
    /// Prints the entry of a key: its head and its value.
    Show(ShowArguments),
    /// Says what a reader gets for a key, from which tier, and why.
    Explain(ExplainArguments),
    /// Lists the tags with their entries, or the keys of one tag.
    Tag(TagArguments),
    /// Prints the bytes by tier, kind, tag, age or state.
    Du(DuArguments),
    /// Reads every entry and verifies its checksums. Exit code 5 if something is damaged.
    Check(CheckArguments),
    /// Removes entries, by their keys or by a filter.
    Rm(RmArguments),
    /// Removes all entries of one cache.
    Clear(ChangeArguments),
    /// Removes entries that no reader gets any more, and what ended processes left behind.
    Gc(ChangeArguments),
    /// Writes entries of one cache into a file that another cache can be warmed from.
    Export(ExportArguments),
    /// Stores the entries of an export in a cache. A damaged file changes nothing.
    Import(ImportArguments),
    /// Prints the options that variables and the configuration file set for a cache.
    Config(ConfigArguments),
    /// Looks for problems of the machine and of the caches, and says what to do. Exit code 5 if there are
    /// any.
    Doctor,
    /// Replays a trace of requests against every policy but `CostAware` at several sizes, and says what would
    /// pay.
    Simulate(SimulateArguments),
    /// Shows the observed caches of running processes in the terminal. `?` lists the keys.
    Top(TopArguments),
    /// Serves the same as a page in the browser, to this machine alone unless `--listen` says otherwise.
    Serve(ServeArguments),
    /// Prints the completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Prints the manual page in roff, for `man`.
    Man,
}

/// Which entries a command is about. Several options narrow the choice down.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Filters")]
pub(crate) struct Filter {
    /// Entries with this tag. May be given several times: entries with any of them.
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Vec<String>,
    /// Entries in this tier.
    #[arg(long, value_name = "TIER", value_parser = tier)]
    pub(crate) tier: Option<TierKind>,
    /// Entries of this kind.
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub(crate) kind: Option<Kind>,
    /// Entries of at least this many bytes: `4096`, `10 KiB`, `1.5 MiB`.
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) min_size: Option<u64>,
    /// Entries of at most this many bytes.
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) max_size: Option<u64>,
    /// Entries written at least this long ago: `90s`, `1h 30m`, `7days`.
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub(crate) older: Option<Duration>,
    /// Entries written at most this long ago.
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub(crate) newer: Option<Duration>,
    /// Entries that expire within this span, or that have expired.
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub(crate) expires_within: Option<Duration>,
    /// Entries in this state.
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<EntryState>,
    /// Entries whose key, as `keys` prints it, contains this text.
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct KeysArguments {
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// The order of the keys.
    #[arg(long, value_name = "ORDER", default_value = "key")]
    pub(crate) sort: SortBy,
    /// The most keys to print for each cache; 0 for all.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    pub(crate) limit: usize,
}

/// The order in which `keys` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortBy {
    /// By key.
    Key,
    /// The largest first.
    Size,
    /// The oldest first.
    Age,
    /// Those that expire next first.
    Expiry,
}

#[derive(Args, Debug)]
pub(crate) struct ShowArguments {
    /// The key, as `keys` prints it.
    pub(crate) key: String,
    /// Prints the bytes of the value as they are, decompressed, and nothing else. Not to a terminal.
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
    /// The most bytes of the value to print; 0 for all.
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "4 KiB")]
    pub(crate) limit: u64,
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArguments {
    /// The key, as `keys` prints it.
    pub(crate) key: String,
}

#[derive(Args, Debug)]
pub(crate) struct TagArguments {
    /// The tag whose keys to list. Default: none, all tags are listed.
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The most tags or keys to print for each cache; 0 for all.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    pub(crate) limit: usize,
}

#[derive(Args, Debug)]
pub(crate) struct DuArguments {
    /// What the bytes are summed up by.
    #[arg(long, value_name = "WHAT", default_value = "tier")]
    pub(crate) by: SumBy,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

/// What `du` sums up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SumBy {
    /// The tier of an entry.
    Tier,
    /// The kind of its value.
    Kind,
    /// Each of its tags; an entry with several tags counts for each.
    Tag,
    /// The time since it was written.
    Age,
    /// Whether readers get it.
    State,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArguments {
    /// Removes what is damaged. On a server, an entry that changes after it was read stays.
    #[arg(long)]
    pub(crate) fix: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RmArguments {
    /// Keys, as `keys` prints them. Without keys a filter is needed.
    #[arg(value_name = "KEY")]
    pub(crate) keys: Vec<String>,
    #[command(flatten)]
    pub(crate) filter: Filter,
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ChangeArguments {
    /// Says what would be changed, and changes nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ExportArguments {
    /// The file to write.
    pub(crate) file: PathBuf,
    /// Replaces a file that exists.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

#[derive(Args, Debug)]
pub(crate) struct ImportArguments {
    /// The file that `export` wrote.
    pub(crate) file: PathBuf,
    /// Creates the cache that `--cache` names, if there is none. On a server, also a version of the program that has
    /// not used the cache yet.
    #[arg(long)]
    pub(crate) create: bool,
    /// Replaces entries that the cache has already.
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
}

#[derive(Args, Debug)]
pub(crate) struct SimulateArguments {
    /// The trace: `NAME.trace`, as the option `record_trace` of a cache writes it, `NAME.lis` or `NAME.csv`; also
    /// compressed as `.zst`.
    pub(crate) trace: PathBuf,
    /// The form of the trace. Default: by the name of the file.
    #[arg(long, value_name = "FORM")]
    pub(crate) format: Option<TraceForm>,
    /// The column of the key in CSV: its name, or its number from 1. Default: `key`, or the first one.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) key: Option<String>,
    /// The column of the size in bytes in CSV. Default: none, each entry counts as one.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) size: Option<String>,
    /// The present capacity: entries, or with `--size` bytes. Default: a tenth of what the trace asks for.
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) capacity: Option<u64>,
    /// The present policy.
    #[arg(long, value_name = "POLICY", value_parser = policy, default_value = "Auto")]
    pub(crate) policy: &'static str,
    /// The requests after which the rest of the trace is left out; 0 for none.
    #[arg(long, value_name = "COUNT", default_value_t = 20_000_000)]
    pub(crate) limit: usize,
    /// Writes a chart of the hit ratios to this file, in SVG.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

/// The form of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TraceForm {
    /// Block accesses: a line is `START COUNT IGNORED REQUEST`.
    Lis,
    /// A row is a request.
    Csv,
    /// The recorded look-ups of a cache.
    Recorded,
}

#[derive(Args, Debug)]
pub(crate) struct ConfigArguments {
    /// Prints the defaults as well.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Args, Debug)]
pub(crate) struct TopArguments {
    /// The time between two looks: 100ms to 1min.
    #[arg(long, value_name = "SPAN", value_parser = span, default_value = "1s")]
    pub(crate) interval: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct ServeArguments {
    /// The address and port to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7391")]
    pub(crate) listen: std::net::SocketAddr,
    /// A further name that browsers may call this server by, beside `localhost` and the address. May be given
    /// several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Vec<String>,
    /// A file whose first line is the token that the page asks for before it invalidates or clears. Default: the
    /// page changes nothing. Must be readable by its owner alone.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The time between two looks: 100ms to 1min.
    #[arg(long, value_name = "SPAN", value_parser = span, default_value = "1s")]
    pub(crate) interval: Duration,
}

fn tier(text: &str) -> Result<TierKind, String> {
    let known = [TierKind::Disk, TierKind::File, TierKind::Redis];
    let found = known.into_iter().find(|kind| kind.name() == text);
    found.ok_or_else(|| "allowed disk, file, redis".to_owned())
}

fn kind(text: &str) -> Result<Kind, String> {
    let found = Kind::ALL.into_iter().find(|kind| kind.name() == text);
    found.ok_or_else(|| format!("allowed {}", Kind::ALL.map(Kind::name).join(", ")))
}

fn policy(text: &str) -> Result<&'static str, String> {
    let names = larder_simulate::policies::POLICIES.map(|(name, _)| name);
    let found = names.into_iter().find(|name| name.eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("allowed {}", names.join(", ")))
}

fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "allowed a span such as 90s, 1h 30m, 7days".to_owned())
}

const UNITS: [(&str, u64); 5] = [("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

fn bytes(text: &str) -> Result<u64, String> {
    let allowed = || "allowed a number of bytes such as 4096, 10 KiB, 1.5 MiB, 2 GiB".to_owned();
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
    let (number, unit) = number.trim().parse::<f64>().ok().zip(known).ok_or_else(allowed)?;
    let bytes = number * unit.1 as f64;
    if bytes.is_finite() && bytes >= 0.0 { Ok(bytes as u64) } else { Err(allowed()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn sizes_have_units() {
        for (text, expected) in
            [("0", 0), ("4096", 4096), ("10 KiB", 10_240), ("1.5mib", 1_572_864), ("2GiB", 2 << 30)]
        {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "KiB", "-1", "1 TB", "NaN", "inf"] {
            assert!(bytes(text).unwrap_err().contains("allowed"), "{text}");
        }
    }
}
