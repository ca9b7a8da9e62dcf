//! Commands that change a cache: what they remove, what they say, and what a cache finds afterwards.

use std::fs;
use std::path::Path;

use larder::Cache;

use crate::fixtures::{SMALL, folder, keys, larder};

fn pages(dir: &Path) -> Cache<String, String> {
    larder::bcache("pages").dir(dir).memory_bytes(0).build().unwrap()
}

#[test]
fn rm_removes_keys_and_says_which_are_absent() {
    let dir = folder();
    larder(dir.path(), &["rm", "page-03", "\"7\"", "--cache", "pages"]).exits(0).says(&[
        "removed page-03 (disk tier",
        "removed \"7\"",
        "pages: removed 2 entries",
    ]);
    larder(dir.path(), &["rm", "page-03", "page-04", "--cache", "pages"])
        .exits(3)
        .says(&["removed 1 entry"])
        .complains(&["no such key: page-03"]);
    let pages = pages(dir.path());
    for (key, is_there) in [("page-03", false), ("7", false), ("page-04", false), ("page-05", true)] {
        assert_eq!(pages.get(key).is_some(), is_there, "{key}");
    }
}

#[test]
fn rm_by_filter_removes_what_the_filter_accepts() {
    let dir = folder();
    larder(dir.path(), &["rm", "--tag", "red", "--cache", "pages", "--dry-run"]).exits(0).says(&[
        "would remove large",
        "would remove tagged",
        "would remove 2 entries",
    ]);
    assert_eq!(keys(dir.path(), "pages", &["--tag", "red"]).len(), 2);
    let document = larder(dir.path(), &["rm", "--tag", "red", "--cache", "pages", "--json"]).exits(0).json();
    assert_eq!((&document["count"], &document["is_dry_run"]), (&2.into(), &false.into()));
    assert_eq!(keys(dir.path(), "pages", &["--tag", "red"]).len(), 0);
}

#[test]
fn rm_without_keys_and_filter_is_refused() {
    let dir = folder();
    larder(dir.path(), &["rm", "--cache", "pages"]).exits(2).complains(&[
        "KEY",
        "nothing",
        "--tag",
        "larder clear",
    ]);
    larder(dir.path(), &["rm", "page-01"])
        .exits(2)
        .complains(&["--cache", "allowed one of films, numbers, pages"]);
    assert_eq!(keys(dir.path(), "pages", &[]).len() as u64, SMALL + 7);
}

#[test]
fn file_of_a_removed_key_is_deleted() {
    let dir = folder();
    larder(dir.path(), &["rm", "short", "--cache", "films"]).exits(0);
    assert_eq!(keys(dir.path(), "films", &[]), ["note"]);
    let films = larder::fcache::<String, larder::Bytes>("films").dir(dir.path()).build().unwrap();
    assert_eq!((films.get("short"), films.get("note").map(|note| note.len())), (None, Some(15)));
}

#[test]
fn clear_removes_all_entries_of_one_cache() {
    let dir = folder();
    larder(dir.path(), &["clear", "--cache", "numbers", "--dry-run"])
        .exits(0)
        .says(&["would remove 2 entries"]);
    assert_eq!(keys(dir.path(), "numbers", &[]).len(), 2);
    larder(dir.path(), &["clear", "--cache", "numbers"]).exits(0).says(&["numbers: removed 2 entries"]);
    assert_eq!(keys(dir.path(), "numbers", &[]).len(), 0);
    assert_eq!(keys(dir.path(), "pages", &[]).len() as u64, SMALL + 7, "the others stay");
    larder(dir.path(), &["clear"]).exits(2);
}

#[test]
fn gc_removes_expired_and_invalidated_entries_and_orphaned_directories() {
    let dir = folder();
    let orphan = dir.path().join("~1-abcdef");
    fs::create_dir_all(orphan.join("disk/db")).unwrap();
    larder(dir.path(), &["gc", "--dry-run"]).exits(0).says(&["pages: would remove 2 entries", "~1-abcdef"]);
    assert!(orphan.exists());
    larder(dir.path(), &["gc"]).exits(0).says(&["pages: removed 2 entries", "removed the directory"]);
    assert!(!orphan.exists());
    assert_eq!(keys(dir.path(), "pages", &[]).len() as u64, SMALL + 5);
    assert_eq!(pages(dir.path()).get("hourly").as_deref(), Some("an hour"));
}

#[test]
fn directory_of_processes_is_changed_while_they_have_it() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let builder = larder::fcache::<String, String>("shared").dir(dir.path());
        builder.sharing(larder::Sharing::Processes).build().unwrap()
    };
    let cache = open();
    for key in ["a", "b"] {
        cache.try_insert(key.to_owned(), "value".repeat(100)).unwrap();
    }
    assert_eq!(keys(dir.path(), "shared", &[]), ["a", "b"]);
    larder(dir.path(), &["ls"]).exits(0).says(&["shared  file"]);
    larder(dir.path(), &["rm", "a"]).exits(0).says(&["removed 1 entry"]);
    assert_eq!((cache.get("a"), cache.get("b").map(|value| value.len())), (None, Some(500)));
}
