//! The Redis tier over Redis Cluster, with three masters that each test starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use larder::{EntryOptions, ErrorKind, SharedTier, Tier, TierKind, ucache};
use larder_core::bus::{Bus, Listener, Notice};
use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_testkit::conformance::{self, Subject};
use larder_testkit::{RedisCluster, RedisServer, block_on, sample};
use larder_tiers::redis::{RedisOptions, RedisTier};

use crate::redis::{Heard, until};

fn open(cluster: &RedisCluster) -> RedisTier {
    let tier = RedisTier::open(RedisOptions::new(cluster.url(), "test", "cache")).unwrap();
    tier.check().unwrap();
    tier
}

fn listening(cluster: &RedisCluster) -> (RedisTier, Arc<Heard>) {
    let options = RedisOptions { notices: true, ..RedisOptions::new(cluster.url(), "test", "cache") };
    let (tier, heard) = (RedisTier::open(options).unwrap(), Arc::new(Heard::default()));
    tier.listen(Arc::clone(&heard) as Arc<dyn Listener>);
    (tier, heard)
}

fn entry(number: u64, seed: u64) -> (EncodedKey, Frame) {
    let key = sample::key(number);
    let frame = sample::frame(&key, sample::payload(seed, 100));
    (key, frame)
}

fn put(tier: &RedisTier, number: u64, seed: u64) {
    let (key, frame) = entry(number, seed);
    block_on(tier.put(&key, &frame)).unwrap();
}

fn has(tier: &RedisTier, number: u64) -> bool {
    block_on(tier.get(&sample::key(number))).unwrap().is_some()
}

/// The number of times that a server has read from its clients.
fn reads(server: &RedisServer) -> u64 {
    server.info("total_reads_processed")
}

#[test]
fn redis_tier_conforms_over_a_cluster() {
    let Some(cluster) = RedisCluster::start(3, 0) else { return };
    let (url, next) = (cluster.url(), AtomicU64::new(0));
    let subject = Subject::new("cluster", move || {
        let namespace = format!("place {}", next.fetch_add(1, Ordering::Relaxed));
        let url = url.clone();
        move || RedisTier::open(RedisOptions::new(url.clone(), &namespace, "cache")).unwrap()
    });
    conformance::run(&subject).assert_all();
}

#[test]
fn entries_are_spread_counted_and_cleared_on_all_masters() {
    let Some(mut cluster) = RedisCluster::start(3, 0) else { return };
    let (one, other) = (open(&cluster), open(&cluster));
    (0..300).for_each(|number| put(&one, number, 1));
    assert!((0..300).all(|number| has(&other, number)));
    let held = |cluster: &mut RedisCluster| {
        let masters = cluster.masters().iter();
        masters
            .map(|node| node.cli(&["--scan", "--pattern", "*:[sxh]:*"]).lines().count())
            .collect::<Vec<_>>()
    };
    let spread = held(&mut cluster);
    assert!(spread.iter().sum::<usize>() == 300 && spread.iter().all(|held| *held > 50), "{spread:?}");
    block_on(one.flush()).unwrap();
    assert_eq!(one.usage().entries, 300);
    let mut heads = 0;
    block_on(one.scan(&mut |_| heads += 1)).unwrap();
    assert_eq!((heads, one.servers().len()), (300, 3));
    block_on(one.clear()).unwrap();
    assert!((0..300).all(|number| !has(&other, number)), "an older entry after a clear");
    until("what the clear left behind is unlinked", || held(&mut cluster) == [0, 0, 0]);
}

#[test]
fn batch_is_one_round_trip_per_master() {
    let Some(mut cluster) = RedisCluster::start(3, 0) else { return };
    let tier = open(&cluster);
    let entries: Vec<_> = (0..100).map(|number| entry(number, 1)).collect();
    let keys: Vec<_> = entries.iter().map(|(key, _)| key.clone()).collect();
    assert!(block_on(tier.put_many(&entries)).into_iter().all(|stored| stored.is_ok()));
    const ROUNDS: u64 = 100;
    for batch in ["get", "put", "remove"] {
        let before: Vec<_> = cluster.masters().iter().map(reads).collect();
        let begun = Instant::now();
        for _ in 0..ROUNDS {
            match batch {
                "get" => {
                    assert!(block_on(tier.get_many(&keys)).into_iter().all(|found| found.unwrap().is_some()))
                }
                "put" => assert!(block_on(tier.put_many(&entries)).into_iter().all(|stored| stored.is_ok())),
                _ => assert!(block_on(tier.remove_many(&keys)).into_iter().all(|removed| removed.is_ok())),
            }
        }
        for (master, before) in cluster.masters().iter().zip(before) {
            let reads = reads(master) - before;
            // Pings, and the queries for this count, come on top. A batch of puts is longer than
            // one read of a server.
            let most = if batch == "put" { 2 * ROUNDS } else { ROUNDS } + 20 + 8 * begun.elapsed().as_secs();
            assert!((ROUNDS..most).contains(&reads), "{batch}: {reads} reads of {ROUNDS} batches");
        }
    }
}

#[test]
fn moved_slots_are_followed() {
    let Some(cluster) = RedisCluster::start(3, 0) else { return };
    let (tier, heard) = listening(&cluster);
    (0..300).for_each(|number| put(&tier, number, 1));
    let slots = slots(&cluster, 0);
    let distrusts = heard.count(&Notice::Distrust);
    for slot in &slots {
        cluster.move_slot(*slot, (0, 1), false);
    }
    let keys: Vec<_> = (0..300).map(sample::key).collect();
    assert!(block_on(tier.get_many(&keys)).into_iter().all(|found| found.unwrap().is_some()));
    assert!((0..300).all(|number| has(&tier, number)));
    (0..300).for_each(|number| put(&tier, number, 2));
    until("what was told by the former master is distrusted", || heard.count(&Notice::Distrust) > distrusts);
    until("all that holds something is in contact", || {
        tier.last_contact().is_some_and(|at| at.elapsed() < Duration::from_millis(500))
    });
    let other = open(&cluster);
    (0..300).for_each(|number| put(&other, number, 3));
    until("the new master tells", || {
        (0..300).all(|number| heard.count(&Notice::Changed(sample::key(number))) > 0)
    });
}

/// While a slot migrates, its keys are on both masters: `ASK` and `TRYAGAIN` answers.
#[test]
fn entries_of_a_migrating_slot_are_found_written_and_cleared() {
    let Some(cluster) = RedisCluster::start(3, 0) else { return };
    let tier = open(&cluster);
    (0..300).for_each(|number| put(&tier, number, 1));
    let slots = slots(&cluster, 0);
    for slot in &slots {
        cluster.move_slot(*slot, (0, 1), true);
    }
    let keys: Vec<_> = (0..320).map(sample::key).collect();
    for _ in 0..2 {
        let found = block_on(tier.get_many(&keys)).into_iter().map(|found| found.unwrap().is_some());
        assert_eq!(found.filter(|found| *found).count(), 300);
    }
    assert!((0..300).all(|number| has(&tier, number)) && !has(&tier, 310));
    let entries: Vec<_> = (0..300).map(|number| entry(number, 2)).collect();
    for stored in block_on(tier.put_many(&entries)) {
        stored.unwrap();
    }
    assert!((0..300).all(|number| block_on(tier.contains(&sample::key(number))).unwrap()));
    assert!(block_on(tier.take(&sample::key(0))).unwrap().is_some() && !has(&tier, 0));
    put(&tier, 0, 3);
    for slot in &slots {
        cluster.finish_move(*slot, (0, 1));
    }
    assert!((0..300).all(|number| has(&tier, number)));
    block_on(tier.clear()).unwrap();
    assert!((0..300).all(|number| !has(&tier, number)));
}

/// Returns the slots of the partitions of this cache that a master holds.
fn slots(cluster: &RedisCluster, master: usize) -> Vec<u16> {
    let node = cluster.master(master);
    let slots = (0..64).map(|partition| node.cli(&["CLUSTER", "KEYSLOT", &format!("{{{partition:02x}}}")]));
    let slots = slots.map(|slot| slot.parse::<u16>().unwrap());
    slots
        .filter(|slot| (master * 16384 / 3..(master + 1) * 16384 / 3).contains(&usize::from(*slot)))
        .collect()
}

#[test]
fn last_contact_is_that_of_the_most_silent_master() {
    let Some(cluster) = RedisCluster::start(3, 0) else { return };
    let (tier, heard) = listening(&cluster);
    let other = open(&cluster);
    (0..100).for_each(|number| put(&other, number, 1));
    until("all changes", || (0..100).all(|number| heard.count(&Notice::Changed(sample::key(number))) == 1));
    let fresh = |limit| tier.last_contact().is_some_and(|at| at.elapsed() < limit);
    until("contact", || fresh(Duration::from_millis(400)));
    cluster.master(2).pause();
    let start = Instant::now();
    let found = block_on(tier.get_many(&(0..100).map(sample::key).collect::<Vec<_>>()));
    assert!(start.elapsed() < Duration::from_secs(4), "a batch took {:?}", start.elapsed());
    let (there, failed): (Vec<_>, Vec<_>) = found.into_iter().partition(Result::is_ok);
    assert!(there.len() > 40 && failed.len() > 10, "{} found, {} failed", there.len(), failed.len());
    assert!(failed.into_iter().all(|found| found.unwrap_err().kind() == ErrorKind::Unavailable));
    until("contact is older than a lease", || !fresh(Duration::from_millis(900)));
    assert!(!tier.healthy());
    cluster.master(2).resume();
    until("contact is fresh again", || fresh(Duration::from_millis(400)) && tier.healthy());
}

/// A master that is cut off from the others still answers pings, but does not serve its partitions.
#[test]
fn master_cut_off_from_its_cluster_is_no_contact() {
    let Some(cluster) = RedisCluster::start(3, 0) else { return };
    let (tier, _heard) = listening(&cluster);
    until("contact", || tier.last_contact().is_some());
    cluster.master(1).pause();
    cluster.master(2).pause();
    let down = || cluster.master(0).cli(&["CLUSTER", "INFO"]).contains("cluster_state:fail");
    until("it notices that it is alone", down);
    until("contact is old", || tier.last_contact().is_some_and(|at| at.elapsed() > Duration::from_secs(1)));
    cluster.master(1).resume();
    cluster.master(2).resume();
    until("all is well", || {
        tier.healthy() && tier.last_contact().is_some_and(|at| at.elapsed() < Duration::from_millis(500))
    });
}

#[test]
fn failover_causes_no_error_for_callers() {
    let Some(mut cluster) = RedisCluster::start(3, 1) else { return };
    let dir = tempfile::tempdir().unwrap();
    let cache = ucache::<u64, String>("cache").dir(dir.path()).redis(cluster.url()).namespace("test");
    let cache = cache.build().unwrap();
    let (mut next, mut slowest) = (0, Duration::ZERO);
    let mut play = || {
        next += 1;
        let (mut loads, start) = (0, Instant::now());
        let load = |loads: &mut u32| {
            *loads += 1;
            next.to_string()
        };
        for _ in 0..2 {
            assert_eq!(cache.get_with(next, || load(&mut loads)), next.to_string());
        }
        assert_eq!(loads, 1, "a miss runs its loader once");
        let placed = cache.try_insert(next, next.to_string()).unwrap();
        slowest = slowest.max(start.elapsed() / 3);
        placed.home
    };
    assert!((0..50).all(|_| play() == TierKind::Redis));
    cluster.masters()[0].kill();
    until("the loss is noticed", || play() != TierKind::Redis);
    let back = until("the replica took over", || play() == TierKind::Redis);
    assert!((0..50).all(|_| play() == TierKind::Redis));
    cluster.masters()[0].restart();
    assert!((0..50).all(|_| play() == TierKind::Redis));
    let stats = cache.stats();
    let redis = stats.tier(TierKind::Redis).unwrap().counts;
    println!("failover: back after {back:?}, the slowest call {slowest:?}, errors {}", redis.errors);
    assert!(redis.errors > 0 && stats.cache.dropped == 0 && stats.cache.load_failures == 0, "{stats}");
    assert!(slowest < Duration::from_secs(3), "a call took {slowest:?}");
}

#[test]
fn invalidation_reaches_entries_on_all_masters() {
    let Some(cluster) = RedisCluster::start(3, 0) else { return };
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [one, other] = dirs.each_ref().map(|dir| {
        let cache = ucache::<u64, u64>("cache").dir(dir.path()).redis(cluster.url()).namespace("test");
        cache.build().unwrap()
    });
    let there = |cache: &larder::Cache<u64, u64>| (0..100).filter(|key| cache.get(key).is_some()).count();
    for key in 0..100 {
        one.insert_with(key, key, EntryOptions::new().tag(if key % 2 == 0 { "even" } else { "odd" }));
    }
    until("the other has copies of all", || there(&other) == 100);
    one.invalidate_tag("even").unwrap();
    assert_eq!(there(&one), 50);
    let lag = until("the other heard", || there(&other) == 50);
    other.invalidate_all().unwrap();
    until("nothing is left", || there(&one) == 0);
    println!("a tag was heard of after {lag:?}");
    // Far below the time to live, with room for a machine that stood still.
    assert!(lag < Duration::from_secs(20), "{lag:?}");
    one.insert_many((0..100).map(|key| (key, key)));
    until("new ones serve", || there(&other) == 100);
    assert_eq!(other.remove_many(&(0..100).collect::<Vec<_>>()).unwrap(), 100);
    until("and go", || there(&one) == 0);
}

#[test]
fn cluster_that_starts_after_the_tier_is_used() {
    let Some(mut cluster) = RedisCluster::start(3, 0) else { return };
    let url = cluster.url();
    cluster.masters().iter_mut().for_each(RedisServer::kill);
    let start = Instant::now();
    let tier = RedisTier::open(RedisOptions::new(url, "test", "cache")).unwrap();
    assert!(start.elapsed() < Duration::from_secs(5) && !tier.healthy());
    assert_eq!(tier.check().unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(block_on(tier.get(&sample::key(1))).is_err());
    cluster.masters().iter_mut().for_each(RedisServer::restart);
    until("the cluster is used", || tier.healthy());
    put(&tier, 1, 1);
    assert!(has(&tier, 1));
}

#[test]
fn cluster_url_of_a_single_server_is_an_error() {
    let Some(server) = RedisServer::start() else { return };
    let url = format!("redis+cluster://127.0.0.1:{}", server.port());
    let tier = RedisTier::open(RedisOptions::new(url, "test", "cache")).unwrap();
    let error = tier.check().unwrap_err().to_string();
    assert!(error.contains("cluster support disabled"), "{error}");
}
