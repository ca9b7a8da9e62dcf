//! Entries that a node keeps in its own disk and file tiers, while notices of changes by other
//! nodes cannot reach it.

use std::sync::Arc;

use larder::{Bytes, Cache, Coherence, ErrorKind, TierKind, TieredBuilder, ucache};
use larder_core::frame::{Frame, Head};
use larder_core::key::{EncodedKey, KeyCodec, NamedKeys};
use larder_core::tier::Tier;
use larder_exec::runtime::Blocking;
use larder_testkit::{FaultyTier, HashMapTier, Operation, Proxy, RedisServer, Times, block_on};
use tempfile::TempDir;

use super::{Nodes, hits, key, shared_tier, until};
use crate::fixtures::{Plan, get, insert};

type Node = Cache<u64, Bytes>;

fn large(byte: u8) -> Bytes {
    Bytes::from(vec![byte; 2 << 20])
}

fn builder(url: String, dir: &TempDir) -> TieredBuilder<u64, Bytes> {
    ucache("large").dir(dir.path()).redis(url).namespace("nodes")
}

/// Returns the first byte of the value, and whether the entry is confirmed.
fn seen(node: &Node, key: u64) -> Option<(u8, bool)> {
    let entry = node.inspect(&key).ok().flatten()?;
    Some((entry.value[0], entry.confirmed))
}

/// Starts a server and two nodes. The second node reaches the server through the proxy.
fn pair() -> Option<(RedisServer, Proxy, [TempDir; 2], Node, Node)> {
    let server = RedisServer::start()?;
    let (line, dirs) =
        (Proxy::to(server.port()), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let one = builder(server.url(), &dirs[0]).build().unwrap();
    let cut_off = builder(line.url(), &dirs[1]).build().unwrap();
    Some((server, line, dirs, one, cut_off))
}

fn cut(line: &Proxy, node: &Node) {
    line.swallow(true);
    let away = || node.try_insert(1_000_000, Bytes::from_static(b"x")).unwrap().home != TierKind::Redis;
    until("it notices", away);
}

fn let_in(line: &Proxy, node: &Node) {
    line.swallow(false);
    line.cut();
    let back = || node.try_insert(1_000_001, Bytes::from_static(b"x")).unwrap().home == TierKind::Redis;
    until("it is back", back);
}

#[test]
fn local_only_entries_are_revalidated_after_a_partition() {
    let Some((_server, line, _dirs, one, cut_off)) = pair() else { return };
    (1..=4).for_each(|key| cut_off.insert(key, large(1)));
    assert_eq!(seen(&cut_off, 1), Some((1, true)));
    cut(&line, &cut_off);
    assert_eq!(seen(&cut_off, 1), Some((1, false)), "nobody can be asked");
    one.remove(&1);
    one.insert(2, large(2));
    one.insert(3, Bytes::from_static(&[3]));
    let_in(&line, &cut_off);
    until("what the other did is found out", || {
        (1..=3).map(|key| seen(&cut_off, key)).eq([None, None, Some((3, true))])
    });
    assert_eq!(seen(&cut_off, 4), Some((1, true)), "nobody changed it");
    assert!(cut_off.contains_key(&4) && !cut_off.contains_key(&1));
    assert_eq!(cut_off.get_many(&[1, 4]), [None, Some(large(1))]);
    assert!(cut_off.open(&4).unwrap().is_some() && cut_off.open(&1).unwrap().is_none());
}

#[test]
fn entry_too_large_for_redis_stays_a_local_file_after_a_partition() {
    let Some((server, line, _dirs, one, cut_off)) = pair() else { return };
    // The node wrote this entry itself, so no notice drops its copy. From the copy it knows which
    // entry its next write replaces.
    cut_off.insert(1, Bytes::from_static(&[1]));
    assert_eq!((seen(&cut_off, 1), seen(&one, 1)), (Some((1, true)), Some((1, true))));
    cut(&line, &cut_off);
    cut_off.insert(1, large(2));
    cut_off.insert(2, large(2));
    let_in(&line, &cut_off);
    until("what it replaced is gone", || one.get(&1).is_none());
    until("nothing is owed", || seen(&cut_off, 1) == Some((2, true)) && seen(&cut_off, 2) == Some((2, true)));
    assert_eq!(cut_off.explain(&1).unwrap().home, Some(TierKind::File));
    assert!(server.info("used_memory") < 4 << 20, "it is not in Redis");
}

/// The fault: the node took its own removal for one of another node, and the entry was a miss.
#[test]
fn local_entry_loaded_during_a_partition_is_kept_after_an_own_removal() {
    let Some((_server, line, _dirs, one, cut_off)) = pair() else { return };
    cut_off.insert(1, Bytes::from_static(&[1]));
    cut_off.insert(2, Bytes::from_static(&[1]));
    cut_off.remove(&1);
    cut_off.remove(&2);
    cut(&line, &cut_off);
    (1..=2).for_each(|key| drop(cut_off.get_with(key, || large(2))));
    one.remove(&2);
    let_in(&line, &cut_off);
    until("the window is over", || seen(&cut_off, 2).is_none());
    assert_eq!(seen(&cut_off, 1), Some((2, true)), "nobody removed it since");
}

#[test]
fn load_of_a_large_value_does_not_remove_files_of_other_nodes() {
    let Some((_server, _line, _dirs, one, other)) = pair() else { return };
    for node in [&one, &other, &one, &other] {
        node.get_with(1, || large(1));
    }
    assert_eq!((one.stats().cache.loads, other.stats().cache.loads), (1, 1));
}

#[test]
fn pending_writes_of_a_closed_node_are_not_served_after_reopening() {
    let Some(mut server) = RedisServer::start() else { return };
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let small = |byte: u8| Bytes::from(vec![byte]);
    server.kill();
    let one = builder(server.url(), &dirs[0]).build().unwrap();
    (1..=3).for_each(|key| one.insert(key, small(1)));
    assert_eq!(seen(&one, 1), Some((1, false)));
    one.close().unwrap();
    server.restart();
    let other = builder(server.url(), &dirs[1]).build().unwrap();
    other.insert(1, small(2));
    let one = builder(server.url(), &dirs[0]).build().unwrap();
    until("both are there", || one.try_insert(9, small(9)).unwrap().home == TierKind::Redis);
    assert_eq!([1, 2, 3].map(|key| seen(&one, key)), [Some((2, true)), None, None]);
    other.remove(&1);
    until("it is removed", || seen(&one, 1).is_none());
}

#[test]
fn local_entry_is_unconfirmed_after_a_restart_and_a_miss_on_a_strict_node() {
    let Some(server) = RedisServer::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let node = builder(server.url(), &dir).build().unwrap();
    node.insert(1, large(1));
    node.close().unwrap();
    // Deletes the tombstones of removals in Redis, as if they had expired.
    for name in server.cli(&["--scan", "--pattern", "*:r:*"]).lines() {
        server.cli(&["DEL", name]);
    }
    let strict = builder(server.url(), &dir).coherence(Coherence::Strict).build().unwrap();
    assert_eq!(strict.get(&1), None);
    strict.close().unwrap();
    let available = builder(server.url(), &dir).build().unwrap();
    assert_eq!(seen(&available, 1), Some((1, false)));
    assert!(available.stats().cache.unconfirmed > 0);
    available.insert(1, large(2));
    assert_eq!(seen(&available, 1), Some((2, true)));
}

#[test]
fn notice_about_a_long_key_drops_only_the_copy_of_that_key() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (nodes.node(), nodes.node());
    let long = |number: u64| format!("{number}{}", "x".repeat(400));
    for number in 0..10 {
        one.insert(key(number), 1);
        one.insert(long(number), 1);
    }
    let read = |node: &Cache<String, u64>| {
        let all = (0..10).flat_map(|number| [key(number), long(number)]);
        all.map(|key| node.get(&key)).collect::<Vec<_>>()
    };
    let from_redis = || hits(&other, TierKind::Redis);
    until("copies of all serve", || {
        let before = from_redis();
        read(&other).iter().all(|value| *value == Some(1)) && from_redis() == before
    });
    let mut version = 1;
    // A stalled machine may lose the connection and then drop all copies, so this retries.
    until("a change of one costs no other copy", || {
        version += 1;
        let before = from_redis();
        one.insert(long(3), version);
        until("the change is seen", || other.get(&long(3)) == Some(version));
        assert_eq!(read(&other).iter().filter(|value| **value == Some(1)).count(), 19);
        from_redis() - before < 5
    });
    one.remove(&long(4));
    until("a removal is seen", || other.get(&long(4)).is_none());
}

/// Copies the frame of `key` from one tier to another.
fn copy(from: &dyn Tier, to: &dyn Tier, key: &EncodedKey) {
    let bytes = block_on(from.get(key)).unwrap().expect("it is there");
    let head = Head::parse(&bytes).unwrap();
    let payload = bytes.slice(head.len()..head.len() + head.payload_len as usize);
    let frame = Frame::new(&head.header, key, head.attributes, payload);
    block_on(to.put(key, &frame)).unwrap();
}

/// The fault: what was written between a failed clear of the shared tier and the next one was lost, and no
/// counter said so.
#[test]
fn write_after_a_failed_clear_is_counted_if_it_is_lost() {
    let Some(server) = RedisServer::start() else { return };
    let (shared, plan) = shared_tier(server.url(), "cleared");
    let faulty = FaultyTier::new(shared);
    let local = HashMapTier::new().with_kind(TierKind::Disk);
    let rig =
        Plan { nodes: Some(plan), ..Plan::over(vec![Arc::new(faulty.clone()), Arc::new(local)]) }.build();
    insert(&rig, 1, "former").unwrap();
    faulty.fail(Operation::Clear, Times::Forever, ErrorKind::Unavailable);
    assert!(block_on(rig.clear::<Blocking>()).is_err());
    (1..=5).for_each(|key| drop(insert(&rig, key, "later")));
    block_on(rig.remove::<Blocking>(&6)).unwrap();
    assert_eq!(get(&rig, 1).as_deref(), Some("later"), "unconfirmed, as long as Redis is not cleared");
    faulty.heal();
    until("Redis is cleared", || !rig.state().tiers.iter().any(|tier| tier.has_missed_changes));
    let kept = (1..=5).filter(|key| get(&rig, *key).is_some()).count() as u64;
    assert_eq!((kept, rig.stats().cache.repairs_lost), (0, 5));
    assert_eq!(insert(&rig, 7, "last").unwrap().home, TierKind::Redis);
    block_on(rig.close::<Blocking>()).unwrap();
}

/// The fault: a value was served after `take` of it had failed. The cause: after one local tier
/// failed to remove its copy, the others were not asked.
#[test]
fn take_that_one_local_tier_fails_leaves_no_copy_in_another() {
    let Some(server) = RedisServer::start() else { return };
    let (shared, nodes) = shared_tier(server.url(), "taken");
    let [near, far] =
        [TierKind::Disk, TierKind::File].map(|kind| FaultyTier::new(HashMapTier::new().with_kind(kind)));
    let tiers = vec![shared as Arc<dyn Tier>, Arc::new(near.clone()), Arc::new(far.clone())];
    let rig = Plan { memory: false, nodes: Some(nodes), ..Plan::over(tiers) }.build();
    // Too large to be shared.
    let value = "x".repeat(2 << 20);
    insert(&rig, 1, &value).unwrap();
    let encoded = NamedKeys.encode(&1_u64).unwrap();
    if block_on(near.get(&encoded)).unwrap().is_some() {
        copy(&near, &far, &encoded);
        block_on(near.remove(&encoded)).unwrap();
    }
    assert_eq!(get(&rig, 1).as_ref(), Some(&value));
    near.fail(Operation::Remove, Times::Next(1), ErrorKind::Io);
    assert!(block_on(rig.take::<Blocking>(&1)).is_err());
    assert_eq!(get(&rig, 1), None);
    block_on(rig.close::<Blocking>()).unwrap();
}
