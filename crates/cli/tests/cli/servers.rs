//! Caches on a Redis server.

use larder::{Cache, EntryOptions};
use larder_testkit::RedisServer;

use crate::fixtures::{Ran, plain};

fn open(server: &RedisServer, namespace: &str, name: &str) -> Cache<String, String> {
    versioned(server, namespace, name, 0)
}

/// A cache whose entries are on the server. Its own directory is deleted while it runs: it holds nothing.
fn versioned(server: &RedisServer, namespace: &str, name: &str, version: u32) -> Cache<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let builder = larder::ucache(name).dir(dir.path()).redis(server.url()).namespace(namespace);
    builder.memory_bytes(0).version(version).sharing(larder::Sharing::Distributed).build().unwrap()
}

fn larder(server: &RedisServer, arguments: &[&str]) -> Ran {
    plain(&[&["--redis", &server.url()], arguments].concat())
}

/// Every key of the server with its value, as `DEBUG`-free commands show them.
fn content(server: &RedisServer) -> String {
    let mut names: Vec<String> = server.cli(&["--raw", "KEYS", "*"]).lines().map(str::to_owned).collect();
    names.sort();
    let dump = |name: &String| format!("{name} {}\n", server.cli(&["--no-raw", "DUMP", name]));
    names.iter().map(dump).collect()
}

fn filled(server: &RedisServer) -> Cache<String, String> {
    let cache = open(server, "shop", "carts");
    for number in 0..5 {
        cache.try_insert(format!("cart-{number}"), "value".to_owned()).unwrap();
    }
    let tagged = EntryOptions::new().tag("red");
    cache.try_insert_with("tagged".to_owned(), "by a tag".to_owned(), tagged).unwrap();
    cache.try_insert_with("old".to_owned(), "over".to_owned(), EntryOptions::new().tag("gone")).unwrap();
    cache.invalidate_tag("gone").unwrap();
    cache
}

#[test]
fn caches_and_entries_of_a_server_are_shown_without_a_change() {
    let Some(server) = RedisServer::start() else { return };
    let cache = filled(&server);
    drop(cache);
    drop(open(&server, "shop", "with:colon"));
    let before = content(&server);
    larder(&server, &["ls"]).exits(0).says(&["shop/carts", "shop/with:colon", "redis"]);
    larder(&server, &["ls", "--namespace", "other"]).exits(0).says(&["No cache in the namespace other"]);
    let carts = ["--namespace", "shop", "--cache", "carts"];
    let run = |arguments: &[&str]| larder(&server, &[arguments, &carts[..]].concat());
    let document = run(&["keys", "--json"]).exits(0).json();
    assert_eq!(document["caches"][0]["matched"], 7);
    run(&["keys", "--state", "invalidated"]).exits(0).says(&["1 key", "old"]);
    run(&["keys", "--tag", "red", "--tier", "redis"]).exits(0).says(&["1 key", "tagged"]);
    run(&["show", "tagged"]).exits(0).says(&["tier      redis", "by a tag"]);
    run(&["show", "absent"]).exits(3);
    run(&["explain", "old"]).exits(0).says(&["a reader gets nothing", "with the tag gone"]);
    run(&["explain", "tagged"]).exits(0).says(&["a reader gets the entry of the redis tier"]);
    run(&["tag"]).exits(0).says(&["shop/carts: 2 tags, 5 entries without a tag"]);
    run(&["stats"]).exits(0).says(&["tier redis", "2 tags"]);
    run(&["du", "--by", "state"]).exits(0).says(&["fresh", "invalidated"]);
    run(&["rm", "cart-1", "--dry-run"]).exits(0).says(&["would remove cart-1"]);
    assert_eq!(content(&server), before);
}

#[test]
fn removed_entry_is_gone_for_a_node_that_runs() {
    let Some(server) = RedisServer::start() else { return };
    let cache = filled(&server);
    let carts = ["--namespace", "shop", "--cache", "carts"];
    larder(&server, &[&["rm", "cart-1", "cart-9"], &carts[..]].concat())
        .exits(3)
        .says(&["removed cart-1 (redis tier", "removed 1 entry"])
        .complains(&["no such key: cart-9"]);
    assert_eq!((cache.get("cart-1"), cache.get("cart-2").as_deref()), (None, Some("value")));
    larder(&server, &[&["rm", "--tag", "red"], &carts[..]].concat()).exits(0).says(&["removed tagged"]);
    assert_eq!(cache.get("tagged"), None);
}

#[test]
fn cleared_cache_is_empty_for_nodes_that_run_whatever_their_version() {
    let Some(server) = RedisServer::start() else { return };
    let (cache, other) = (filled(&server), versioned(&server, "shop", "carts", 2));
    other.try_insert("later".to_owned(), "of another version".to_owned()).unwrap();
    let bystander = open(&server, "shop", "bystander");
    bystander.try_insert("a".to_owned(), "value".to_owned()).unwrap();
    let run = |arguments: &[&str]| {
        larder(&server, &[arguments, &["--namespace", "shop", "--cache", "carts"]].concat())
    };
    run(&["clear", "--dry-run"]).exits(0).says(&["would remove 8 entries"]);
    assert_eq!(cache.get("cart-2").as_deref(), Some("value"));
    run(&["clear"]).exits(0).says(&["removed 8 entries"]);
    assert_eq!((cache.get("cart-2"), other.get("later")), (None, None));
    assert_eq!(bystander.get("a").as_deref(), Some("value"));
    cache.try_insert("new".to_owned(), "value".to_owned()).unwrap();
    assert_eq!(cache.get("new").as_deref(), Some("value"));
    run(&["clear"]).exits(0).says(&["removed 1 entry"]);
}

#[test]
fn collection_removes_invalidated_entries_of_a_server_and_no_others() {
    let Some(server) = RedisServer::start() else { return };
    let cache = filled(&server);
    let run = |arguments: &[&str]| {
        larder(&server, &[arguments, &["--namespace", "shop", "--cache", "carts"]].concat())
    };
    run(&["gc", "--dry-run"]).exits(0).says(&["would remove 1 entry"]);
    run(&["gc"]).exits(0).says(&["removed 1 entry"]);
    run(&["keys", "--state", "invalidated"]).exits(0).says(&["0 keys"]);
    assert_eq!(cache.get("tagged").as_deref(), Some("by a tag"));
    run(&["gc"]).exits(0).says(&["removed 0 entries"]);
}

#[test]
fn entries_of_every_version_are_shown() {
    let Some(server) = RedisServer::start() else { return };
    let of = |version| versioned(&server, "shop", "carts", version);
    let (first, second) = (of(1), of(2));
    first.try_insert("a".to_owned(), "of one".to_owned()).unwrap();
    second.try_insert("b".to_owned(), "of two".to_owned()).unwrap();
    larder(&server, &["keys"]).exits(0).says(&["2 keys"]);
    larder(&server, &["show", "b"]).exits(0).says(&["version   2", "of two"]);
}

#[test]
fn cache_on_disk_is_warmed_from_a_server() {
    let Some(server) = RedisServer::start() else { return };
    drop(filled(&server));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("carts.larder");
    let place = file.to_str().unwrap();
    larder(&server, &["export", place, "--cache", "carts"]).exits(0).says(&["exported 6 entries"]);
    crate::fixtures::larder(dir.path(), &["import", place, "--cache", "carts", "--create"]).exits(0);
    let cache = larder::bcache::<String, String>("carts").dir(dir.path()).build().unwrap();
    assert_eq!((cache.get("cart-3").as_deref(), cache.get("old")), (Some("value"), None));
}

#[test]
fn server_that_cannot_be_used_is_reported_without_its_password() {
    for (url, code, part) in [
        ("redis://me:secret@127.0.0.1:1", 1, "refused"),
        ("redis+cluster://me:secret@127.0.0.1:1", 2, "a cluster"),
        ("http://me:secret@127.0.0.1", 2, "redis"),
    ] {
        let ran = plain(&["--redis", url, "ls"]).exits(code).complains(&[part]);
        assert!(!ran.stderr.contains("secret"), "{}", ran.stderr);
    }
    plain(&["--redis", "redis://127.0.0.1:1", "check"]).exits(2).complains(&["--redis", "allowed ls"]);
    plain(&["--redis", "redis://127.0.0.1:1", "--dir", "/tmp", "ls"]).exits(2).complains(&["--dir"]);
    plain(&["--namespace", "shop", "ls"]).exits(2).complains(&["--redis"]);
}
