//! Caches to look into, and the command that looks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use larder::{Bytes, Compress, EntryOptions, Persistence};
use serde_json::Value;
use tempfile::TempDir;

/// What a run of the command printed, and its exit code.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }

    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stdout.contains(part), "{part:?} is missing in {}", self.stdout);
        }
        self
    }

    #[track_caller]
    pub(crate) fn complains(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is missing in {}", self.stderr);
        }
        self
    }
}

/// The command, without the variables of this process.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.args(arguments);
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.to_string_lossy().starts_with("LARDER_")) {
        command.env_remove(name);
    }
    command
}

/// Runs the command with `--dir`.
pub(crate) fn larder(dir: &Path, arguments: &[&str]) -> Ran {
    let dir = ["--dir", dir.to_str().unwrap()];
    Ran::of(command(&[&dir[..], arguments].concat()).output().unwrap())
}

/// Runs the command as it is.
pub(crate) fn plain(arguments: &[&str]) -> Ran {
    Ran::of(command(arguments).output().unwrap())
}

pub(crate) const SMALL: u64 = 20;
pub(crate) const FILM: usize = 3 << 20;

/// A folder with three caches: `pages` with entries of every kind on disk, `films` with files, and `numbers`
/// with both.
pub(crate) fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    pages(dir.path());
    let films = larder::fcache::<String, Bytes>("films").dir(dir.path()).memory_bytes(0).build().unwrap();
    films.try_insert("short".to_owned(), Bytes::from_static(b"\x00\x01\x02 film")).unwrap();
    films.try_insert("note".to_owned(), Bytes::from_static(b"a readable note")).unwrap();
    films.close().unwrap();
    let numbers = larder::ucache::<(String, u64), Vec<f32>>("numbers")
        .dir(dir.path())
        .persistence(Persistence::LongTerm)
        .compress(Compress::None)
        .build()
        .unwrap();
    numbers.try_insert(("small".to_owned(), 1), vec![1.0, -2.5]).unwrap();
    numbers.try_insert(("large".to_owned(), 2), vec![0.5; FILM / 4]).unwrap();
    numbers.close().unwrap();
    dir
}

fn pages(dir: &Path) {
    let pages = larder::bcache::<String, String>("pages").dir(dir).build().unwrap();
    for number in 0..SMALL {
        pages.try_insert(format!("page-{number:02}"), "text ".repeat(10)).unwrap();
    }
    let with = |key: &str, value: &str, options: EntryOptions| {
        pages.try_insert_with(key.to_owned(), value.to_owned(), options).unwrap();
    };
    with("tagged", "by a tag", EntryOptions::new().tag("red").tag("blue"));
    with("large", &"x".repeat(9000), EntryOptions::new().tag("red"));
    with("7", "a key that looks like a number", EntryOptions::new());
    with("hourly", "an hour", EntryOptions::new().ttl(Duration::from_secs(3600)));
    with("brief", "soon over", EntryOptions::new().ttl(Duration::from_millis(1)));
    with("withdrawn", "invalidated", EntryOptions::new().tag("old"));
    with("evil\u{1b}[2J\u{202e}", "\u{1b}]0;title\u{7}value", EntryOptions::new().tag("\u{9b}tag"));
    pages.invalidate_tag("old").unwrap();
    pages.close().unwrap();
}

/// The files below `dir` with their bytes.
pub(crate) fn files_of(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files_of(&path)),
            false => found.push((path.clone(), fs::read(path).unwrap())),
        }
    }
    found.sort();
    found
}

/// The keys that `larder keys` prints of a cache.
pub(crate) fn keys(dir: &Path, cache: &str, arguments: &[&str]) -> Vec<String> {
    let ran = larder(dir, &[&["keys", "--json", "--cache", cache], arguments].concat());
    let document = ran.exits(0).json();
    let entries = document["caches"][0]["entries"].as_array().unwrap();
    entries.iter().map(|entry| entry["key"].as_str().unwrap().to_owned()).collect()
}
