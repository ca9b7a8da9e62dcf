//! Fuzzes a look into the directory of a cache: arbitrary files in a directory that a cache wrote, opened for
//! reading. A look never changes it, and never leaves it.
#![no_main]

use std::path::{Component, Path};

use larder::Persistence;
use libfuzzer_sys::fuzz_target;

/// Files that a cache has.
const KNOWN: [&str; 10] = [
    "marks",
    "hot",
    "learned",
    "disk/marker",
    "disk/index",
    "disk/packs/00000000000000000001.pack",
    "files/index",
    "files/marker",
    "disk/journal/00000000000000000001.log",
    "disk/segments/00000000000000000001.seg",
];

fn is_below(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_))) && path.components().count() > 0
}

fn all(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(all(&path)),
            false => found.push((path.clone(), std::fs::read(path).unwrap_or_default())),
        }
    }
    found.sort();
    found
}

fuzz_target!(|input: (Vec<(u8, Vec<u8>)>, Vec<(String, Vec<u8>)>)| {
    let (known, others) = input;
    let base = tempfile::tempdir().expect("a temporary folder");
    let builder = || {
        let cache = larder::ucache::<u64, String>("fuzzed").dir(base.path()).disk_bytes(16 << 20);
        cache.persistence(Persistence::LongTerm)
    };
    let cache = builder().build().expect("an empty folder");
    cache.try_insert(1, "small".to_owned()).expect("it is stored");
    cache.close().expect("it is closed");
    let folder = base.path().join("fuzzed");
    let known = known.iter().map(|(at, bytes)| (KNOWN[usize::from(*at) % KNOWN.len()].to_owned(), bytes));
    let others = others.iter().map(|(path, bytes)| (path.clone(), bytes));
    for (path, bytes) in known.chain(others).filter(|(path, _)| is_below(Path::new(path))) {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            let _in_the_way = std::fs::create_dir_all(parent);
        }
        let _no_such_name = std::fs::write(path, bytes);
    }
    let before = all(base.path());
    if let Ok(look) = builder().open_read_only() {
        let value = look.get(&1);
        assert!(value.is_none_or(|value| value == "small"), "another value");
        assert_eq!(look.get(&2), None, "it was never stored");
        let _damaged = look.keys();
        let _damaged = look.explain(&1);
        let _damaged = look.close();
    }
    assert!(all(base.path()) == before, "a look changes nothing");
});
