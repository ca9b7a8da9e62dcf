//! Nodes whose clocks are wrong, or are set while they run.
//!
//! The fault: a clock set back by two hours made a ttl of a minute last two hours on all nodes, and
//! a clock that was ahead removed entries that the others had just written. The cause: the reader
//! judged expiry by its own clock, and the writer computed the span for Redis by its own.

use std::sync::Arc;
use std::time::Duration;

use larder::{
    Cache, Clock, Durability, EntryOptions, Facts, Placement, Selector, Sharing, Table, TierFacts, TierKind,
    Time,
};
use larder_exec::runtime::Blocking;
use larder_testkit::{ManualClock, Proxy, SkewedClock, block_on};
use larder_tiers::DiskBudget;
use larder_tiers::file::{FileOptions, FileTier};

use super::{Nodes, key, until};
use crate::fixtures::{Plan, TestEngine};

const SECOND: i64 = 1_000;
const HOUR: i64 = 3_600 * SECOND;
const YEAR: i64 = 365 * 24 * HOUR;
const MINUTE: Duration = Duration::from_secs(60);

/// Three nodes with a clock each.
fn three(nodes: &mut Nodes) -> Vec<(Cache<String, u64>, SkewedClock)> {
    let mut node = || {
        let wall = SkewedClock::default();
        (nodes.builder().clock(wall.clone()).build().unwrap(), wall)
    };
    vec![node(), node(), node()]
}

/// The time to live that Redis has left for an entry, in milliseconds.
fn pttl(nodes: &Nodes, key: &str) -> i64 {
    let names = nodes.server.cli(&["KEYS", &format!("*:s:{key}")]);
    let entry = names.lines().find(|name| !name.contains(":r:") && !name.contains(":l:"));
    nodes.server.cli(&["PTTL", entry.expect("it is in Redis")]).parse().unwrap()
}

fn left(cache: &Cache<String, u64>, key: &String) -> Option<Duration> {
    cache.inspect(key).unwrap().map(|entry| entry.left.expect("it has a deadline"))
}

/// Asserts that at most a minute is left, and almost all of it.
#[track_caller]
fn assert_minute(left: Option<Duration>, of: &str) {
    let left = left.unwrap_or_else(|| panic!("{of} is absent"));
    assert!(left <= MINUTE && left > MINUTE * 3 / 4, "{of}: {left:?} are left of a minute");
}

#[test]
fn ttl_is_the_same_on_all_nodes_with_any_clock_error() {
    let Some(mut nodes) = Nodes::start() else { return };
    let all = three(&mut nodes);
    let plain = EntryOptions::new().ttl(MINUTE);
    let stale = plain.clone().stale(MINUTE);
    let jumps = [2 * HOUR, -2 * HOUR, 10 * YEAR, -10 * YEAR, 60 * SECOND, 0];
    let mut number = 0;
    for (jump, (at, (node, wall))) in
        jumps.iter().flat_map(|jump| all.iter().enumerate().map(move |one| (jump, one)))
    {
        wall.set_ahead(*jump);
        for (options, kept) in [(&plain, 60_000), (&stale, 120_000)] {
            number += 1;
            let (key, of) = (key(number), format!("node {at} set by {jump} ms"));
            node.insert_with(key.clone(), number, options.clone());
            let in_redis = pttl(&nodes, &key);
            assert!((kept - 15_000..=kept).contains(&in_redis), "{of}: Redis keeps it for {in_redis} ms");
            for (reader, (other, _)) in all.iter().enumerate() {
                assert_eq!(other.get(&key), Some(number), "{of}, read by node {reader}");
                assert_minute(left(other, &key), &format!("{of}, read by node {reader}"));
            }
        }
        let expired: u64 =
            all.iter().map(|(node, _)| node.stats().tier(TierKind::Redis).unwrap().counts.expired).sum();
        assert_eq!(expired, 0, "nothing is over, by whatever clock");
    }
}

#[test]
fn entry_expires_on_all_nodes_by_elapsed_time() {
    let Some(mut nodes) = Nodes::start() else { return };
    let all = three(&mut nodes);
    for ((node, wall), jump) in all.iter().zip([10 * YEAR, -10 * YEAR, 0]) {
        wall.set_ahead(jump);
        node.insert_with(key(jump.unsigned_abs()), 7, EntryOptions::new().ttl(Duration::from_millis(500)));
        for (reader, _) in &all {
            until("it is over", || reader.get(&key(jump.unsigned_abs())).is_none());
        }
    }
}

#[test]
fn idle_time_uses_the_clock_of_the_server() {
    let Some(mut nodes) = Nodes::start() else { return };
    let walls = [SkewedClock::ahead(2 * HOUR), SkewedClock::ahead(-2 * HOUR), SkewedClock::ahead(10 * YEAR)];
    let all = walls.each_ref().map(|wall| nodes.builder().clock(wall.clone()).idle(MINUTE).build().unwrap());
    // Set back while the node runs: its time continues from the value that it showed.
    walls[0].set_ahead(0);
    for (at, writer) in all.iter().enumerate() {
        let key = key(at as u64);
        writer.insert(key.clone(), 1);
        let in_redis = pttl(&nodes, &key);
        assert!((45_000..=60_000).contains(&in_redis), "{in_redis}");
        for reader in &all {
            assert_minute(left(reader, &key), "an idle time");
        }
    }
}

#[test]
fn deadline_changed_by_a_node_with_a_wrong_clock_is_right_on_others() {
    let Some(mut nodes) = Nodes::start() else { return };
    let all = three(&mut nodes);
    let (right, _) = &all[0];
    for ((node, wall), jump) in all[1..].iter().zip([10 * YEAR, -2 * HOUR]) {
        node.insert_with(key(1), 1, EntryOptions::new().ttl(MINUTE * 60));
        wall.set_ahead(jump);
        assert!(node.expire_in(&key(1), MINUTE).unwrap());
        assert!(pttl(&nodes, &key(1)) <= 60_000);
        until("the change is heard", || left(right, &key(1)).is_some_and(|left| left <= MINUTE));
        assert_minute(left(right, &key(1)), "expire_in");
        right.insert_with(key(2), 2, EntryOptions::new().ttl(MINUTE));
        assert!(node.touch(&key(2)).unwrap(), "it is there by whatever clock");
        assert_minute(left(right, &key(2)), "touch");
        // By the wall clock of the node, including its error.
        let at = Time::from_millis(wall.now().as_millis() + 60_000);
        assert!(node.expire_at(&key(1), at).unwrap());
        until("the change is heard", || left(right, &key(1)).is_some_and(|left| left <= MINUTE));
        assert_minute(left(right, &key(1)), "expire_at");
        assert_eq!(node.increment(key(1), 1, 0).unwrap(), 2);
        assert_minute(left(right, &key(1)), "a counter keeps its deadline");
        right.remove(&key(1));
    }
}

#[test]
fn batches_use_the_clock_of_the_server() {
    let Some(mut nodes) = Nodes::start() else { return };
    let walls = [SkewedClock::ahead(0), SkewedClock::ahead(10 * YEAR)];
    let all = walls.each_ref().map(|wall| nodes.builder().clock(wall.clone()).ttl(MINUTE).build().unwrap());
    walls[1].set_ahead(-2 * HOUR);
    for (writer, reader, from) in [(&all[0], &all[1], 0), (&all[1], &all[0], 100)] {
        let keys: Vec<_> = (from..from + 20).map(key).collect();
        writer.insert_many(keys.iter().cloned().zip(0..));
        assert_eq!(reader.get_many(&keys).iter().flatten().count(), 20);
        keys.iter().for_each(|key| assert_minute(left(reader, key), "of a batch"));
    }
}

#[test]
fn stale_window_after_an_invalidation_is_the_same_on_all_nodes() {
    let Some(mut nodes) = Nodes::start() else { return };
    let all = three(&mut nodes);
    for ((node, wall), jump) in all.iter().zip([10 * YEAR, -10 * YEAR, 2 * HOUR]) {
        wall.set_ahead(jump);
        for (window, is_stale) in [(MINUTE * 10, true), (Duration::ZERO, false)] {
            let options = EntryOptions::new().ttl(MINUTE * 60).stale(window).tag("all");
            all[0].0.insert_with(key(1), 1, options);
            node.invalidate_tag("all").unwrap();
            for (reader, _) in &all {
                until("the invalidation is heard", || reader.get(&key(1)).is_none());
                let entry = reader.inspect(&key(1)).unwrap();
                assert_eq!(entry.is_some_and(|entry| entry.stale), is_stale, "{jump}, {window:?}");
            }
        }
    }
}

#[test]
fn write_during_an_outage_keeps_its_ttl() {
    let Some(mut nodes) = Nodes::start() else { return };
    let line = Proxy::to(nodes.server.port());
    let wall = SkewedClock::ahead(10 * YEAR);
    let cut_off = {
        let dir = tempfile::tempdir().unwrap();
        let builder =
            larder::ucache::<String, u64>("shared").dir(dir.path()).redis(line.url()).namespace("nodes");
        nodes.dirs.push(dir);
        builder.clock(wall.clone()).build().unwrap()
    };
    let right = nodes.node();
    line.swallow(true);
    line.cut();
    until("it is away", || {
        cut_off.insert_with(key(1), 1, EntryOptions::new().ttl(MINUTE));
        cut_off.stats().cache.unconfirmed > 0
            || cut_off.get(&key(1)).is_some() && right.get(&key(1)).is_none()
    });
    wall.set_ahead(-2 * HOUR);
    cut_off.insert_with(key(1), 2, EntryOptions::new().ttl(MINUTE));
    line.swallow(false);
    until("it is made up for", || right.get(&key(1)) == Some(2));
    assert_minute(left(&right, &key(1)), "what was owed");
    assert!(pttl(&nodes, &key(1)) <= 60_000);
}

#[test]
fn clock_ahead_in_an_earlier_run_does_not_affect_other_nodes() {
    let Some(mut nodes) = Nodes::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let right = nodes.node();
    for ahead in [10 * YEAR, 2 * HOUR, 0] {
        let builder = larder::ucache("shared").dir(dir.path()).redis(nodes.server.url()).namespace("nodes");
        let node: Cache<String, u64> = builder.clock(SkewedClock::ahead(ahead)).build().unwrap();
        node.insert_with(key(1), 1, EntryOptions::new().ttl(MINUTE));
        assert!(pttl(&nodes, &key(1)) <= 60_000, "{ahead}");
        until("it is heard", || right.get(&key(1)).is_some());
        assert_minute(left(&right, &key(1)), "of a node that was ahead");
        right.insert_with(key(2), 2, EntryOptions::new().ttl(MINUTE));
        assert_eq!(node.get(&key(2)), Some(2));
        node.close().unwrap();
    }
}

/// Places every entry as shared by the processes of one machine.
struct ForProcesses;

impl Selector for ForProcesses {
    fn place(&self, facts: &Facts, tiers: &[TierFacts]) -> Placement {
        Table.place(&Facts { sharing: Sharing::Processes, ..*facts }, tiers)
    }
}

#[test]
fn processes_that_share_files_do_not_share_clock_corrections() {
    let dir = tempfile::tempdir().unwrap();
    let machine = ManualClock::default();
    let open = || {
        let budget = DiskBudget::new(16 << 20);
        let folder = dir.path().join("files");
        let durability = Durability::Buffered;
        let options = FileOptions { dir: folder, shared: true, budget: budget.share(), durability };
        let mut plan = Plan::over(vec![Arc::new(FileTier::open(options).unwrap())]);
        plan.memory = false;
        plan.selector = Arc::new(ForProcesses);
        plan.clock = machine.clone();
        plan.build()
    };
    let insert = |engine: &Arc<TestEngine>, key: u64| {
        let minute = EntryOptions::new().ttl(MINUTE);
        block_on(engine.insert::<Blocking>(key, "a".into(), minute)).unwrap();
    };
    let right = machine.now();
    machine.advance(MINUTE * 120);
    let early = open();
    insert(&early, 9);
    machine.set(right);
    let late = open();
    insert(&early, 1);
    insert(&late, 2);
    for (engine, of) in [(&early, "the one that was there before"), (&late, "the other")] {
        for key in [1, 2] {
            let entry = block_on(engine.inspect::<Blocking>(&key)).unwrap();
            assert_minute(entry.and_then(|entry| entry.left), of);
        }
        assert_eq!(block_on(engine.get::<Blocking>(&9)).unwrap(), None, "its age is not known");
    }
    machine.advance(MINUTE);
    for engine in [early, late] {
        assert_eq!(block_on(engine.get::<Blocking>(&1)).unwrap(), None);
        assert_eq!(block_on(engine.get::<Blocking>(&2)).unwrap(), None);
        block_on(engine.close::<Blocking>()).unwrap();
    }
}
