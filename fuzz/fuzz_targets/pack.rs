//! Fuzzes the directory of a disk tier with sorted runs: runs are changed, cut or deleted, and
//! foreign files lie beside them.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use larder::{Bytes, Cache, Compress};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

const KEYS: u32 = 4_000;
const ROUNDS: u8 = 4;

#[derive(Arbitrary, Debug)]
struct Input {
    /// The number of the run, the position, and the mask of each change.
    changes: Vec<(u8, u32, u8)>,
    cut: Option<(u8, u32)>,
    gone: Option<u8>,
    foreign: Vec<(u8, Vec<u8>)>,
}

fn open(base: &Path) -> Cache<u32, Bytes> {
    let cache = larder::bcache("fuzzed").dir(base).memory_bytes(0).disk_bytes(16 << 20);
    cache.compress(Compress::None).build().expect("it opens, whatever is there")
}

fn value(key: u32, round: u8) -> Bytes {
    Bytes::from(vec![key as u8 ^ round; 200 + key as usize % 600])
}

/// The directory is written once, and copied for each input.
fn written() -> &'static TempDir {
    static WRITTEN: OnceLock<TempDir> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let base = tempfile::tempdir().expect("a temporary folder");
        let cache = open(base.path());
        for round in 0..ROUNDS {
            (0..KEYS).for_each(|key| cache.insert(key, value(key, round)));
        }
        cache.close().expect("it closes");
        assert!(packs(base.path()).len() > 1, "there are packs");
        base
    })
}

fn packs(base: &Path) -> Vec<PathBuf> {
    let folder = fs::read_dir(base.join("fuzzed/disk/packs")).expect("it has packs");
    let mut packs: Vec<_> = folder.flatten().map(|entry| entry.path()).collect();
    packs.sort();
    packs
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("it can be made");
    for entry in fs::read_dir(from).expect("it can be read").flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match from.is_dir() {
            true => copy(&from, &to),
            false => drop(fs::copy(from, to).expect("it can be copied")),
        }
    }
}

fn change(pack: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(pack).unwrap_or_default();
    change(&mut bytes);
    fs::write(pack, bytes).expect("it can be written");
}

fuzz_target!(|input: Input| {
    let base = tempfile::tempdir().expect("a temporary folder");
    copy(written().path(), base.path());
    let packs = packs(base.path());
    let pack = |which: u8| &packs[usize::from(which) % packs.len()];
    for (which, at, mask) in input.changes {
        change(pack(which), |bytes| {
            let at = at as usize % bytes.len().max(1);
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= mask);
        });
    }
    if let Some((which, len)) = input.cut {
        change(pack(which), |bytes| bytes.truncate(len as usize % bytes.len().max(1)));
    }
    if let Some(which) = input.gone {
        fs::remove_file(pack(which)).expect("it can be removed");
    }
    for (number, bytes) in &input.foreign {
        let name = base.path().join(format!("fuzzed/disk/packs/{number:020}.pack"));
        if !name.exists() {
            fs::write(name, bytes).expect("it can be written");
        }
    }
    let cache = open(base.path());
    for key in 0..KEYS {
        if let Some(found) = cache.get(&key) {
            assert_eq!(found, value(key, ROUNDS - 1), "a wrong value of {key}");
        }
    }
    cache.insert(9, value(9, 9));
    assert_eq!(cache.get(&9), Some(value(9, 9)));
    cache.close().expect("it closes");
});
