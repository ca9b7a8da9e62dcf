//! Fuzzes the directory of a disk tier: arbitrary segments lie beside its database, or its own
//! segments are changed.
#![no_main]

use arbitrary::Arbitrary;
use larder::{Bytes, Compress};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    foreign: Vec<(u8, Vec<u8>)>,
    changes: Vec<(u32, u8)>,
    cut: Option<u16>,
}

fuzz_target!(|input: Input| {
    let base = tempfile::tempdir().expect("a temporary folder");
    let open = || {
        let cache = larder::bcache::<u8, Bytes>("fuzzed").dir(base.path()).memory_bytes(0);
        cache.disk_bytes(16 << 20).compress(Compress::None).build().expect("it opens, whatever is there")
    };
    let value = |key: u8| Bytes::from(vec![key; 5_000 + usize::from(key)]);
    let cache = open();
    (0..4).for_each(|key| cache.insert(key, value(key)));
    cache.close().expect("it closes");
    let segments = base.path().join("fuzzed/disk/segments");
    for entry in std::fs::read_dir(&segments).expect("it has segments").flatten() {
        let mut bytes = std::fs::read(entry.path()).expect("it can be read");
        for (at, mask) in input.changes.iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
            let at = *at as usize % bytes.len();
            bytes[at] ^= mask;
        }
        bytes.truncate(input.cut.map_or(bytes.len(), usize::from));
        std::fs::write(entry.path(), bytes).expect("it can be written");
    }
    for (number, bytes) in &input.foreign {
        let name = segments.join(format!("{number:020}.seg"));
        if !name.exists() {
            std::fs::write(name, bytes).expect("it can be written");
        }
    }
    let cache = open();
    for key in 0..4 {
        if let Some(found) = cache.get(&key) {
            assert_eq!(found, value(key), "a wrong value");
        }
    }
    cache.insert(9, value(9));
    assert_eq!(cache.get(&9), Some(value(9)));
    cache.close().expect("it closes");
});
