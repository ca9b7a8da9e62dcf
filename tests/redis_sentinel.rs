//! Redis with Sentinel, and failovers.

use std::time::{Duration, Instant};

use larder::{Cache, ErrorKind, Tier, TierKind, ucache};
use larder_testkit::{RedisSentinels, RedisServer, block_on, sample};
use larder_tiers::redis::{RedisOptions, RedisTier};

use crate::redis::until;

fn cache(url: &str, dir: &std::path::Path) -> Cache<u64, String> {
    ucache("cache").dir(dir).redis(url).namespace("test").build().unwrap()
}

/// Loads and writes a key, without an error and in time. Returns the tier of the entry.
fn play(cache: &Cache<u64, String>, key: u64) -> TierKind {
    let (home, loads) = play_counted(cache, key);
    assert_eq!(loads, 1, "what was loaded is there");
    home
}

/// As [`play`], during a failover: a replica that becomes master may lack what the former master has acknowledged,
/// and a caller misses it then. Returns the number of loads as well.
fn play_counted(cache: &Cache<u64, String>, key: u64) -> (TierKind, u64) {
    let (start, mut loads) = (Instant::now(), 0);
    let misses = || cache.stats().cache.misses;
    let before = misses();
    for _ in 0..2 {
        let value = cache.get_with(key, || {
            loads += 1;
            key.to_string()
        });
        assert_eq!(value, key.to_string());
    }
    assert_eq!(loads, misses() - before, "a miss runs its loader once");
    let home = cache.try_insert(key, key.to_string()).unwrap().home;
    assert!(start.elapsed() < Duration::from_secs(10), "three calls took {:?}", start.elapsed());
    (home, loads)
}

/// The number of entries of a server. Neither tombstones nor load leases, which have no label of eight digits in
/// their names and go away by themselves; and an entry that a scan returns twice counts once.
fn held(server: &RedisServer) -> usize {
    let epoch_and_label = format!("{}:{}", "?".repeat(16), "?".repeat(8));
    let pattern = format!("test:cache:{{??}}:{epoch_and_label}:[sxh]:*");
    let names = server.cli(&["--scan", "--pattern", &pattern]);
    names.lines().collect::<std::collections::HashSet<_>>().len()
}

/// Breaks the master by `fault`, and uses the cache during the failover.
fn survives(fault: impl FnOnce(&mut RedisSentinels), what: &str) {
    let Some(mut watch) = RedisSentinels::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(&watch.url(), dir.path());
    let mut keys = 0_u64..;
    until("fifty entries in a row go to Redis", || {
        keys.by_ref().take(50).all(|key| play(&cache, key) == TierKind::Redis)
    });
    fault(&mut watch);
    until("the replica is master", || {
        keys.by_ref().take(1).for_each(|key| _ = play_counted(&cache, key));
        watch.servers()[1].cli(&["ROLE"]).starts_with("master")
    });
    let replicated = held(&watch.servers()[1]);
    let back = until("the new master is used", || {
        keys.by_ref().take(1).all(|key| play_counted(&cache, key).0 == TierKind::Redis)
            && held(&watch.servers()[1]) > replicated
    });
    // A machine that stands still for a second may lose the connection once more. Each call succeeds then too.
    until("fifty entries in a row go to the new master", || {
        let before = held(&watch.servers()[1]);
        // Pending writes are reconciled in the background, and come on top.
        keys.by_ref().take(50).all(|key| play(&cache, key) == TierKind::Redis)
            && held(&watch.servers()[1]) >= before + 50
    });
    let stats = cache.stats();
    println!("{what}: back after {back:?}, errors {}", stats.tier(TierKind::Redis).unwrap().counts.errors);
    assert_eq!((stats.cache.dropped, stats.cache.load_failures), (0, 0), "{stats}");
    // The server can only be shut down while it runs.
    watch.servers()[0].resume();
}

#[test]
fn stopped_master_is_replaced_without_errors() {
    survives(|watch| watch.servers()[0].pause(), "stopped");
}

#[test]
fn manual_failover_causes_no_errors() {
    let give_way = |watch: &mut RedisSentinels| {
        watch.sentinels()[0].cli(&["SENTINEL", "FAILOVER", "larder"]);
    };
    survives(give_way, "gave way");
}

/// A stopped master resumes as a master until the sentinels reconfigure it. Writes to it in between
/// would be lost.
#[test]
fn resumed_former_master_is_not_used() {
    let Some(mut watch) = RedisSentinels::start() else { return };
    let tier = RedisTier::open(RedisOptions::new(watch.url(), "test", "cache")).unwrap();
    tier.check().unwrap();
    let port = watch.servers()[0].port().to_string();
    watch.servers()[0].pause();
    until("the replica is master", || watch.servers()[1].cli(&["ROLE"]).starts_with("master"));
    until("all sentinels know", || {
        let told = |one: &RedisServer| one.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "larder"]);
        watch.sentinels().iter().all(|one| !told(one).contains(&port))
    });
    watch.servers()[0].resume();
    let key = sample::key(1);
    until("the tier is up", || tier.healthy());
    block_on(tier.put(&key, &sample::frame(&key, sample::payload(1, 10)))).unwrap();
    let at_the_new_one = watch.servers()[1].cli(&["--scan", "--pattern", "test:cache:*:[sxh]:*"]);
    assert_eq!(at_the_new_one.lines().count(), 1);
}

#[test]
fn tier_opens_with_one_sentinel_and_reports_unknown_master_names() {
    let Some(mut watch) = RedisSentinels::start() else { return };
    watch.sentinels()[0].kill();
    watch.sentinels()[1].pause();
    let start = Instant::now();
    let tier = RedisTier::open(RedisOptions::new(watch.url(), "test", "cache")).unwrap();
    tier.check().unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "opened after {:?}", start.elapsed());
    watch.sentinels()[1].resume();
    let unknown = watch.url().replace("/larder", "/pantry");
    let tier = RedisTier::open(RedisOptions::new(unknown, "test", "cache")).unwrap();
    let error = tier.check().unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("pantry"), "{error}");
}

#[test]
fn url_that_names_a_sentinel_as_server_is_a_clear_error() {
    let Some(mut watch) = RedisSentinels::start() else { return };
    let url = watch.sentinels()[0].url();
    let tier = RedisTier::open(RedisOptions::new(url, "test", "cache")).unwrap();
    let error = tier.check().unwrap_err().to_string();
    assert!(error.contains("is a sentinel") || error.contains("HELLO"), "{error}");
}
