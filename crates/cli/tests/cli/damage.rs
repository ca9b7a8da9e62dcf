//! Damaged directories: what is reported, what `check --fix` removes, and what stays.

use std::fs;
use std::path::{Path, PathBuf};

use crate::fixtures::{SMALL, files_of, folder, keys, larder};

fn files_ending(dir: &Path, end: &str) -> Vec<PathBuf> {
    let all = files_of(dir).into_iter().map(|(path, _)| path);
    all.filter(|path| path.to_str().unwrap().ends_with(end)).collect()
}

fn flip(path: &Path, at: impl Fn(usize) -> usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn entry_files(dir: &Path) -> Vec<PathBuf> {
    files_of(&dir.join("files/entries")).into_iter().map(|(path, _)| path).collect()
}

#[test]
fn whole_caches_pass() {
    let dir = folder();
    let document = larder(dir.path(), &["check", "--json"]).exits(0).json();
    let pages = &document["caches"][2];
    assert_eq!(pages["tiers"][0]["whole"], SMALL + 7);
    assert_eq!(pages["problems"].as_array().unwrap().len(), 0);
}

#[test]
fn damaged_file_is_found_and_removed() {
    let dir = folder();
    let films = dir.path().join("films");
    flip(&entry_files(&films)[0], |len| len - 1);
    larder(&films, &["check"])
        .exits(5)
        .says(&["1 whole entry, 1 damaged", "1 entry is damaged in the file tier"]);
    larder(&films, &["check"]).exits(5);
    larder(&films, &["check", "--fix"]).exits(0).says(&["removed 1 damaged entry"]);
    larder(&films, &["check"]).exits(0).says(&["1 whole entry, 0 damaged"]);
    assert_eq!(entry_files(&films).len(), 1);
}

#[test]
fn show_of_a_damaged_entry_says_so() {
    let dir = folder();
    let films = dir.path().join("films");
    for path in entry_files(&films) {
        flip(&path, |len| len - 1);
    }
    larder(&films, &["show", "note"]).exits(5).complains(&["the entry is damaged", "larder check --fix"]);
    larder(&films, &["keys"]).exits(0).says(&["2 keys"]);
}

#[test]
fn damaged_frame_in_a_segment_is_found_and_removed() {
    let dir = folder();
    let cache = larder::bcache::<String, larder::Bytes>("blobs").dir(dir.path()).memory_bytes(0);
    let cache = cache.compress(larder::Compress::None).build().unwrap();
    for key in ["a", "b", "c"] {
        cache.try_insert(key.to_owned(), vec![7; 5000].into()).unwrap();
    }
    cache.close().unwrap();
    let blobs = dir.path().join("blobs");
    flip(&files_ending(&blobs, ".seg")[0], |len| len / 2);
    larder(&blobs, &["check"]).exits(5).says(&["disk tier: 2 whole entries, 1 damaged"]);
    larder(&blobs, &["check", "--fix"]).exits(0).says(&["removed 1 damaged entry"]);
    larder(&blobs, &["check"]).exits(0).says(&["disk tier: 2 whole entries, 0 damaged"]);
    let cache = larder::bcache::<String, larder::Bytes>("blobs").dir(dir.path()).build().unwrap();
    assert_eq!(["a", "b", "c"].iter().filter(|key| cache.get(**key).is_some()).count(), 2);
}

#[test]
fn damaged_journal_is_reported_and_the_original_stays_for_inspection() {
    let dir = folder();
    let pages = dir.path().join("pages");
    let journal = files_ending(&pages, ".log").remove(0);
    let len = fs::metadata(&journal).unwrap().len() as usize;
    fs::write(&journal, vec![0xa5; len]).unwrap();
    let before = files_of(&pages);
    let ran = larder(&pages, &["check"]).exits(5);
    assert!(ran.stdout.contains("damaged"), "{}", ran.stdout);
    assert_eq!(files_of(&pages), before);
}

#[test]
fn tier_that_the_next_cache_empties_is_not_changed_by_rm() {
    for (name, content) in
        [("pages/disk/marker", &b"LRDM"[..]), ("pages/outdated-disk", b"1"), ("pages/marks", b"x")]
    {
        let dir = folder();
        fs::write(dir.path().join(name), content).unwrap();
        let before = files_of(dir.path());
        larder(dir.path(), &["rm", "page-01", "--cache", "pages"])
            .exits(5)
            .complains(&["the next cache that opens it"]);
        assert_eq!(files_of(dir.path()), before, "{name}");
        larder(dir.path(), &["doctor", "--cache", "pages"])
            .exits(5)
            .says(&["problem", "the next cache that opens it"]);
        larder(dir.path(), &["check", "--cache", "pages"]).exits(5).says(&["the next cache that opens it"]);
        larder(dir.path(), &["clear", "--cache", "pages"]).exits(0);
        assert_eq!(keys(dir.path(), "pages", &[]), Vec::<String>::new());
    }
}

/// Each byte of the small files is flipped, and each file is cut: no look panics or hangs.
#[test]
fn no_damage_makes_a_look_panic() {
    let dir = folder();
    let original = files_of(dir.path());
    let mut random = 7_u64;
    let mut next = |bound: usize| {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (random >> 33) as usize % bound.max(1)
    };
    for _ in 0..6 {
        for (path, bytes) in &original {
            let mut bytes = bytes.clone();
            match (bytes.is_empty(), next(3)) {
                (true, _) | (_, 0) => {}
                (_, 1) => {
                    let at = next(bytes.len());
                    bytes[at] ^= 1 << next(8);
                }
                _ => bytes.truncate(next(bytes.len())),
            }
            fs::write(path, bytes).unwrap();
        }
        for arguments in [&["stats"][..], &["check"], &["keys", "--json"], &["show", "note"], &["doctor"]] {
            let ran = larder(dir.path(), arguments);
            assert!([0, 1, 3, 5].contains(&ran.code), "{arguments:?}: {} {}", ran.code, ran.stderr);
            assert!(!ran.stderr.contains("panicked at crates"), "{arguments:?}: {}", ran.stderr);
        }
    }
}
