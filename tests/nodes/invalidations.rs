//! Invalidation across nodes: tags, `invalidate_all` and `clear`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use larder::{Cache, EntryOptions, ErrorKind, LoadContext, LoadError, Loaded, TierKind, ucache};
use larder_core::clock::Time;
use larder_core::invalidation::{Invalidation, InvalidationRecord, Known, SharedInvalidations};
use larder_testkit::{Proxy, RedisServer, block_on};
use larder_tiers::redis::{RedisOptions, RedisTier};
use parking_lot::Mutex;

use super::{Nodes, hits, key, until};

fn tagged(tag: &'static str) -> EntryOptions {
    EntryOptions::new().tag(tag)
}

/// Inserts keys 1 and 2 with one tag each, and key 3 without a tag.
fn fill(node: &Cache<String, u64>, value: u64) {
    node.insert_with(key(1), value, tagged("a"));
    node.insert_with(key(2), value, tagged("b"));
    node.insert(key(3), value);
}

fn there(node: &Cache<String, u64>) -> Vec<u64> {
    (1..=3).filter(|number| node.get(&key(*number)).is_some()).collect()
}

#[test]
fn invalidation_by_one_node_reaches_all_nodes() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (nodes.node(), nodes.node());
    fill(&one, 1);
    assert_eq!((there(&one), there(&other)), (vec![1, 2, 3], vec![1, 2, 3]));
    one.invalidate_tag("a").unwrap();
    assert_eq!(there(&one), [2, 3]);
    let lag = until("the copy of the other goes", || there(&other) == [2, 3]);
    println!("heard of a tag after {lag:?}");
    other.invalidate_tags(["b", "c"]).unwrap();
    assert_eq!(there(&other), [3]);
    until("the copy of the one goes", || there(&one) == [3]);
    other.invalidate_all().unwrap();
    until("everything goes", || there(&one).is_empty());
    fill(&other, 2);
    assert_eq!((there(&other), there(&one)), (vec![1, 2, 3], vec![1, 2, 3]));
}

#[test]
fn entry_read_from_redis_respects_invalidations_of_others_at_once() {
    let Some(mut nodes) = Nodes::start() else { return };
    let one = nodes.node();
    let other = nodes.builder().memory_bytes(0).build().unwrap();
    for round in 0..300 {
        one.insert_with(key(1), round, tagged("a"));
        assert_eq!(other.get(&key(1)), Some(round));
        match round % 3 {
            0 => one.invalidate_tag("a").unwrap(),
            1 => one.invalidate_all().unwrap(),
            _ => one.clear().unwrap(),
        }
        assert_eq!(other.get(&key(1)), None, "in round {round}");
    }
}

#[test]
fn write_after_an_invalidation_of_another_node_stays() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (nodes.node(), nodes.node());
    for round in 0..300 {
        match round % 3 {
            0 => one.invalidate_tag("a").unwrap(),
            1 => one.invalidate_all().unwrap(),
            _ => one.clear().unwrap(),
        }
        // This node may not have heard of the invalidation yet.
        other.insert_with(key(1), round, tagged("a"));
        assert_eq!(other.get(&key(1)), Some(round));
        until("both have it", || one.get(&key(1)) == Some(round));
        assert_eq!(other.get(&key(1)), Some(round));
    }
}

/// A write that an invalidation overtook was written again over the `take` of another node, so that a
/// second caller took the same value.
#[test]
fn value_is_taken_once_while_invalidations_overtake_its_write() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (writer, taker, invalidator) = (nodes.node(), nodes.node(), nodes.node());
    let is_over = AtomicBool::new(false);
    let mut taken = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                invalidator.invalidate_all().unwrap();
            }
        });
        let taken_by = |node: &Cache<String, u64>| {
            let mut taken = Vec::new();
            while !is_over.load(Ordering::SeqCst) {
                taken.extend(node.take(&key(1)).unwrap());
            }
            taken
        };
        let takers = [&taker, &invalidator].map(|node| scope.spawn(move || taken_by(node)));
        for value in 0..300 {
            // `Busy` after 100 invalidations during one write.
            let _stored = writer.try_insert(key(1), value);
        }
        is_over.store(true, Ordering::SeqCst);
        takers.into_iter().for_each(|taker| taken.extend(taker.join().unwrap()));
    });
    println!("{} of 300 values were taken", taken.len());
    assert!(taken.len() > 20, "the takers came too late");
    taken.sort_unstable();
    assert!(taken.windows(2).all(|pair| pair[0] != pair[1]), "a value was taken twice: {taken:?}");
}

#[test]
fn load_started_before_an_invalidation_of_another_node_is_invalidated() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (nodes.node(), nodes.node());
    let invalidating = one.clone();
    let loader = move |_: LoadContext<u64>| {
        invalidating.invalidate_tag("a").unwrap();
        Ok::<_, Infallible>(Loaded::Value(1).with(tagged("a")))
    };
    assert_eq!(other.load(key(1), loader).unwrap(), Some(1));
    until("neither has it", || one.get(&key(1)).is_none() && other.get(&key(1)).is_none());
}

#[test]
fn entry_invalidated_by_another_node_is_served_stale_when_the_load_fails() {
    let Some(mut nodes) = Nodes::start() else { return };
    let one = nodes.node();
    let other = nodes.builder().stale(Duration::from_secs(60)).build().unwrap();
    other.insert(key(1), 1);
    one.invalidate_all().unwrap();
    until("it expired", || other.get(&key(1)).is_none());
    let failed = |_: LoadContext<u64>| Err::<Loaded<u64>, _>(std::io::Error::other("no source"));
    let stale: Result<_, LoadError<std::io::Error>> = other.load(key(1), failed);
    assert_eq!(stale.unwrap(), Some(1));
}

#[test]
fn lost_invalidation_log_invalidates_all_entries() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (nodes.node(), nodes.node());
    let lose: [(&str, &[&str]); 3] = [
        ("unlinked", &["DEL", "nodes:shared:{00}:invalidated"]),
        ("of another type", &["SET", "nodes:shared:{00}:invalidated", "x"]),
        ("flushed", &["FLUSHALL"]),
    ];
    for (how, command) in lose {
        fill(&one, 1);
        one.invalidate_tag("a").unwrap();
        until("both know", || there(&one) == [2, 3] && there(&other) == [2, 3]);
        nodes.server.cli(command);
        until(how, || there(&one).is_empty() && there(&other).is_empty());
        fill(&other, 2);
        until("new ones serve", || there(&one) == [1, 2, 3] && there(&other) == [1, 2, 3]);
    }
}

#[test]
fn invalidation_without_contact_applies_locally_and_is_sent_afterwards() {
    let Some(mut nodes) = Nodes::start() else { return };
    let line = Proxy::to(nodes.server.port());
    let one = nodes.node();
    let cut_off = nodes.builder().redis(line.url()).build().unwrap();
    // The node's own entries: no late notice drops their copies.
    fill(&cut_off, 1);
    assert_eq!((there(&cut_off), there(&one)), (vec![1, 2, 3], vec![1, 2, 3]));
    line.swallow(true);
    let error = until_failed(&cut_off);
    assert_eq!((error.kind(), error.tier()), (ErrorKind::Unavailable, Some(TierKind::Redis)));
    assert_eq!(there(&cut_off), [2, 3], "its own copies, unconfirmed");
    assert_eq!(there(&one), [1, 2, 3]);
    line.swallow(false);
    line.cut();
    let lag = until("the other hears of it", || there(&one) == [2, 3] && there(&cut_off) == [2, 3]);
    println!("made {lag:?} after the partition");
    until("it is counted", || cut_off.stats().cache.repaired > 0);
}

fn until_failed(cut_off: &Cache<String, u64>) -> larder::Error {
    cut_off.invalidate_tag("a").expect_err("nobody answers")
}

#[test]
fn node_started_later_knows_earlier_invalidations() {
    let Some(mut nodes) = Nodes::start() else { return };
    let one = nodes.node();
    fill(&one, 1);
    one.invalidate_tag("a").unwrap();
    let late = nodes.node();
    assert_eq!(there(&late), [2, 3]);
    late.close().unwrap();
    one.invalidate_tag("b").unwrap();
    let again = nodes.node();
    assert_eq!(there(&again), [3]);
}

#[test]
fn invalidation_reaches_large_local_entries_of_other_nodes() {
    let Some(server) = RedisServer::start() else { return };
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [one, other] = dirs.each_ref().map(|dir| {
        ucache::<u64, larder::Bytes>("large").dir(dir.path()).redis(server.url()).build().unwrap()
    });
    let large = || larder::Bytes::from(vec![7_u8; 2 << 20]);
    let invalidations: [fn(&Cache<u64, larder::Bytes>); 3] = [
        |node| node.invalidate_tag("a").unwrap(),
        |node| node.invalidate_all().unwrap(),
        |node| node.clear().unwrap(),
    ];
    for invalidate in invalidations {
        other.insert_with(1, large(), tagged("a"));
        assert_eq!(other.explain(&1).unwrap().home, Some(TierKind::File));
        assert!(other.get(&1).is_some());
        invalidate(&one);
        until("its file does not serve", || other.get(&1).is_none());
    }
}

/// Readers load a value from a source. A writer changes the source, and then one of the nodes
/// invalidates the tag of all entries.
#[test]
fn invalidated_entry_is_not_served_past_the_lease() {
    const ROUNDS: u64 = 400;
    const LEASE: Duration = Duration::from_millis(300);
    const SLACK: Duration = Duration::from_millis(100);
    let Some(mut nodes) = Nodes::start() else { return };
    let caches: Vec<_> = (0..3).map(|_| nodes.builder().lease(LEASE).build().unwrap()).collect();
    let (source, done, reads) = (Arc::new(AtomicU64::new(0)), AtomicBool::new(false), AtomicU64::new(0));
    let acknowledged = Mutex::new(vec![Instant::now()]);
    thread::scope(|scope| {
        for (seed, cache) in (0..).zip(&caches) {
            let (source, done, reads, acknowledged) = (&source, &done, &reads, &acknowledged);
            scope.spawn(move || {
                let mut chance = fastrand::Rng::with_seed(seed);
                while !done.load(Ordering::Acquire) {
                    let at = key(chance.u64(..3));
                    let begun = Instant::now();
                    let of = Arc::clone(source);
                    let load = move |_: LoadContext<u64>| {
                        Ok::<_, Infallible>(Loaded::Value(of.load(Ordering::Acquire)).with(tagged("a")))
                    };
                    let value = cache.load(at, load).unwrap().unwrap();
                    let known = acknowledged.lock().partition_point(|at| *at + LEASE + SLACK < begun) as u64;
                    assert!(value + 1 >= known, "{value}, though {} was acknowledged before", known - 1);
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut chance = fastrand::Rng::with_seed(9);
        for round in 1..=ROUNDS {
            thread::park_timeout(Duration::from_micros(chance.u64(100..10_000)));
            source.store(round, Ordering::Release);
            caches[(round % 3) as usize].invalidate_tag("a").unwrap();
            acknowledged.lock().push(Instant::now());
        }
        done.store(true, Ordering::Release);
    });
    let hits: u64 = caches.iter().map(|cache| hits(cache, TierKind::Memory)).sum();
    println!("{} reads beside {ROUNDS} invalidations, {hits} of them from memory", reads.into_inner());
    assert!(hits > 50, "{hits}");
    assert!(caches.iter().all(|cache| cache.get_with(key(0), || ROUNDS) == ROUNDS));
}

fn exchange(tier: &RedisTier, made: &[Invalidation], known: Known) -> Vec<InvalidationRecord> {
    let made: Vec<_> = made.iter().map(|invalidation| (invalidation.clone(), Time::from_millis(5))).collect();
    block_on(tier.exchange(&made, known)).unwrap()
}

fn tag(number: u64) -> Invalidation {
    Invalidation::Tag(format!("tag {number}").into())
}

#[test]
fn invalidation_seq_only_rises_and_the_log_is_bounded() {
    let Some(server) = RedisServer::start() else { return };
    let open = || RedisTier::open(RedisOptions::new(server.url(), "nodes", "invalidations")).unwrap();
    let tier = open();
    let first = exchange(&tier, &[], Known::default());
    assert_eq!(
        first.iter().map(|marked| &marked.invalidation).collect::<Vec<_>>(),
        [&Invalidation::Cleared],
        "the beginning"
    );
    let floor = first[0].stamp;
    let heard = |stamp| Known { heard: stamp, count: stamp };
    let made = exchange(&tier, &[tag(1), tag(2)], heard(floor));
    assert_eq!(made.len(), 2);
    assert!(made.iter().all(|marked| marked.stamp == made[0].stamp && marked.at == Time::from_millis(5)));
    assert!(made[0].stamp > floor);
    assert_eq!(exchange(&open(), &[], Known::default()).len(), 3, "for a node that knows nothing");
    // A node whose own invalidations are ahead of the time of the server.
    let ahead = made[0].stamp + (1 << 40);
    let made = exchange(&tier, &[tag(3)], Known { heard: made[0].stamp, count: ahead });
    assert!(made[0].stamp > ahead, "{made:?}");
    let top = made[0].stamp;
    let made = exchange(&tier, &[tag(4)], heard(top));
    assert_eq!(made[0].stamp, top + 1, "not the time of the server, which is behind");
    let all: Vec<_> = (0..16_400).map(tag).collect();
    for some in all.chunks(1000) {
        exchange(&tier, some, heard(top));
    }
    let kept = exchange(&tier, &[], Known::default());
    assert!(kept.len() <= 16_384, "{}", kept.len());
    let cleared = kept.iter().find(|marked| marked.invalidation == Invalidation::Cleared).unwrap();
    let oldest = kept.iter().map(|marked| marked.stamp).min().unwrap();
    assert!(cleared.stamp > top && cleared.stamp <= oldest.max(cleared.stamp), "{cleared:?}");
    // A client that has heard of more invalidations than there are: some were lost.
    let known = kept.last().unwrap().stamp + 100;
    let after = exchange(&tier, &[], heard(known));
    assert_eq!(after.iter().map(|marked| &marked.invalidation).collect::<Vec<_>>(), [&Invalidation::Cleared]);
    assert!(after[0].stamp > known);
}

/// The fault: an acknowledged insert was lost. A node that had not yet heard of an invalidation wrote
/// an entry, another node removed it as outdated, and the first one took that for a removal by a caller.
#[test]
fn entry_written_before_an_invalidation_was_heard_of_survives_a_sweep() {
    let Some(mut nodes) = Nodes::start() else { return };
    let proxy = Proxy::to(nodes.server.port());
    let late = nodes.builder().redis(proxy.url()).memory_bytes(0).build().unwrap();
    let other = nodes.builder().memory_bytes(0).build().unwrap();
    late.insert(key(0), 0);
    until("both nodes are connected", || other.get(&key(0)) == Some(0));
    let mut swept = 0;
    for round in 1..=3 {
        proxy.delay(Duration::from_millis(100));
        other.invalidate_tag("a").unwrap();
        thread::scope(|scope| {
            let insert = scope.spawn(|| late.insert_with(key(round), round, tagged("a")));
            while !insert.is_finished() {
                swept += other.try_sweep().unwrap();
            }
        });
        proxy.delay(Duration::ZERO);
        assert_eq!((other.get(&key(round)), late.get(&key(round))), (Some(round), Some(round)));
    }
    assert!(swept > 0, "no entry was removed as outdated");
}
