//! A tool that keeps the results of its steps between its runs:
//! `cargo run --manifest-path examples/frameworks/Cargo.toml --bin build_tool -- <folder>`.
//!
//! It counts the words of each text file of a folder, in place of a compiler that takes longer. The key of a
//! result is all that it depends on: the step, its version and the content of the file. So a file that was
//! renamed, or changed back, costs nothing, and no result is ever out of date.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use larder::{Cache, Durability, bcache};
use serde::{Deserialize, Serialize};

/// What a result depends on. For sources of megabytes, take a hash of the content.
#[derive(Hash, PartialEq, Eq, Serialize, Deserialize)]
struct Input {
    step: String,
    content: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Report {
    words: u64,
    longest: String,
}

/// Opens the results of earlier runs. A run that is killed loses nothing that it had computed; only one run
/// at a time has the directory, and a second one computes for itself.
fn open(dir: &Path) -> larder::Result<Cache<Input, Report>> {
    // `version` is raised when the step itself changes.
    bcache("reports").dir(dir).disk_bytes(256 << 20).durability(Durability::Flushed).version(1).build()
}

fn report(content: &str) -> Report {
    let longest = content.split_whitespace().max_by_key(|word| word.len()).unwrap_or_default();
    Report { words: content.split_whitespace().count() as u64, longest: longest.to_owned() }
}

fn run(cache: &Cache<Input, Report>, folder: &Path) -> io::Result<BTreeMap<PathBuf, Report>> {
    let mut reports = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "txt" || extension == "md") {
            let content = fs::read_to_string(&path)?;
            let input = Input { step: "words".to_owned(), content: content.clone() };
            reports.insert(path, cache.get_with(input, || report(&content)));
        }
    }
    Ok(reports)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let cache = open(&env::temp_dir().join("larder-build-tool"))?;
    for (path, Report { words, longest }) in run(&cache, &folder)? {
        println!("{:>6} words, the longest «{longest}»: {}", words, path.display());
    }
    let stats = cache.stats();
    println!("{} computed, {} found", stats.cache.loads, stats.hits());
    Ok(cache.close()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_run_computes_only_what_changed() {
        let (sources, results) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |name: &str, text: &str| fs::write(sources.path().join(name), text).unwrap();
        let run = || {
            let cache = open(results.path()).unwrap();
            let reports = run(&cache, sources.path()).unwrap();
            let loads = cache.stats().cache.loads;
            cache.close().unwrap();
            (reports, loads)
        };
        write("a.txt", "one two");
        write("b.txt", "three");
        assert_eq!(run().1, 2);
        write("b.txt", "three four five");
        fs::rename(sources.path().join("a.txt"), sources.path().join("c.txt")).unwrap();
        let (reports, loads) = run();
        assert_eq!(loads, 1, "a renamed file costs nothing");
        assert_eq!(reports.values().map(|report| report.words).sum::<u64>(), 5);
        assert_eq!(run().1, 0);
    }
}
