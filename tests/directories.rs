//! Directories of earlier builds open, with the entries that they kept.
//!
//! Each `tests/golden/directory-*.frame` holds the files of one directory. A new layout gets a new
//! number: set [`PRESENT`] to it and run with `LARDER_WRITE_GOLDEN=1` to write the directory of
//! this build. Existing files are never overwritten.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use larder::{Bytes, Cache, Compress, EntryOptions};

use crate::golden;

/// Layout with files, databases of sled, segments and a journal.
const BEFORE_PACKS: &str = "directory-1";
/// The same layout with sorted runs.
const BEFORE_COMPACT_FRAMES: &str = "directory-2";
/// The same layout, with compact frames in rows.
const BEFORE_MEMTABLES: &str = "directory-3";
/// The same layout, with memtables in the journal in place of databases.
const PRESENT: &str = "directory-4";

/// Enough rows to freeze one memtable.
const ROWS: u64 = 1500;
const ROW_BYTES: usize = 800;
/// Keys whose values lie in segments.
const LARGE: std::ops::Range<u64> = 10_000..10_005;
const LARGE_BYTES: usize = 5000;
/// Keys whose entries were invalidated by their tag.
const TAGGED: std::ops::Range<u64> = 20_000..20_010;
const STREAM_BYTES: u64 = 5 << 20;

fn text(key: u64, number: u64, len: usize) -> String {
    format!("{key} {number} ").chars().cycle().take(len).collect()
}

fn rows(dir: &Path) -> Cache<u64, String> {
    larder::bcache("rows")
        .dir(dir)
        .disk_bytes(16 << 20)
        .memory_bytes(0)
        .compress(Compress::None)
        .build()
        .unwrap()
}

fn files(dir: &Path) -> Cache<String, Bytes> {
    larder::fcache("files").dir(dir).memory_bytes(0).build().unwrap()
}

fn was_overwritten(key: u64) -> bool {
    key.is_multiple_of(3)
}

fn was_removed(key: u64) -> bool {
    key.is_multiple_of(5)
}

fn fill(dir: &Path) {
    let cache = rows(dir);
    for key in 0..ROWS {
        cache.try_insert(key, text(key, 0, ROW_BYTES)).unwrap();
    }
    for key in (0..ROWS).filter(|key| was_overwritten(*key)) {
        cache.try_insert(key, text(key, 1, ROW_BYTES)).unwrap();
    }
    for key in (0..ROWS).filter(|key| was_removed(*key)) {
        assert!(cache.remove(&key));
    }
    for key in LARGE {
        cache.try_insert(key, text(key, 0, LARGE_BYTES)).unwrap();
    }
    for key in TAGGED {
        cache.try_insert_with(key, text(key, 0, 10), EntryOptions::new().tag("old")).unwrap();
    }
    cache.invalidate_tag("old").unwrap();
    cache.close().unwrap();
    let cache = files(dir);
    cache.try_insert("small".to_owned(), Bytes::from_static(b"a few bytes")).unwrap();
    let film = std::io::Read::take(std::io::repeat(7), STREAM_BYTES);
    cache.insert_from("film".to_owned(), film).unwrap();
    cache.close().unwrap();
}

fn check_rows(cache: &Cache<u64, String>) {
    for key in 0..ROWS {
        let expected = (!was_removed(key)).then(|| text(key, u64::from(was_overwritten(key)), ROW_BYTES));
        assert_eq!(cache.get(&key), expected, "{key}");
    }
    for key in LARGE {
        assert_eq!(cache.get(&key), Some(text(key, 0, LARGE_BYTES)));
    }
    for key in TAGGED {
        assert_eq!(cache.get(&key), None, "{key}");
    }
}

fn check(dir: &Path) {
    check_rows(&rows(dir));
    let cache = rows(dir);
    check_rows(&cache);
    // The directory stays usable.
    assert!(cache.remove(&1));
    cache.try_insert(2, "new".to_owned()).unwrap();
    cache.close().unwrap();
    let cache = rows(dir);
    assert_eq!((cache.get(&1), cache.get(&2)), (None, Some("new".to_owned())));
    cache.close().unwrap();
    let cache = files(dir);
    assert_eq!(cache.get("small"), Some(Bytes::from_static(b"a few bytes")));
    let film = cache.get("film").unwrap();
    assert_eq!(film.len() as u64, STREAM_BYTES);
    assert!(film.iter().all(|byte| *byte == 7));
    cache.close().unwrap();
}

/// The files below `dir`, by path.
fn files_of(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = walkdir::WalkDir::new(dir).into_iter().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().is_file());
    let name = |path: &Path| path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
    files.map(|entry| (name(entry.path()), fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn directories_of_earlier_builds_can_be_read() {
    for name in [BEFORE_PACKS, BEFORE_COMPACT_FRAMES, BEFORE_MEMTABLES, PRESENT] {
        let dir = tempfile::tempdir().unwrap();
        if name == PRESENT {
            golden::write_missing(name, || {
                let dir = tempfile::tempdir().unwrap();
                fill(dir.path());
                files_of(dir.path())
            });
        }
        for (path, bytes) in golden::read::<BTreeMap<String, Vec<u8>>>(name) {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        check(dir.path());
    }
}

#[test]
fn this_build_writes_the_present_layout() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let here = files_of(dir.path());
    let kinds = |files: &BTreeMap<String, Vec<u8>>| -> Vec<&str> {
        let ends = [".pack", ".seg", ".log"];
        ends.into_iter().filter(|end| files.keys().any(|name| name.ends_with(end))).collect()
    };
    assert_eq!(kinds(&here), kinds(&golden::read(PRESENT)));
    assert!(kinds(&here).contains(&".pack"));
    check(dir.path());
}
