//! What lints cannot see: words, names, and how large folders, files and functions are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

const FOLDER_FILES_MAX: usize = 15;
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 60;

/// Files that are longer, with their lines: they may only get shorter.
const LONG_FILES: &[(&str, usize)] = &[
    ("crates/core/src/codec/measure.rs", 519),
    ("crates/larder/src/cache.rs", 514),
    ("crates/tiers/src/disk/tests.rs", 694),
];

/// Types whose name stands for two things on purpose, with the reason.
const NAMES_TWICE: &[(&str, &str)] = &[
    ("Encoded", "the attributes have a trait of this name for their messages"),
    ("Frame", "a batch of records is called a frame by the users of Arrow"),
    ("Holder", "two builds of one module, with tasks and without"),
    ("Many", "two traits of attributes, for threads and for tasks"),
    ("Sealed", "the usual name of the trait that seals another"),
];

/// Words that say nothing to a newcomer. Each is looked for as a whole word.
const WORDS: &[&str] = &[
    "nobody",
    "whoever",
    "everybody",
    "anybody",
    "somebody",
    "ticket",
    "tickets",
    "gate",
    "gates",
    "dares",
    "owed",
    "owes",
    "heed",
    "heeds",
    "taint",
    "tainted",
    "wire",
    "repack",
    "era",
    "shield",
    "worthless",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The sources of the packages that are published, each with its path from the root.
fn sources() -> Vec<(PathBuf, String)> {
    let all = WalkDir::new(root().join("crates")).into_iter().map(|entry| entry.unwrap().into_path());
    let is_source = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "rs")
            && path.components().any(|part| part.as_os_str() == "src")
    };
    let sources: Vec<_> = all
        .filter(is_source)
        .map(|path| (path.strip_prefix(root()).unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    assert!(sources.len() > 100, "only {} sources were found", sources.len());
    sources
}

#[test]
fn no_folder_has_more_than_fifteen_files() {
    let mut folders: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for (path, _) in sources() {
        *folders.entry(path.parent().unwrap().to_owned()).or_default() += 1;
    }
    let large: Vec<_> = folders.iter().filter(|(_, count)| **count > FOLDER_FILES_MAX).collect();
    assert!(large.is_empty(), "more than {FOLDER_FILES_MAX} files: {large:?}");
}

#[test]
fn no_file_has_more_than_five_hundred_lines() {
    let mut long = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        let known = LONG_FILES.iter().find(|(known, _)| Path::new(known) == path);
        let max = known.map_or(FILE_LINES_MAX, |(_, lines)| *lines);
        if lines > max {
            long.push(format!("{} has {lines} lines, {max} are allowed", path.display()));
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn no_function_has_more_than_sixty_lines() {
    let mut long = Vec::new();
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(name) = function(line) else { continue };
            let indent = line.len() - line.trim_start().len();
            let end = lines[at..].iter().position(|line| {
                let is_closed =
                    line.trim_start().starts_with('}') && line.len() - line.trim_start().len() == indent;
                is_closed || line.trim_end().ends_with(';') && line.len() - line.trim_start().len() == indent
            });
            let count = end.unwrap_or(0) + 1;
            if count > FUNCTION_LINES_MAX {
                long.push(format!("`{name}` in {} has {count} lines", path.display()));
            }
        }
    }
    assert!(long.is_empty(), "more than {FUNCTION_LINES_MAX} lines: {long:#?}");
}

/// The name of the function that begins in this line.
fn function(line: &str) -> Option<&str> {
    let mut words = line.trim_start();
    while let Some((word, rest)) = words.split_once(' ') {
        if word == "fn" {
            return rest.split(['(', '<']).next();
        }
        if !(matches!(word, "pub" | "const" | "async" | "unsafe" | "in")
            || word.starts_with("pub(")
            || word.ends_with(')'))
        {
            return None;
        }
        words = rest;
    }
    None
}

/// The test tools and the attributes are seen by no other package.
fn is_library(path: &Path) -> bool {
    !path.starts_with("crates/testkit") && !path.starts_with("crates/macros")
}

#[test]
fn one_name_of_a_type_stands_for_one_thing() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| is_library(path)) {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            // Those of one file or folder alone may have a short name.
            if !words.next().is_some_and(|word| word == "pub" || word == "pub(crate)") {
                continue;
            }
            let Some("struct" | "enum" | "trait") = words.next() else { continue };
            let name =
                words.next().unwrap_or_default().split(['<', '(', ';', ':', '{']).next().unwrap_or_default();
            places.entry(name.to_owned()).or_default().push(path.display().to_string());
        }
    }
    let is_known = |name: &str| NAMES_TWICE.iter().any(|(known, _)| *known == name);
    let twice: Vec<_> = places.iter().filter(|(name, places)| places.len() > 1 && !is_known(name)).collect();
    assert!(twice.is_empty(), "{twice:#?}");
}

#[test]
fn comments_have_no_private_words() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (at, line) in text.lines().enumerate() {
            let Some(comment) = line.trim_start().strip_prefix("//") else { continue };
            let comment = comment.to_lowercase();
            for word in comment.split(|c: char| !c.is_alphanumeric() && c != '\'') {
                if WORDS.contains(&word) {
                    found.push(format!("{}:{}: {word}", path.display(), at + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{} words: {found:#?}", found.len());
}
