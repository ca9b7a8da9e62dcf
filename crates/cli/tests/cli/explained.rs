//! `explain` and `tag`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use larder::EntryOptions;
use serde_json::json;

use crate::fixtures::{FILM, files_of, folder, larder};

#[test]
fn explain_says_which_tier_answers_and_until_when() {
    let dir = folder();
    larder(dir.path(), &["explain", "hourly"]).exits(0).says(&[
        "pages: a reader gets the entry of the disk tier",
        "fresh until",
        "(in 59 min",
        "text of 7 B",
        "version 0",
    ]);
    larder(dir.path(), &["explain", "tagged"])
        .exits(0)
        .says(&["fresh: it does not expire", "tags red, blue"]);
    larder(dir.path(), &["explain", "[\"large\", 2]"]).exits(0).says(&["numbers: a reader gets", "file"]);
    let document = larder(dir.path(), &["explain", "short", "--json"]).exits(0).json();
    assert_eq!((&document["schema"], &document["key"]), (&json!("larder.explain.v1"), &json!("short")));
    let cache = &document["caches"][0];
    assert_eq!((&cache["name"], &cache["answer"]), (&json!("films"), &json!("file")));
    assert_eq!(
        (&cache["tiers"][0]["tier"], &cache["tiers"][0]["is_damaged"]),
        (&json!("file"), &json!(false))
    );
    assert_eq!(cache["tiers"][0]["entry"]["value_bytes"], 8);
}

#[test]
fn explain_says_why_a_reader_gets_nothing() {
    let dir = folder();
    let nothing = "pages: a reader gets nothing, and loads the value";
    larder(dir.path(), &["explain", "brief"]).exits(0).says(&[
        nothing,
        "expired",
        "the next read removes it",
    ]);
    larder(dir.path(), &["explain", "withdrawn"])
        .exits(0)
        .says(&[nothing, "invalidated by `invalidate_tag`, with the tag old: its sequence number is 1"]);
    let document = larder(dir.path(), &["explain", "brief", "--json"]).exits(0).json();
    assert_eq!(document["caches"][0]["answer"], json!(null));
    assert_eq!(document["caches"][0]["tiers"][0]["entry"]["state"], "expired");
}

#[test]
fn explain_of_a_stale_entry_says_when_it_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let cache = larder::bcache::<String, String>("old").dir(dir.path()).build().unwrap();
    let brief = EntryOptions::new().ttl(Duration::from_millis(1)).stale(Duration::from_secs(3600));
    cache.try_insert_with("page".to_owned(), "text".to_owned(), brief).unwrap();
    cache.close().unwrap();
    larder(dir.path(), &["explain", "page"]).exits(0).says(&[
        "old: a reader gets the stale entry of the disk tier if its load fails",
        "may be served as stale until",
    ]);
}

#[test]
fn explain_names_a_clear_and_a_key_that_a_restart_reads() {
    let dir = tempfile::tempdir().unwrap();
    let build = || {
        let cache = larder::ucache::<String, String>("warm").dir(dir.path()).warm_restart(100);
        cache.persistence(larder::Persistence::LongTerm).build().unwrap()
    };
    let cache = build();
    cache.try_insert("page".to_owned(), "text".to_owned()).unwrap();
    assert!(cache.get("page").is_some());
    cache.close().unwrap();
    larder(dir.path(), &["explain", "page"]).exits(0).says(&["number 1 of the hottest keys"]);
}

#[test]
fn explain_of_an_absent_key_names_similar_ones() {
    let dir = folder();
    larder(dir.path(), &["explain", "7"])
        .exits(3)
        .complains(&["no cache has the key 7; similar keys: ", "\"7\""]);
    let ran = larder(dir.path(), &["explain", "no\u{1b}[2Jkey"]).exits(3);
    assert!(!ran.stderr.contains('\u{1b}'), "{:?}", ran.stderr);
    larder(dir.path(), &["explain", "page-01", "--cache", "films"]).exits(3);
}

/// The largest file below `dir`.
fn largest(dir: &Path) -> PathBuf {
    files_of(dir).into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().0
}

#[test]
fn explain_finds_damage_of_the_value() {
    let dir = folder();
    let path = largest(&dir.path().join("numbers"));
    let mut bytes = fs::read(&path).unwrap();
    assert!(bytes.len() > FILM / 2);
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    larder(dir.path(), &["explain", "[\"large\",2]"]).exits(0).says(&[
        "numbers: a reader gets nothing",
        "damaged",
        "check --fix",
    ]);
}

#[test]
fn tag_counts_the_entries_of_each_tag() {
    let dir = folder();
    larder(dir.path(), &["tag", "--cache", "pages"]).exits(0).says(&[
        "pages: 4 tags, 23 entries without a tag",
        "ENTRIES  FRESH",
        "red",
        "\\u{9b}tag",
    ]);
    let document = larder(dir.path(), &["tag", "--json", "--cache", "pages"]).exits(0).json();
    assert_eq!(document["schema"], "larder.tag.v1");
    let cache = &document["caches"][0];
    assert_eq!((&cache["matched"], &cache["untagged"], &cache["sealed"]), (&json!(4), &json!(23), &json!(0)));
    let tag = |at: usize| &cache["tags"][at];
    assert_eq!((&tag(0)["tag"], &tag(0)["entries"], &tag(0)["fresh"]), (&json!("red"), &json!(2), &json!(2)));
    let old = cache["tags"].as_array().unwrap().iter().find(|tag| tag["tag"] == "old").unwrap();
    assert_eq!((&old["entries"], &old["fresh"]), (&json!(1), &json!(0)));
    larder(dir.path(), &["tag", "--cache", "pages", "--limit", "1"]).exits(0).says(&["… and 3 more"]);
}

#[test]
fn tag_lists_the_keys_of_one_tag() {
    let dir = folder();
    larder(dir.path(), &["tag", "red", "--cache", "pages"]).exits(0).says(&[
        "pages: 2 keys",
        "large",
        "tagged",
    ]);
    let document = larder(dir.path(), &["tag", "red", "--json"]).exits(0).json();
    assert_eq!(document["schema"], "larder.keys.v1");
    larder(dir.path(), &["tag", "green"]).exits(3).complains(&["no entry has the tag green"]);
    let ran = larder(dir.path(), &["tag", "gr\u{1b}een"]).exits(3);
    assert!(!ran.stderr.contains('\u{1b}'), "{:?}", ran.stderr);
}
