//! A cache that another process has open. For the command, this process is another one.

use std::time::Duration;

use larder::Persistence;

use crate::fixtures::{keys, larder};

#[test]
fn disk_tier_in_use_is_left_alone_and_the_exit_code_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let open = || larder::bcache::<String, String>("pages").dir(dir.path()).memory_bytes(0).build().unwrap();
    let cache = open();
    cache.try_insert("a".to_owned(), "value".to_owned()).unwrap();
    let document = larder(dir.path(), &["ls", "--json"]).exits(0).json();
    assert_eq!(document["caches"][0]["in_use"], "yes");
    for arguments in [&["keys"][..], &["stats"], &["du"], &["check"], &["show", "a"]] {
        larder(dir.path(), arguments).exits(4).complains(&["another process has it open"]);
    }
    for arguments in [&["rm", "a"][..], &["clear"], &["gc"], &["check", "--fix"], &["rm", "a", "--dry-run"]] {
        larder(dir.path(), arguments).exits(4).complains(&["another process has the cache open"]);
    }
    larder(dir.path(), &["doctor"]).exits(0);
    assert_eq!(cache.get("a").as_deref(), Some("value"));
    cache.close().unwrap();
    assert_eq!(keys(dir.path(), "pages", &[]), ["a"]);
}

#[test]
fn files_of_a_cache_in_use_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let cache = larder::ucache::<String, larder::Bytes>("mixed")
        .dir(dir.path())
        .persistence(Persistence::LongTerm)
        .compress(larder::Compress::None)
        .build()
        .unwrap();
    cache.try_insert("small".to_owned(), vec![1; 100].into()).unwrap();
    cache.try_insert("large".to_owned(), vec![2; 2 << 20].into()).unwrap();
    let document = larder(dir.path(), &["keys", "--json"]).exits(4).json();
    let found = &document["caches"][0];
    assert_eq!((&found["matched"], &found["is_partial"]), (&1.into(), &true.into()));
    assert_eq!(found["entries"][0]["key"], "large");
    larder(dir.path(), &["show", "large"]).exits(4).says(&["tier      file"]);
    cache.close().unwrap();
    assert_eq!(keys(dir.path(), "mixed", &[]), ["large", "small"]);
}

#[test]
fn private_directory_of_a_second_cache_is_listed_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let held = larder_tiers::DirLock::take(&made(&dir.path().join("pages")), false).unwrap();
    let cache = larder::bcache::<String, String>("pages").dir(dir.path()).build().unwrap();
    cache.try_insert("a".to_owned(), "value".to_owned()).unwrap();
    let document = larder(dir.path(), &["ls", "--json"]).exits(0).json();
    assert_eq!(document["caches"][0]["is_private"], true);
    larder(dir.path(), &["gc"]).exits(0);
    larder(dir.path(), &["doctor"]).exits(0).says(&["a process found the directory of its cache taken"]);
    assert_eq!(cache.get_with("a".to_owned(), || "lost".to_owned()), "value");
    cache.close().unwrap();
    drop((cache, held));
}

fn made(dir: &std::path::Path) -> std::path::PathBuf {
    std::fs::create_dir(dir).unwrap();
    dir.to_owned()
}

/// A cache that was dropped without `close`, as a killed process leaves it.
#[test]
fn directory_that_was_not_closed_is_read_as_the_next_cache_would_recover_it() {
    let dir = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let cache = larder::bcache::<String, String>("pages")
        .dir(dir.path())
        .durability(larder::Durability::Flushed)
        .ttl(Duration::from_secs(3600))
        .build()
        .unwrap();
    for number in 0..50 {
        cache.try_insert(format!("key-{number}"), "value".to_owned()).unwrap();
    }
    for (path, bytes) in crate::fixtures::files_of(dir.path()) {
        let target = copy.path().join(path.strip_prefix(dir.path()).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::write(target, bytes).unwrap();
    }
    let before = crate::fixtures::files_of(copy.path());
    assert_eq!(keys(copy.path(), "pages", &[]).len(), 50);
    larder(copy.path(), &["doctor"]).exits(0).says(&["did not close the disk tier", "call `close()`"]);
    assert_eq!(crate::fixtures::files_of(copy.path()), before);
    cache.close().unwrap();
}
