//! Writes and removals of many entries in one call, over Redis.

use larder::{Bytes, Cache, TierKind, ucache};
use larder_testkit::RedisServer;

use super::{Nodes, key, until};

/// The number of times that the server has read from a connection.
fn reads(server: &RedisServer) -> u64 {
    server.info("total_reads_processed")
}

#[test]
fn batch_of_a_hundred_entries_takes_few_round_trips() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (nodes.node(), nodes.node());
    let entries = |value| (0..100).map(move |number| (key(number), value));
    let before = reads(&nodes.server);
    let stored = one.try_insert_many(entries(1), larder::EntryOptions::new());
    assert!(stored.iter().all(|stored| stored.as_ref().is_ok_and(|placed| placed.home == TierKind::Redis)));
    let written = reads(&nodes.server) - before;
    assert!((0..100).all(|number| other.get(&key(number)) == Some(1)));
    let before = reads(&nodes.server);
    assert_eq!(one.remove_many(&entries(0).map(|(key, _)| key).collect::<Vec<_>>()).unwrap(), 100);
    let removed = reads(&nodes.server) - before;
    // The number includes pings and the queries for this number.
    println!("the server read {written} times for 100 writes, {removed} times for 100 removals");
    assert!(written < 90 && removed < 90, "{written}, {removed}");
    until("the other hears of it", || (0..100).all(|number| other.get(&key(number)).is_none()));
    let counts = one.stats().cache;
    assert_eq!((counts.insertions, counts.removals), (100, 100));
}

#[test]
fn last_value_of_a_key_in_a_batch_stays_in_any_tier() {
    let Some(server) = RedisServer::start() else { return };
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [one, other]: [Cache<u64, Bytes>; 2] = dirs
        .each_ref()
        .map(|dir| ucache("many").dir(dir.path()).redis(server.url()).namespace("nodes").build().unwrap());
    let value = |len: usize, byte: u8| Bytes::from(vec![byte; len]);
    let (small, large) = (10, 2 << 20);
    one.insert_many([
        (1, value(small, 1)),
        (2, value(large, 2)),
        (1, value(small, 3)),
        (2, value(small, 4)),
        (3, value(small, 5)),
        (3, value(large, 6)),
        (1, value(small, 7)),
    ]);
    let firsts = |cache: &Cache<u64, Bytes>| [1, 2, 3].map(|key| cache.get(&key).map(|value| value[0]));
    assert_eq!(firsts(&one), [Some(7), Some(4), Some(6)]);
    assert_eq!(firsts(&other), [Some(7), Some(4), None], "what is too large is a file of its node");
    assert_eq!(one.explain(&3).unwrap().home, Some(TierKind::File));
    assert_eq!(one.remove_many(&[1, 1, 2, 3, 4]).unwrap(), 3);
    assert_eq!(firsts(&one), [None; 3]);
}

#[test]
fn batch_during_an_outage_reaches_the_server_afterwards() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (nodes.node(), nodes.node());
    one.insert_many((0..300).map(|number| (key(number), 1)));
    assert!((0..300).all(|number| other.get(&key(number)) == Some(1)));
    nodes.server.pause();
    until("the nodes notice", || one.try_insert(key(1000), 1).unwrap().home != TierKind::Redis);
    one.insert_many((0..200).map(|number| (key(number), 2)));
    // Keys that were not written again.
    let gone: Vec<_> = (250..300).map(key).collect();
    assert!(one.remove_many(&gone).is_err(), "what could not be asked is told");
    assert!((0..200).all(|number| one.get(&key(number)) == Some(2)));
    assert!(gone.iter().all(|key| one.get(key).is_none()));
    nodes.server.resume();
    until("the other sees all of it", || {
        (0..200).all(|number| other.get(&key(number)) == Some(2))
            && (200..250).all(|number| other.get(&key(number)) == Some(1))
            && gone.iter().all(|key| other.get(key).is_none())
    });
    assert_eq!(one.stats().cache.repairs_lost, 0);
}

#[test]
fn results_of_a_batch_are_in_the_order_of_its_entries() {
    let Some(server) = RedisServer::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let cache: Cache<u64, Bytes> =
        ucache("mixed").dir(dir.path()).redis(server.url()).namespace("nodes").build().unwrap();
    let large = Bytes::from(vec![7; 2 << 20]);
    let entries =
        (0..6).map(|key| (key, if key % 3 == 1 { large.clone() } else { Bytes::from_static(b"small") }));
    let stored = cache.try_insert_many(entries, larder::EntryOptions::new());
    let homes: Vec<_> = stored.iter().map(|stored| stored.as_ref().unwrap().home).collect();
    let (redis, file) = (TierKind::Redis, TierKind::File);
    assert_eq!(homes, [redis, file, redis, redis, file, redis]);
}
