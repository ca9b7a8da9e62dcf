//! Sealed caches of several nodes, over one server.

use std::time::{Duration, Instant};

use larder::{Cache, EntryOptions, Keys, TierKind, ucache};
use larder_testkit::RedisServer;
use tempfile::TempDir;

use super::{key, keys};

const PATIENCE: Duration = Duration::from_secs(60);

fn node(server: &RedisServer, dir: &TempDir, keys: &Keys) -> Cache<String, u64> {
    let builder = ucache("shared").dir(dir.path()).redis(server.url()).namespace("nodes");
    builder.encrypt(keys.clone()).build().unwrap()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn changes_of_one_node_reach_the_copies_of_the_others() {
    let Some(server) = RedisServer::start() else { return };
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [one, other] = dirs.each_ref().map(|dir| node(&server, dir, &keys(1)));
    for number in 0..50_u64 {
        one.insert(format!("key {number}"), number);
        assert_eq!(other.get(&format!("key {number}")), Some(number));
    }
    for number in 0..50_u64 {
        one.insert(format!("key {number}"), number + 100);
        until("the new value", || other.get(&format!("key {number}")) == Some(number + 100));
    }
    one.remove("key 7");
    until("the removal", || other.get("key 7").is_none());
    one.insert_with("tagged".to_owned(), 1, EntryOptions::new().tag("tag"));
    assert_eq!(other.get("tagged"), Some(1));
    other.invalidate_tag("tag").unwrap();
    until("the invalidation", || one.get("tagged").is_none());
    for _ in 0..100 {
        one.increment("count".to_owned(), 1, 0).unwrap();
        other.increment("count".to_owned(), 1, 0).unwrap();
    }
    assert_eq!(one.increment("count".to_owned(), 1, 0).unwrap(), 201);
    for cache in [one, other] {
        cache.close().unwrap();
    }
}

/// Both nodes read what the other one writes at every step of a rotation.
#[test]
fn nodes_rotate_in_two_steps() {
    let Some(server) = RedisServer::start() else { return };
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let nodes = dirs.each_ref().map(|dir| node(&server, dir, &keys(1)));
    let mut count = 0;
    let mut agree = |nodes: &[Cache<String, u64>; 2]| {
        for [writer, reader] in [[0, 1], [1, 0]] {
            count += 1;
            nodes[writer].insert("a".to_owned(), count);
            until("the value of the other node", || nodes[reader].get("a") == Some(count));
        }
    };
    agree(&nodes);
    for keys in [
        keys(1).also_read(key(2)),
        keys(1).rotate(key(2)),
        keys(1).rotate(key(2)).retire(key(1).id()).unwrap(),
    ] {
        for node in &nodes {
            node.rotate_keys(&keys).unwrap();
            agree(&nodes);
        }
    }
    for node in nodes {
        assert_eq!(node.stats().tier(TierKind::Redis).unwrap().counts.unopened, 0);
        node.close().unwrap();
    }
}

#[test]
fn keys_of_another_node_are_misses_and_do_no_damage() {
    let Some(server) = RedisServer::start() else { return };
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let right = node(&server, &dirs[0], &keys(1));
    let wrong = node(&server, &dirs[1], &keys(2));
    let plain: Cache<String, u64> =
        ucache("shared").dir(dirs[2].path()).redis(server.url()).namespace("nodes").build().unwrap();
    right.insert_with("a".to_owned(), 1, EntryOptions::new().tag("tag"));
    assert_eq!((wrong.get("a"), plain.get("a")), (None, None));
    wrong.insert("a".to_owned(), 2);
    plain.insert("a".to_owned(), 3);
    wrong.invalidate_tag("tag").unwrap();
    for cache in [&wrong, &plain] {
        cache.remove("b");
        cache.sweep();
    }
    assert_eq!([&right, &wrong, &plain].map(|cache| cache.get("a")), [Some(1), Some(2), Some(3)]);
    for cache in [right, wrong, plain] {
        cache.close().unwrap();
    }
}
