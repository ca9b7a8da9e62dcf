//! Fuzzes the journal of a disk tier after the end of its process: it is changed or replaced. A
//! read returns a value of its key or misses, and never panics.
#![no_main]

use std::fs;
use std::path::Path;

use arbitrary::Arbitrary;
use larder::{Bytes, Cache, Compress, Durability};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    flushed: bool,
    steps: Vec<(bool, u8, u8)>,
    changes: Vec<(u16, u8)>,
    cut: Option<u16>,
    more: Vec<u8>,
    foreign: Option<(u8, Vec<u8>)>,
}

fn open(dir: &Path, flushed: bool) -> Cache<u8, Bytes> {
    let durability = if flushed { Durability::Flushed } else { Durability::Buffered };
    let cache = larder::bcache("fuzzed").dir(dir).memory_bytes(0).disk_bytes(16 << 20);
    cache.durability(durability).compress(Compress::None).build().expect("it opens, whatever is there")
}

/// A value of a key: all of its bytes are the key.
fn value(key: u8, size: u8) -> Bytes {
    Bytes::from(vec![key; usize::from(size) * 20])
}

/// Copies the directory, as a killed process would leave it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("it can be read").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("it can be copied");
        }
    }
}

fn change(path: &Path, input: &Input) {
    let mut bytes = fs::read(path).expect("it can be read");
    for (at, mask) in &input.changes {
        let len = bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(usize::from(*at) % len) {
            *byte ^= mask;
        }
    }
    bytes.truncate(input.cut.map_or(bytes.len(), usize::from));
    bytes.extend_from_slice(&input.more);
    fs::write(path, bytes).expect("it can be written");
}

fuzz_target!(|input: Input| {
    let (alive, left) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let cache = open(alive.path(), input.flushed);
    for (inserts, key, size) in input.steps.iter().take(40) {
        match inserts {
            true => cache.insert(*key, value(*key, *size)),
            false => drop(cache.remove(key)),
        }
    }
    copy(alive.path(), left.path());
    drop(cache);
    let journal = left.path().join("fuzzed/disk/journal");
    if let Ok(entries) = fs::read_dir(&journal) {
        entries.flatten().for_each(|entry| change(&entry.path(), &input));
    }
    if let Some((number, bytes)) = &input.foreign {
        fs::create_dir_all(&journal).expect("a folder can be made");
        fs::write(journal.join(format!("{number:020}.log")), bytes).expect("it can be written");
    }
    let cache = open(left.path(), input.flushed);
    for key in 0..=255 {
        if let Some(found) = cache.get(&key) {
            assert!(found.iter().all(|byte| *byte == key), "a value of another key");
            assert_eq!(found.len() % 20, 0, "a torn value");
        }
    }
    cache.insert(9, value(9, 9));
    assert_eq!(cache.get(&9), Some(value(9, 9)));
    cache.close().expect("it closes");
});
