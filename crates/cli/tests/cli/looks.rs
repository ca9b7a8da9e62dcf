//! Commands that look: what they print, and that they change nothing.

use std::fs;
use std::sync::Arc;

use serde_json::json;

use crate::fixtures::{FILM, SMALL, files_of, folder, keys, larder};

/// Whether any character moves the cursor, or hides or reorders text.
fn has_control_code(text: &str) -> bool {
    text.chars().any(|c| (c.is_control() && c != '\n' && c != '\t') || ('\u{202a}'..='\u{202e}').contains(&c))
}

#[test]
fn no_look_changes_a_directory() {
    let dir = folder();
    let before = files_of(dir.path());
    for arguments in [
        &["ls"][..],
        &["stats"],
        &["keys"],
        &["show", "tagged"],
        &["explain", "tagged"],
        &["tag"],
        &["tag", "red"],
        &["du", "--by", "tag"],
        &["check"],
        &["config"],
        &["doctor"],
        &["rm", "page-01", "--cache", "pages", "--dry-run"],
        &["clear", "--cache", "pages", "--dry-run"],
        &["gc", "--dry-run"],
    ] {
        larder(dir.path(), arguments).exits(0);
        assert_eq!(files_of(dir.path()), before, "{arguments:?}");
    }
}

#[test]
fn no_command_prints_control_codes_of_keys_values_and_tags() {
    let dir = folder();
    for arguments in [
        &["keys", "--cache", "pages"][..],
        &["keys", "--cache", "pages", "--json"],
        &["show", "\"evil\\u001b[2J\\u202e\""],
        &["show", "\"evil\\u001b[2J\\u202e\"", "--json"],
        &["explain", "\"evil\\u001b[2J\\u202e\""],
        &["explain", "\"evil\\u001b[2J\\u202e\"", "--json"],
        &["tag"],
        &["tag", "--json"],
        &["tag", "\u{9b}tag"],
        &["du", "--by", "tag"],
        &["du", "--by", "tag", "--json"],
        &["stats"],
        &["rm", "--tag", "\u{9b}tag", "--cache", "pages", "--dry-run"],
    ] {
        let ran = larder(dir.path(), arguments).exits(0);
        assert!(!has_control_code(&ran.stdout), "{arguments:?}: {:?}", ran.stdout);
        assert!(ran.stdout.len() > 20, "{arguments:?}: {}", ran.stdout);
    }
    let ran = larder(dir.path(), &["show", "no\u{1b}[2Jkey"]).exits(3);
    assert!(!has_control_code(&ran.stderr), "{:?}", ran.stderr);
}

#[test]
fn ls_lists_each_cache_with_tiers_and_size() {
    let dir = folder();
    larder(dir.path(), &["ls"]).exits(0).says(&["pages", "films", "numbers", "disk, file", "ago"]);
    let document = larder(dir.path(), &["ls", "--json"]).exits(0).json();
    assert_eq!(document["schema"], "larder.ls.v1");
    let caches = document["caches"].as_array().unwrap();
    let names: Vec<_> = caches.iter().map(|cache| cache["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["films", "numbers", "pages"]);
    assert_eq!(caches[0]["tiers"], json!(["file"]));
    assert!(caches[1]["bytes"].as_u64().unwrap() as usize > FILM);
    assert!(caches.iter().all(|cache| cache["in_use"] == "no"));
}

#[test]
fn ls_finds_caches_below_the_folders_of_programs() {
    let dir = folder();
    let program = dir.path().join("shop%20front");
    fs::create_dir(&program).unwrap();
    fs::rename(dir.path().join("pages"), program.join("pages")).unwrap();
    larder(dir.path(), &["ls", "--cache", "shop front/pages"]).exits(0).says(&["shop front/pages"]);
    larder(dir.path(), &["ls", "--cache", "shop/pages"])
        .exits(3)
        .complains(&["no cache named", "shop/pages"]);
    let ran = larder(&dir.path().join("films"), &["ls", "--json"]).exits(0);
    assert_eq!(ran.json()["caches"].as_array().unwrap().len(), 1, "the directory of one cache");
}

#[test]
fn ls_of_an_empty_folder_says_so() {
    let dir = tempfile::tempdir().unwrap();
    larder(dir.path(), &["ls"]).exits(0).says(&["No cache in"]);
    larder(dir.path(), &["stats"]).exits(3).complains(&["there is no cache"]);
    larder(&dir.path().join("absent"), &["ls"]).exits(2).complains(&[
        "--dir",
        "absent",
        "allowed a directory",
    ]);
}

#[cfg(unix)]
#[test]
fn links_below_the_folder_are_not_followed() {
    let (outside, dir) = (folder(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(outside.path().join("pages"), dir.path().join("pages")).unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.path().join("program")).unwrap();
    larder(dir.path(), &["ls"]).exits(0).says(&["No cache in"]);
}

#[test]
fn keys_are_chosen_by_each_filter() {
    let dir = folder();
    let all = keys(dir.path(), "pages", &[]);
    assert_eq!(all.len() as u64, SMALL + 7);
    let chosen = |filter: &[&str]| keys(dir.path(), "pages", filter);
    assert_eq!(chosen(&["--tag", "red"]), ["large", "tagged"]);
    assert_eq!(chosen(&["--tag", "blue", "--tag", "old"]), ["tagged", "withdrawn"]);
    assert_eq!(chosen(&["--min-size", "2 KiB"]), Vec::<String>::new(), "it is compressed");
    assert_eq!(chosen(&["--text", "page-1"]).len(), 10);
    assert_eq!(chosen(&["--state", "expired"]), ["brief"]);
    assert_eq!(chosen(&["--state", "invalidated"]), ["withdrawn"]);
    assert_eq!(chosen(&["--expires-within", "2h"]), ["brief", "hourly"]);
    assert_eq!(chosen(&["--expires-within", "1min", "--state", "fresh"]), Vec::<String>::new());
    assert_eq!(chosen(&["--older", "1h"]), Vec::<String>::new());
    assert_eq!(chosen(&["--newer", "1h"]).len(), all.len());
    assert_eq!(chosen(&["--kind", "text"]).len(), all.len());
    assert_eq!(chosen(&["--tier", "file"]), Vec::<String>::new());
    assert_eq!(keys(dir.path(), "numbers", &["--tier", "file"]), ["[\"large\",2]"]);
    assert_eq!(keys(dir.path(), "numbers", &["--min-size", "1 MiB"]), ["[\"large\",2]"]);
    assert_eq!(keys(dir.path(), "numbers", &["--max-size", "1 MiB"]), ["[\"small\",1]"]);
}

#[test]
fn keys_are_sorted_and_limited() {
    let dir = folder();
    assert_eq!(keys(dir.path(), "numbers", &["--sort", "size"]), ["[\"large\",2]", "[\"small\",1]"]);
    assert_eq!(keys(dir.path(), "pages", &["--sort", "expiry", "--limit", "2"]), ["brief", "hourly"]);
    assert_eq!(keys(dir.path(), "pages", &["--sort", "age", "--limit", "1"]).len(), 1);
    larder(dir.path(), &["keys", "--cache", "pages", "--limit", "5"])
        .exits(0)
        .says(&["27 keys", "… and 22 more"]);
    let document =
        larder(dir.path(), &["keys", "--json", "--limit", "0", "--cache", "pages"]).exits(0).json();
    assert_eq!(document["caches"][0]["matched"], 27);
}

#[test]
fn keys_that_look_alike_are_printed_apart() {
    let dir = folder();
    let all = keys(dir.path(), "pages", &["--text", "7"]);
    assert!(all.contains(&"\"7\"".to_owned()), "{all:?}");
    larder(dir.path(), &["show", "\"7\""]).exits(0).says(&["a key that looks like a number"]);
    larder(dir.path(), &["show", "7"]).exits(3).complains(&["no cache has the key 7"]);
}

#[test]
fn show_prints_head_and_value_by_codec() {
    let dir = folder();
    larder(dir.path(), &["show", "tagged"]).exits(0).says(&[
        "tier      disk",
        "state     fresh",
        "codec     text",
        "tags      red, blue",
        "by a tag",
    ]);
    larder(dir.path(), &["show", "note"]).exits(0).says(&[
        "codec     raw",
        "a readable note",
        "tier      file",
    ]);
    larder(dir.path(), &["show", "short"]).exits(0).says(&["00000000  00 01 02 20"]);
    larder(dir.path(), &["show", "[ \"small\", 1 ]"]).exits(0).says(&["codec     numbers", "f32: [1, -2.5]"]);
    larder(dir.path(), &["show", "hourly"]).exits(0).says(&["expires   20", "min"]);
    larder(dir.path(), &["show", "large", "--limit", "10"])
        .exits(0)
        .says(&["xxxxxxxxxx\n… the first 10 of 9000"]);
    let shown = larder(dir.path(), &["show", "[\"small\",1]", "--json"]).exits(0).json();
    assert_eq!(shown["entries"][0]["value"]["decoded"], json!([1, -2.5]));
    assert_eq!(shown["entries"][0]["entry"]["key_value"], json!(["small", 1]));
}

#[test]
fn show_prints_a_record_batch_as_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let days = Arc::new(arrow_array::Int64Array::from(vec![1, 2])) as arrow_array::ArrayRef;
    let batch = arrow_array::RecordBatch::try_from_iter([("day", days)]).unwrap();
    let frames = larder::bcache::<String, larder::natural::Frame>("frames").dir(dir.path()).build().unwrap();
    frames.try_insert("may".to_owned(), batch.into()).unwrap();
    frames.close().unwrap();
    let shown = larder(dir.path(), &["show", "may"]).exits(0);
    shown.says(&["codec     arrow", "2 rows, 1 column\nday (Int64)\n1\n2\n"]);
    let shown = larder(dir.path(), &["show", "may", "--json"]).exits(0).json();
    assert_eq!(shown["entries"][0]["value"]["decoded"], json!([{ "day": 1 }, { "day": 2 }]));
}

#[test]
fn raw_value_is_printed_byte_for_byte() {
    let dir = folder();
    assert_eq!(larder(dir.path(), &["show", "large", "--raw"]).exits(0).stdout, "x".repeat(9000));
    assert_eq!(larder(dir.path(), &["show", "short", "--raw"]).exits(0).stdout, "\0\u{1}\u{2} film");
}

#[test]
fn stats_and_du_sum_up_the_entries() {
    let dir = folder();
    larder(dir.path(), &["stats"]).exits(0).says(&[
        "tier disk",
        "codec text",
        "4 tags",
        "`larder gc` would remove",
    ]);
    let document = larder(dir.path(), &["stats", "--json", "--cache", "pages"]).exits(0).json();
    let cache = &document["caches"][0];
    assert_eq!(cache["total"]["entries"], SMALL + 7);
    assert_eq!(cache["states"]["expired"]["entries"], 1);
    assert_eq!(cache["tiers"]["disk"]["entries"], SMALL + 7);
    for (by, groups) in [
        ("tier", json!(["disk", "file"])),
        ("kind", json!(["array"])),
        ("state", json!(["fresh"])),
        ("tag", json!(["(no tag)"])),
        ("age", json!(["below 1 min"])),
    ] {
        let document =
            larder(dir.path(), &["du", "--by", by, "--json", "--cache", "numbers"]).exits(0).json();
        let cache = &document["caches"][0];
        let names: Vec<_> =
            cache["groups"].as_array().unwrap().iter().map(|share| share["group"].clone()).collect();
        assert_eq!(json!(names), groups, "{by}");
        assert_eq!(cache["entries"], 2);
    }
    larder(dir.path(), &["du", "--by", "tag", "--cache", "pages"])
        .exits(0)
        .says(&["red", "blue", "(no tag)", "%"]);
}

#[test]
fn a_closed_pipe_ends_the_command_without_an_error() {
    use std::process::Stdio;
    let dir = folder();
    let place = dir.path().to_str().unwrap();
    let mut child = crate::fixtures::command(&["--dir", place, "keys", "--limit", "0", "--json"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
