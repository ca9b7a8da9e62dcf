//! Servers that forbid a command, or refuse commands for a while.
//!
//! The fault: single writes were stored, but the conditional writes of loads were dropped, and
//! other nodes found nothing. The cause: a server that forbade `EVAL` counted as usable. Since then
//! the tier tries every command that it needs after connecting.

use std::time::Duration;

use larder::{Cache, ErrorKind, Event, TierKind, ucache};
use larder_core::tier::Tier;
use larder_testkit::{RedisCluster, RedisSentinels, RedisServer};
use larder_tiers::redis::{RedisOptions, RedisTier};
use tempfile::TempDir;

use crate::redis::until;

/// The ACL rule of `docs/redis.md`, for the namespace `shop`.
fn documented_rule() -> Vec<String> {
    let page = std::fs::read_to_string("docs/redis.md").unwrap();
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER")).expect("the page has the rule");
    line.split_whitespace().map(str::to_owned).collect()
}

/// Starts a server whose user `app` has the documented rights, changed by `rules`.
fn server_for(rules: &[&str]) -> Option<RedisServer> {
    let server = RedisServer::start()?;
    let mut command = documented_rule();
    command.extend(rules.iter().map(|rule| (*rule).to_owned()));
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    assert_eq!(server.cli(&command), "OK");
    Some(server)
}

fn url(server: &RedisServer) -> String {
    format!("redis://app:secret@127.0.0.1:{}", server.port())
}

struct Node {
    cache: Cache<u64, String>,
    _dir: TempDir,
}

fn node(url: &str) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let cache = ucache("carts").dir(dir.path()).redis(url).namespace("shop").require(TierKind::Redis);
    Node { cache: cache.build().unwrap(), _dir: dir }
}

fn trouble(node: &Node) -> Option<String> {
    node.cache.stats().tier(TierKind::Redis).unwrap().trouble.as_ref().map(|why| why.to_string())
}

fn uses_redis(node: &Node) -> bool {
    node.cache.try_insert(99, "x".into()).unwrap().home == TierKind::Redis
}

/// Checks all that nodes need of a server: one node writes in every way, the other reads.
fn everything_works(one: &Node, other: &Node) {
    assert!(uses_redis(one), "{:?}", trouble(one));
    assert_eq!(one.cache.get_with(1, || "loaded".into()), "loaded");
    assert_eq!(other.cache.get_with(1, || panic!("it is there")), "loaded");
    assert!(one.cache.insert_if_absent(2, "b".into()).unwrap());
    assert_eq!(other.cache.take(&2).unwrap(), Some("b".into()));
    one.cache.insert_many((10..20).map(|key| (key, "many".to_owned())));
    assert_eq!(other.cache.get_many(&(10..20).collect::<Vec<_>>()).iter().flatten().count(), 10);
    assert!(other.cache.expire_in(&10, Duration::from_secs(60)).unwrap());
    one.cache.invalidate_tag("tag").unwrap();
    assert!(other.cache.keys().unwrap().len() >= 11);
    one.cache.remove_many(&(10..20).collect::<Vec<_>>()).unwrap();
    one.cache.flush().unwrap();
    one.cache.clear().unwrap();
    assert_eq!(other.cache.get(&1), None);
}

#[test]
fn documented_acl_rights_are_enough() {
    let Some(server) = server_for(&[]) else { return };
    let (one, other) = (node(&url(&server)), node(&url(&server)));
    everything_works(&one, &other);
    assert_eq!((trouble(&one), trouble(&other)), (None, None));
    let refused = server.cli(&["ACL", "LOG"]);
    assert!(!refused.contains("reason"), "nothing was refused: {refused}");
}

#[test]
fn missing_acl_right_is_named_in_the_error() {
    let Some(server) = RedisServer::start() else { return };
    let optional =
        ["+info", "+ping", "+role", "+client|setname", "+select", "+hello", "+asking", "+cluster|nodes"];
    for right in
        documented_rule().iter().filter(|rule| rule.starts_with('+') && !optional.contains(&rule.as_str()))
    {
        let without = format!("-{}", &right[1..]);
        let mut command = documented_rule();
        command.push(without);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        assert_eq!(server.cli(&command), "OK");
        let options = RedisOptions { notices: true, ..RedisOptions::new(url(&server), "shop", "carts") };
        let tier = RedisTier::open(options).unwrap();
        assert!(!tier.healthy(), "without {right}");
        let error = tier.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "without {right}: {error}");
        let name = right[1..].replace('|', " ").to_uppercase();
        assert!(error.to_string().contains(&name), "{right} is named: {error}");
    }
}

/// Asserts that a tier of `url` cannot be used, because `server` forbids a command.
fn names_what_is_missing(server: &RedisServer, url: &str) {
    for command in ["eval", "scan", "hset", "getdel"] {
        assert_eq!(server.cli(&["ACL", "SETUSER", "default", &format!("-{command}")]), "OK");
        let options = RedisOptions { notices: true, ..RedisOptions::new(url, "shop", "carts") };
        let tier = RedisTier::open(options).unwrap();
        assert!(!tier.healthy(), "without {command}");
        let error = tier.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "without {command}: {error}");
        assert!(error.to_string().contains(&command.to_uppercase()), "{command} is named: {error}");
        assert_eq!(server.cli(&["ACL", "SETUSER", "default", &format!("+{command}")]), "OK");
        until("the right is there again", || tier.healthy());
    }
}

#[test]
fn command_that_one_master_of_a_cluster_forbids_is_named() {
    let Some(cluster) = RedisCluster::start(3, 0) else { return };
    names_what_is_missing(cluster.master(1), &cluster.url());
}

#[test]
fn command_that_a_master_under_sentinels_forbids_is_named() {
    let Some(mut watch) = RedisSentinels::start() else { return };
    let url = watch.url();
    names_what_is_missing(&watch.servers()[0], &url);
}

#[test]
fn forbidden_command_is_reported_in_stats_explain_and_event() {
    let Some(server) = server_for(&["-eval"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let cache = ucache::<u64, String>("carts")
        .dir(dir.path())
        .redis(url(&server))
        .namespace("shop")
        .on_event(move |event| drop(tell.send(event)))
        .build()
        .unwrap();
    assert_ne!(cache.try_insert(1, "a".into()).unwrap().home, TierKind::Redis, "it goes elsewhere");
    assert_eq!(cache.get(&1), Some("a".into()));
    let says = |what: &str, text: &str| {
        assert!(text.contains("EVAL") && text.contains("permissions"), "{what}: {text}")
    };
    says("the statistics", &cache.stats().to_string());
    says("explain", &cache.explain(&1).unwrap().to_string());
    let event = told.recv_timeout(Duration::from_secs(10)).unwrap();
    let Event::TierUnusable { tier: TierKind::Redis, why } = event else { panic!("{event:?}") };
    says("the event", &why);
    // The tier is used once the right is granted, without a restart.
    assert_eq!(server.cli(&["ACL", "SETUSER", "app", "+eval"]), "OK");
    let node = Node { cache, _dir: dir };
    until("it is used", || uses_redis(&node));
    assert_eq!(trouble(&node), None);
}

#[test]
fn revoked_right_is_detected_while_in_use() {
    let Some(server) = server_for(&[]) else { return };
    let node = node(&url(&server));
    assert!(uses_redis(&node));
    assert_eq!(server.cli(&["ACL", "SETUSER", "app", "-eval"]), "OK");
    until("it is noticed", || {
        node.cache.remove(&7);
        node.cache.get_with(7, || "loaded".into());
        trouble(&node).is_some_and(|why| why.contains("EVAL"))
    });
    assert!(!uses_redis(&node));
}

#[test]
fn acl_key_pattern_without_our_keys_is_an_error() {
    let Some(server) = server_for(&["resetkeys", "~other:*"]) else { return };
    let tier = RedisTier::open(RedisOptions::new(url(&server), "shop", "carts")).unwrap();
    let error = tier.check().unwrap_err();
    assert!(error.to_string().contains("access") && error.to_string().contains("key"), "{error}");
    assert_eq!(server.cli(&["DBSIZE"]), "0", "trying leaves nothing behind");
}

#[test]
fn renamed_command_is_named_in_the_error() {
    for command in ["EVAL", "SCAN", "UNLINK", "TIME", "HSET"] {
        let Some(server) = RedisServer::start_with(&["--rename-command", command, ""]) else { return };
        let tier = RedisTier::open(RedisOptions::new(server.url(), "shop", "carts")).unwrap();
        let error = tier.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{command}: {error}");
        assert!(error.to_string().contains(command), "{command}: {error}");
    }
}

#[test]
fn probe_of_the_commands_changes_no_data() {
    let Some(server) = RedisServer::start() else { return };
    let open = || RedisTier::open(RedisOptions::new(server.url(), "shop", "carts")).unwrap();
    let first = open();
    let names = |server: &RedisServer| {
        let mut names: Vec<_> = server.cli(&["--scan"]).lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    let before = names(&server);
    assert_eq!(before.len(), 64, "the marks and nothing else: {before:?}");
    let mark = server.cli(&["GET", &before[0]]);
    drop((first, open()));
    assert_eq!(names(&server), before);
    assert_eq!(server.cli(&["GET", &before[0]]), mark);
}

/// Writes until entries go to another tier. Callers get their own values meanwhile.
fn goes_elsewhere(node: &Node) {
    until("writes go elsewhere", || {
        assert_eq!(node.cache.get_with(5, || "loaded".into()), "loaded");
        !uses_redis(node)
    });
}

#[test]
fn server_refusing_writes_after_a_failed_save_is_used_again_later() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["--dir", folder.path().to_str().unwrap(), "--dbfilename", "taken"];
    let Some(server) = RedisServer::start_with(&options) else { return };
    let (node, other) = (node(&server.url()), node(&server.url()));
    node.cache.insert(1, "before".into());
    // The dump file cannot replace a folder.
    std::fs::create_dir(folder.path().join("taken")).unwrap();
    server.cli(&["CONFIG", "SET", "save", "3600 1"]);
    server.cli(&["BGSAVE"]);
    until("a save failed", || server.cli(&["INFO", "persistence"]).contains("rdb_last_bgsave_status:err"));
    assert!(server.cli(&["SET", "x", "y"]).contains("MISCONF"));
    goes_elsewhere(&node);
    assert_eq!(other.cache.get(&1), Some("before".into()), "what is there is read on");
    server.cli(&["CONFIG", "SET", "save", ""]);
    until("it is used again", || uses_redis(&node));
}

#[test]
fn loading_server_is_unavailable_until_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    // 20 ms a key, so that loading takes 4 s: longer than the node waits between two connection attempts.
    let slow = ["--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"];
    let options = [&["--dir", dir, "--dbfilename", "kept"][..], &slow].concat();
    let Some(mut server) = RedisServer::start_with(&options) else { return };
    let node = node(&server.url());
    (0..200).for_each(|key| node.cache.insert(key, "x".repeat(100)));
    assert_eq!(server.cli(&["SAVE"]), "OK");
    server.restart();
    until("it says why it is away", || {
        assert_eq!(node.cache.get_with(5, || "x".repeat(100)), "x".repeat(100));
        trouble(&node).is_some_and(|why| why.to_ascii_lowercase().contains("loading"))
    });
    assert!(!uses_redis(&node));
    until("it is used again", || uses_redis(&node));
}

#[test]
fn server_at_its_client_limit_is_used_when_clients_leave() {
    let Some(server) = RedisServer::start_with(&["--maxclients", "2"]) else { return };
    let held: Vec<_> =
        (0..2).map(|_| std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap()).collect();
    let tier = RedisTier::open(RedisOptions::new(server.url(), "shop", "carts")).unwrap();
    let error = tier.check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    drop(held);
    until("it is there", || tier.healthy());
}

#[test]
fn values_are_right_under_every_eviction_policy() {
    for policy in
        ["noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-ttl"]
    {
        let options = ["--maxmemory", "4mb", "--maxmemory-policy", policy];
        let Some(server) = RedisServer::start_with(&options) else { return };
        let node = node(&server.url());
        let value = |key: u64| format!("{key} {}", "x".repeat(4_000));
        for key in 0..1_500 {
            node.cache.insert_with(key, value(key), larder::EntryOptions::new().ttl(Duration::from_secs(60)));
        }
        node.cache.remove(&3);
        for key in 0..1_500 {
            let found = node.cache.get(&key);
            assert!(found.is_none_or(|found| key != 3 && found == value(key)), "{policy}: {key}");
        }
    }
}
