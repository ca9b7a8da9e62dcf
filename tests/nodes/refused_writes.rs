//! A reachable server that refuses writes. The refused changes stay pending, and entries that the
//! other nodes could not hear of are unconfirmed.

use larder::{Cache, Coherence, TierKind};
use larder_testkit::{Proxy, RedisServer};

use super::{Nodes, key, until};

/// Makes the server run out of memory: reads and removals still work.
fn fill_up(server: &RedisServer) {
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
}

fn make_room(server: &RedisServer) {
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
}

/// A server that cannot save its data refuses every change, also removals (`MISCONF`). Reads still
/// work.
struct CannotSave {
    nodes: Nodes,
}

impl CannotSave {
    fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let server = RedisServer::start_with(&["--save", "3600 1", "--dir", path])?;
        Some(Self { nodes: Nodes { server, dirs: vec![dir] } })
    }

    fn refuse(&mut self) {
        std::fs::remove_dir(self.nodes.dirs[0].path()).unwrap();
        self.nodes.server.cli(&["BGSAVE"]);
        until("it refuses", || self.nodes.server.cli(&["SET", "x", "1"]).contains("MISCONF"));
    }

    fn accept(&self) {
        self.nodes.server.cli(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]);
    }
}

/// The fault: once the server took changes again, neither the old nor the new entry stayed. The
/// cause: a node without a copy in memory did not know which entry it had replaced.
#[test]
fn overwritten_entry_is_reconciled_after_misconf_with_and_without_memory() {
    for memory_bytes in [0, 64 << 20] {
        let Some(mut server) = CannotSave::start() else { return };
        let one = server.nodes.builder().memory_bytes(memory_bytes).build().unwrap();
        let other = server.nodes.node();
        (0..30).for_each(|number| one.insert(key(number), 1));
        server.refuse();
        for number in 0..20 {
            one.insert(key(number), 2);
            one.insert(key(number), 3);
            assert_eq!(seen(&one, number), Some((3, false)), "its own write");
        }
        for number in 20..30 {
            one.remove(&key(number));
            assert_eq!(one.get(&key(number)), None, "it was removed");
        }
        server.accept();
        until("the nodes agree", || {
            (0..20).all(|number| [&one, &other].iter().all(|node| seen(node, number) == Some((3, true))))
                && (20..30).all(|number| one.get(&key(number)).is_none() && other.get(&key(number)).is_none())
        });
        assert_eq!(one.stats().cache.repairs_lost, 0, "memory of {memory_bytes} bytes");
    }
}

/// An entry that another node wrote after the refused change stays.
#[test]
fn later_entry_of_another_node_stays_over_a_refused_change() {
    let Some(mut server) = CannotSave::start() else { return };
    let one = server.nodes.builder().memory_bytes(0).build().unwrap();
    let other = server.nodes.node();
    (0..20).for_each(|number| one.insert(key(number), 1));
    server.refuse();
    (0..20).for_each(|number| one.insert(key(number), 2));
    server.accept();
    for number in 0..20 {
        other.insert(key(number), 3);
    }
    until("both have it", || {
        (0..20).all(|number| [&one, &other].iter().all(|node| seen(node, number) == Some((3, true))))
    });
}

/// Returns the value, and whether it is confirmed.
fn seen(node: &Cache<String, u64>, number: u64) -> Option<(u64, bool)> {
    let entry = node.inspect(&key(number)).ok().flatten()?;
    Some((entry.value, entry.confirmed))
}

fn refuses(node: &Cache<String, u64>) {
    assert_ne!(node.try_insert(key(10_000), 1).unwrap().home, TierKind::Redis);
}

#[test]
fn refused_write_is_reconciled_when_there_is_room() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (nodes.node(), nodes.node());
    (0..20).for_each(|number| one.insert(key(number), 1));
    fill_up(&nodes.server);
    // More failures than the breaker tolerates: later writes go to another tier at once.
    for number in 10..40 {
        one.insert(key(number), 2);
        assert_eq!(seen(&one, number), Some((2, false)), "its own write");
        assert_eq!(one.get(&key(number)), Some(2));
        assert_eq!(other.get(&key(number)), None, "what it replaced is gone");
    }
    assert_eq!(other.get(&key(1)), Some(1), "what is there is read on");
    assert!(one.stats().cache.unconfirmed >= 30);
    make_room(&nodes.server);
    until("the other sees all of it", || {
        let missing = (10..40).find(|number| one.get(&key(*number)) != Some(2));
        assert_eq!(missing, None, "missing while it is on its way");
        (10..40).all(|number| other.get(&key(number)) == Some(2))
    });
    until("it is confirmed", || (10..40).all(|number| seen(&one, number) == Some((2, true))));
    let counts = one.stats().cache;
    assert_eq!((counts.repaired, counts.repairs_lost), (30, 0));
    assert!((10..40).all(|number| one.explain(&key(number)).unwrap().home == Some(TierKind::Redis)));
}

#[test]
fn refused_store_of_a_load_is_reconciled() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (nodes.node(), nodes.node());
    one.insert(key(1000), 1);
    fill_up(&nodes.server);
    for number in 0..30 {
        assert_eq!(one.get_with(key(number), || 2), 2);
        assert_eq!(one.get_with(key(number), || 3), 2, "one load a miss");
        assert_eq!(seen(&one, number), Some((2, false)));
    }
    make_room(&nodes.server);
    until("the other has it", || (0..30).all(|number| other.get(&key(number)) == Some(2)));
    assert_eq!(one.stats().cache.repairs_lost, 0);
}

#[test]
fn nodes_whose_writes_were_refused_agree_afterwards() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (nodes.node(), nodes.node());
    let strict = nodes.builder().coherence(Coherence::Strict).build().unwrap();
    fill_up(&nodes.server);
    for number in 0..20 {
        one.insert(key(number), 1);
        other.insert(key(number), 2);
        strict.insert(key(number), 3);
        assert_eq!((seen(&one, number), seen(&other, number)), (Some((1, false)), Some((2, false))));
        assert_eq!(strict.get(&key(number)), None, "it cannot be confirmed");
    }
    make_room(&nodes.server);
    until("all agree", || {
        (0..20).all(|number| {
            let seen = [&one, &other, &strict].map(|node| seen(node, number));
            seen.iter().all(|each| *each == seen[0] && each.is_some_and(|(_, confirmed)| confirmed))
        })
    });
    let sum = |count: fn(&larder::CacheCounts) -> u64| {
        [&one, &other, &strict].iter().map(|node| count(&node.stats().cache)).sum::<u64>()
    };
    assert_eq!((sum(|counts| counts.repaired), sum(|counts| counts.repairs_lost)), (20, 40));
}

#[test]
fn later_write_of_another_node_stays_over_a_refused_write() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (nodes.node(), nodes.node());
    fill_up(&nodes.server);
    (0..20).for_each(|number| one.insert(key(number), 1));
    make_room(&nodes.server);
    for number in 0..20 {
        other.insert(key(number), 2);
    }
    until("the one has it", || (0..20).all(|number| seen(&one, number) == Some((2, true))));
    assert!((0..20).all(|number| seen(&other, number) == Some((2, true))));
}

/// The breaker of the loading node is open, that of the other node is closed.
#[test]
fn refused_store_of_a_load_removes_no_entry_of_another_node() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (nodes.node(), nodes.node());
    for number in 0..20 {
        fill_up(&nodes.server);
        for filler in 0..10 {
            one.insert(key(100 + filler), 1);
        }
        refuses(&one);
        let loaded = one.get_with(key(number), || {
            make_room(&nodes.server);
            other.insert(key(number), 2);
            1
        });
        assert_eq!(loaded, 1);
        assert_eq!(seen(&other, number), Some((2, true)), "in round {number}");
        until("the one has it", || seen(&one, number) == Some((2, true)));
    }
}

#[test]
fn failed_atomic_operation_leaves_the_entry_unchanged() {
    let Some(mut nodes) = Nodes::start() else { return };
    let line = Proxy::to(nodes.server.port());
    let (one, other) = (nodes.builder().redis(line.url()).build().unwrap(), nodes.node());
    for _ in 0..5 {
        one.increment("sum".to_owned(), 1, 0).unwrap();
    }
    fill_up(&nodes.server);
    one.increment("sum".to_owned(), 1, 0).unwrap_err();
    assert_eq!((other.get("sum"), one.get("sum")), (Some(5), Some(5)));
    one.touch("sum").unwrap_err();
    assert_eq!((other.get("sum"), one.get("sum")), (Some(5), Some(5)));
    make_room(&nodes.server);
    until("it takes steps again", || one.increment("sum".to_owned(), 1, 0).is_ok());
    until("the other sees it", || other.get("sum") == Some(6));
    line.swallow(true);
    one.increment("sum".to_owned(), 1, 0).unwrap_err();
    one.touch("sum").unwrap_err();
    line.swallow(false);
    line.cut();
    until("it takes steps again", || one.increment("sum".to_owned(), 1, 0).is_ok());
    until("both see it", || (other.get("sum"), one.get("sum")) == (Some(7), Some(7)));
    assert_eq!(one.stats().cache.repairs_lost, 0);
}
