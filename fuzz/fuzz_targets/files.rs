//! Fuzzes the folder of a file tier: arbitrary files in it, also under the names of entries.
#![no_main]

use std::path::{Component, Path};

use larder::Bytes;
use larder_core::key::{KeyCodec, NamedKeys};
use libfuzzer_sys::fuzz_target;

/// Returns whether a relative path stays below the folder.
fn is_below(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_))) && path.components().count() > 0
}

fn path_of(digest: u128) -> String {
    let hex = format!("{digest:032x}");
    format!("entries/{}/{}/{}", &hex[..2], &hex[2..4], &hex[4..])
}

type Files = Vec<(String, Vec<u8>)>;

fuzz_target!(|input: (Files, Vec<(u128, Vec<u8>)>, u64)| {
    let (files, entries, key) = input;
    let base = tempfile::tempdir().expect("a temporary folder");
    let folder = base.path().join("fuzzed/files");
    let ours = NamedKeys.encode(&key).expect("numbers can be encoded").digest();
    let named = entries.iter().map(|(digest, bytes)| (path_of(*digest), bytes));
    let ours = entries.first().map(|(_, bytes)| (path_of(ours), bytes));
    let files = files.iter().map(|(path, bytes)| (path.clone(), bytes));
    for (path, bytes) in files.chain(named).chain(ours).filter(|(path, _)| is_below(Path::new(path))) {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            let _in_the_way = std::fs::create_dir_all(parent);
        }
        let _no_such_name = std::fs::write(path, bytes);
    }
    let cache = larder::fcache::<u64, Bytes>("fuzzed").dir(base.path()).disk_bytes(16 << 20).build();
    let Ok(cache) = cache else { return };
    assert_eq!(cache.get(&key), None, "nobody stored it");
    let _refused = cache.keys();
    cache.remove(&key);
    assert_eq!(cache.get(&key), None);
    cache.clear().expect("it can be cleared");
    assert!(cache.is_empty());
    cache.close().expect("it can be closed");
});
