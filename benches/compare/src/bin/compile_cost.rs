//! The compile cost of one more pair of key and value types.
//!
//! Writes small crates that use a cache for 1 and for 21 pairs of types, builds each in a
//! release build, and prints CPU seconds and bytes of program for one more pair. The
//! crates are built in turn, several rounds, and the least time of each counts.
//!
//! `cargo run --release -p larder-compare --bin compile_cost [ROUNDS]`
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

type Outcome<T> = Result<T, Box<dyn Error>>;

const FEW: usize = 1;
const MANY: usize = 21;
const FUNCTIONS: usize = 200;

/// A crate whose code grows with the number of types.
struct Subject {
    name: &'static str,
    dependencies: &'static str,
    /// Code for the whole crate.
    head: &'static str,
    /// Code for one pair of types, with `N` in place of its number.
    each: &'static str,
    /// The number of pairs in each of the two builds.
    counts: [usize; 2],
}

const LARDER: &str = "larder = { path = \"ROOT\" }\nserde = { version = \"1\", features = [\"derive\"] }\ntokio = { version = \"1\", features = [\"rt\"] }\n";
const MOKA: &str = "moka = { version = \"0.12\", default-features = false, features = [\"sync\"] }\n";

const SUBJECTS: [Subject; 5] = [
    Subject {
        name: "moka::sync::Cache",
        dependencies: MOKA,
        head: "",
        each: "
#[derive(Clone, Hash, PartialEq, Eq)] struct KN(u64, String);
#[derive(Clone)] struct VN(u64, String);
pub fn useN() -> Option<u64> {
    let cache = moka::sync::Cache::<KN, VN>::builder().max_capacity(100).build();
    cache.insert(KN(1, String::new()), VN(1, String::new()));
    let loaded = cache.get_with(KN(2, String::new()), || VN(2, String::new()));
    cache.invalidate(&KN(1, String::new()));
    cache.get(&KN(2, String::new())).map(|value| value.0 + loaded.0 + value.1.len() as u64)
}
",
        counts: [FEW, MANY],
    },
    Subject {
        name: "mcache",
        dependencies: LARDER,
        head: "",
        each: "
#[derive(Clone, Hash, PartialEq, Eq)] struct KN(u64, String);
#[derive(Clone)] struct VN(u64, String);
pub fn useN() -> Option<u64> {
    let cache = larder::mcache::<KN, VN>(\"N\").capacity(100).build().ok()?;
    cache.insert(KN(1, String::new()), VN(1, String::new()));
    let loaded = cache.get_with(KN(2, String::new()), || VN(2, String::new()));
    cache.remove(&KN(1, String::new()));
    cache.get(&KN(2, String::new())).map(|value| value.0 + loaded.0 + value.1.len() as u64)
}
",
        counts: [FEW, MANY],
    },
    Subject {
        name: "ucache",
        dependencies: LARDER,
        head: "use serde::{Deserialize, Serialize};",
        each: "
#[derive(Clone, Hash, PartialEq, Eq, Serialize, Deserialize)] struct KN(u64, String);
#[derive(Clone, Serialize, Deserialize)] struct VN(u64, String);
pub fn useN() -> Option<u64> {
    let cache = larder::ucache::<KN, VN>(\"N\").capacity(100).build().ok()?;
    cache.insert(KN(1, String::new()), VN(1, String::new()));
    let loaded = cache.get_with(KN(2, String::new()), || VN(2, String::new()));
    cache.remove(&KN(1, String::new()));
    cache.get(&KN(2, String::new())).map(|value| value.0 + loaded.0 + value.1.len() as u64)
}
",
        counts: [FEW, MANY],
    },
    Subject {
        name: "ucache, async",
        dependencies: LARDER,
        head: "use serde::{Deserialize, Serialize};",
        each: "
#[derive(Clone, Hash, PartialEq, Eq, Serialize, Deserialize)] struct KN(u64, String);
#[derive(Clone, Serialize, Deserialize)] struct VN(u64, String);
pub fn useN() -> Option<u64> {
    tokio::runtime::Builder::new_current_thread().build().ok()?.block_on(async {
        let cache = larder::ucache::<KN, VN>(\"N\").capacity(100).build().ok()?.to_async();
        cache.insert(KN(1, String::new()), VN(1, String::new())).await;
        let loaded = cache.get_with(KN(2, String::new()), async { VN(2, String::new()) }).await;
        cache.remove(&KN(1, String::new())).await;
        cache.get(&KN(2, String::new())).await.map(|value| value.0 + loaded.0 + value.1.len() as u64)
    })
}
",
        counts: [FEW, MANY],
    },
    Subject {
        name: "a function with #[mcache]",
        dependencies: LARDER,
        head: "",
        each: "
#[larder::mcache(capacity = 100)]
fn lengthN(text: String, factor: u64) -> u64 { text.len() as u64 * factor + N }
pub fn useN() -> Option<u64> { Some(lengthN(String::from(\"N\"), 3)) }
",
        counts: [FEW, FUNCTIONS],
    },
];

fn main() -> Outcome<()> {
    let rounds = match std::env::args().nth(1) {
        None => 3,
        Some(text) => {
            let rounds = text.parse().ok().filter(|rounds| (1..=100).contains(rounds));
            rounds.ok_or_else(|| format!("ROUNDS is `{text}`; a number from 1 to 100 is allowed"))?
        }
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let folder = tempfile::tempdir()?;
    let target = folder.path().join("target");
    let mut crates = Vec::new();
    for (at, subject) in SUBJECTS.iter().enumerate() {
        for count in subject.counts {
            crates.push(write_crate(&root, folder.path(), (at, subject), count)?);
        }
    }
    println!("{rounds} rounds; seconds of CPU and bytes of program for one more:");
    let mut least = vec![(f64::INFINITY, 0); crates.len()];
    for round in 0..=rounds {
        for (at, path) in crates.iter().enumerate() {
            let built = build(path, &target)?;
            // The first round builds the dependencies, and does not count.
            if round > 0 {
                least[at] = (least[at].0.min(built.0), built.1);
            }
        }
    }
    let each = |at: usize| {
        let [few, many] = SUBJECTS[at].counts;
        let more = (many - few) as f64;
        let (few, many) = (least[2 * at], least[2 * at + 1]);
        ((many.0 - few.0) / more, (many.1 as f64 - few.1 as f64) / more)
    };
    let base = each(0);
    for (at, subject) in SUBJECTS.iter().enumerate() {
        let (seconds, bytes) = each(at);
        println!(
            "{:<26} {seconds:>7.3} s  {:>8.1} KiB   x {:.2} and {:.2} of moka",
            subject.name,
            bytes / 1024.0,
            seconds / base.0,
            bytes / base.1
        );
    }
    Ok(())
}

fn write_crate(
    root: &Path,
    folder: &Path,
    (at, subject): (usize, &Subject),
    count: usize,
) -> Outcome<PathBuf> {
    let name = format!("subject{at}x{count}");
    let path = folder.join(&name);
    fs::create_dir_all(path.join("src"))?;
    let dependencies = subject.dependencies.replace("ROOT", &root.display().to_string());
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n{dependencies}\n[workspace]\n"
    );
    fs::write(path.join("Cargo.toml"), manifest)?;
    fs::copy(root.join("Cargo.lock"), path.join("Cargo.lock"))?;
    let each = (0..count).map(|number| {
        let number = number.to_string();
        subject
            .each
            .replace("KN", &format!("K{number}"))
            .replace("VN", &format!("V{number}"))
            .replace('N', &number)
    });
    let calls = (0..count).map(|number| format!("    sum += use{number}().unwrap_or_default();\n"));
    let (each, calls): (String, String) = (each.collect(), calls.collect());
    let code = format!(
        "{}\n{each}\nfn main() {{\n    let mut sum = 0;\n{calls}    println!(\"{{sum}}\");\n}}\n",
        subject.head
    );
    fs::write(path.join("src/main.rs"), code)?;
    Ok(path)
}

/// Builds a crate again without its dependencies; returns CPU seconds and bytes.
fn build(path: &Path, target: &Path) -> Outcome<(f64, u64)> {
    let main = path.join("src/main.rs");
    let code = fs::read(&main)?;
    fs::write(&main, code)?;
    let before = children_seconds()?;
    let built = Command::new("cargo")
        .args(["build", "--release", "--offline", "--quiet"])
        .current_dir(path)
        .env("CARGO_TARGET_DIR", target)
        .status()?;
    if !built.success() {
        return Err(format!("{} does not build", path.display()).into());
    }
    let seconds = children_seconds()? - before;
    let name = path.file_name().ok_or("a crate without a name")?;
    Ok((seconds, fs::metadata(target.join("release").join(name))?.len()))
}

/// CPU time of all children that have ended.
fn children_seconds() -> Outcome<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<f64>().ok()).ok_or("no CPU time");
    // Fields 16 and 17, counted from the state, in ticks of 10 ms.
    Ok((ticks(13)? + ticks(14)?) / 100.0)
}
