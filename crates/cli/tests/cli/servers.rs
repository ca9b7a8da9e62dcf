//! Caches on a Redis server.

use std::time::Duration;

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

/// Exports a cache on disk that `fill` fills, and returns the folder and the file.
fn exported<V: serde::Serialize + serde::de::DeserializeOwned + Clone + Send + Sync + 'static>(
    fill: impl FnOnce(&Cache<String, V>),
) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let source = larder::bcache::<String, V>("source").dir(dir.path()).build().unwrap();
    fill(&source);
    source.close().unwrap();
    let place = dir.path().join("source.larder").to_str().unwrap().to_owned();
    crate::fixtures::larder(dir.path(), &["export", &place, "--cache", "source"]).exits(0);
    (dir, place)
}

#[test]
fn cache_on_a_server_is_warmed_before_its_program_has_run() {
    let Some(server) = RedisServer::start() else { return };
    let (dir, place) = exported(|source| {
        source.try_insert("plain".to_owned(), "value".to_owned()).unwrap();
        let hour = EntryOptions::new().ttl(Duration::from_secs(3600)).tag("red");
        source.try_insert_with("hourly".to_owned(), "an hour".to_owned(), hour).unwrap();
        let brief = EntryOptions::new().ttl(Duration::from_millis(500));
        source.try_insert_with("brief".to_owned(), "soon over".to_owned(), brief).unwrap();
    });
    crate::observed::until("an entry expires", || {
        let expired = ["keys", "--cache", "source", "--state", "expired"];
        crate::fixtures::larder(dir.path(), &expired).stdout.contains("brief").then_some(())
    });
    let import = ["import", &place, "--cache", "shop/carts"];
    larder(&server, &import).exits(3);
    let create = [&import[..], &["--create"]].concat();
    let before = content(&server);
    larder(&server, &[&create[..], &["--dry-run"]].concat())
        .exits(0)
        .says(&["shop/carts, a new cache: would import 3 entries"]);
    assert_eq!(content(&server), before);
    larder(&server, &create).exits(0).says(&["imported 2 entries", "1 entry left out: their time is over"]);
    let hourly = server.cli(&["--scan", "--pattern", "*:s:hourly"]);
    let left: i64 = server.cli(&["TTL", hourly.trim()]).trim().parse().unwrap();
    assert!((3500..=3600).contains(&left), "the server removes it in time: {left} s");
    let cache = open(&server, "shop", "carts");
    assert_eq!((cache.get("plain").as_deref(), cache.get("brief")), (Some("value"), None));
    assert_eq!(cache.inspect("hourly").unwrap().unwrap().tags.len(), 1);
    cache.invalidate_tag("red").unwrap();
    assert_eq!(cache.get("hourly"), None, "tags work as before");
}

#[test]
fn entries_of_a_server_stay_unless_they_are_to_be_replaced() {
    let Some(server) = RedisServer::start() else { return };
    let cache = filled(&server);
    let (_dir, place) = exported(|source| {
        for key in ["cart-1", "new"] {
            let value = EntryOptions::new().tag("gone");
            source.try_insert_with(key.to_owned(), "imported".to_owned(), value).unwrap();
        }
    });
    let carts = ["import", &place, "--namespace", "shop", "--cache", "carts"];
    larder(&server, &carts)
        .exits(0)
        .says(&["imported 1 entry", "1 entry left out: the cache has them already"]);
    let both = || (cache.get("cart-1"), cache.get("new"));
    assert_eq!(
        both(),
        (Some("value".to_owned()), Some("imported".to_owned())),
        "an earlier invalidation is over"
    );
    larder(&server, &[&carts[..], &["--replace"]].concat()).exits(0).says(&["imported 2 entries"]);
    assert_eq!(both(), (Some("imported".to_owned()), Some("imported".to_owned())));
}

/// Is encoded with names, so that its frame does not tell its type.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Named {
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    count: u32,
}

#[test]
fn entries_of_types_that_no_listed_version_has_are_left_out() {
    let Some(server) = RedisServer::start() else { return };
    drop(filled(&server));
    let (_dir, numbers) =
        exported(|source| source.try_insert("a".to_owned(), vec![1_u32]).map(drop).unwrap());
    let run = |place: &str, cache: &str| larder(&server, &["import", place, "--cache", cache]);
    let before = content(&server);
    run(&numbers, "carts")
        .exits(0)
        .says(&["imported 0 entries", "1 entry left out: no version of the program"]);
    assert_eq!(content(&server), before);
    let (_dir, named) = exported(|source| {
        source.try_insert("a".to_owned(), Named { note: None, count: 7 }).map(drop).unwrap();
    });
    let dir = tempfile::tempdir().unwrap();
    let open = |version: u32| {
        let builder = larder::ucache::<String, Named>("named").dir(dir.path().join(version.to_string()));
        let builder = builder.redis(server.url()).namespace("shop").version(version);
        builder.memory_bytes(0).sharing(larder::Sharing::Distributed).build().unwrap()
    };
    let first = open(0);
    run(&named, "named").exits(0).says(&["imported 1 entry"]);
    assert_eq!(first.get("a"), Some(Named { note: None, count: 7 }), "the cache has one version");
    drop(open(1));
    run(&named, "named")
        .exits(0)
        .says(&["imported 0 entries", "1 entry left out: no version of the program"]);
}

#[test]
fn damaged_export_changes_nothing_on_a_server() {
    let Some(server) = RedisServer::start() else { return };
    drop(filled(&server));
    let (_dir, place) =
        exported(|source| source.try_insert("a".to_owned(), "value".to_owned()).map(drop).unwrap());
    let mut bytes = std::fs::read(&place).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&place, bytes).unwrap();
    let before = content(&server);
    larder(&server, &["import", &place, "--cache", "carts"])
        .exits(1)
        .complains(&["its checksum does not match"]);
    assert_eq!(content(&server), before);
}

#[test]
fn damaged_entries_of_a_server_are_named_and_removed() {
    let Some(server) = RedisServer::start() else { return };
    let cache = filled(&server);
    let name = |key: &str| server.cli(&["--scan", "--pattern", &format!("*:s:{key}")]).trim().to_owned();
    let check = |arguments: &[&str]| larder(&server, &[&["check", "--cache", "carts"], arguments].concat());
    check(&[]).exits(0).says(&["redis tier: 7 whole entries, 0 damaged"]);
    server.cli(&["SETRANGE", &name("cart-1"), "100", "?"]);
    server.cli(&["COPY", &name("cart-2"), &name("cart-3"), "REPLACE"]);
    server.cli(&["SET", &name("cart-4"), "no frame"]);
    let list = name("tagged");
    server.cli(&["DEL", &list]);
    server.cli(&["RPUSH", &list, "a list"]);
    let before = content(&server);
    let named = [
        "redis tier: 3 whole entries, 4 damaged",
        "cart-1: a checksum does not match",
        "cart-3: the frame belongs to another key",
        "cart-4: not a frame",
        "tagged: not a frame",
    ];
    check(&[]).exits(5).says(&named);
    assert_eq!(content(&server), before);
    let document = check(&["--fix", "--json"]).exits(0).json();
    assert_eq!((&document["is_fixed"], &document["caches"][0]["removed"]), (&true.into(), &4.into()));
    check(&[]).exits(0).says(&["redis tier: 3 whole entries, 0 damaged"]);
    assert_eq!((cache.get("cart-1"), cache.get("cart-2").as_deref()), (None, Some("value")));
    cache.try_insert("cart-1".to_owned(), "again".to_owned()).unwrap();
    assert_eq!(cache.get("cart-1").as_deref(), Some("again"));
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
    plain(&["--redis", "redis://127.0.0.1:1", "doctor"]).exits(2).complains(&["--redis", "allowed ls"]);
    plain(&["--redis", "redis://127.0.0.1:1", "--dir", "/tmp", "ls"]).exits(2).complains(&["--dir"]);
    plain(&["--namespace", "shop", "ls"]).exits(2).complains(&["--redis"]);
}
