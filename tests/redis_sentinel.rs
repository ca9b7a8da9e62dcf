//! Redis under the watch of sentinels, and failovers.

use std::time::{Duration, Instant};

use larder::{Cache, ErrorKind, Tier, TierKind, ucache};
use larder_testkit::{RedisSentinels, RedisServer, block_on, sample};
use larder_tiers::redis::{RedisOptions, RedisTier};

use crate::redis::until;

fn cache(url: &str, dir: &std::path::Path) -> Cache<u64, String> {
    ucache("cache").dir(dir).redis(url).namespace("test").build().unwrap()
}

/// Loads and writes a key, without an error and in time; where it went.
fn play(cache: &Cache<u64, String>, key: u64) -> TierKind {
    let (start, mut loads) = (Instant::now(), 0);
    for _ in 0..2 {
        let value = cache.get_with(key, || {
            loads += 1;
            key.to_string()
        });
        assert_eq!(value, key.to_string());
    }
    assert_eq!(loads, 1, "a miss runs its loader once");
    let home = cache.try_insert(key, key.to_string()).unwrap().home;
    assert!(start.elapsed() < Duration::from_secs(10), "three calls took {:?}", start.elapsed());
    home
}

/// How many entries a server has.
fn held(server: &RedisServer) -> usize {
    server.cli(&["--scan", "--pattern", "test:cache:*:[sxh]:*"]).lines().count()
}

/// Breaks the master by `fault`, and sees the cache through the failover.
fn survives(fault: impl FnOnce(&mut RedisSentinels), what: &str) {
    let Some(mut watch) = RedisSentinels::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(&watch.url(), dir.path());
    let mut keys = 0..;
    let mut play = || play(&cache, keys.next().unwrap());
    assert!((0..50).all(|_| play() == TierKind::Redis));
    fault(&mut watch);
    until("the replica is master", || {
        play();
        watch.servers()[1].cli(&["ROLE"]).starts_with("master")
    });
    let replicated = held(&watch.servers()[1]);
    let back = until("the new master is used", || {
        play() == TierKind::Redis && held(&watch.servers()[1]) > replicated
    });
    let before = held(&watch.servers()[1]);
    assert!((0..50).all(|_| play() == TierKind::Redis));
    // Writes that were made meanwhile are repaired in the background, and come on top.
    assert!(held(&watch.servers()[1]) - before >= 50);
    let stats = cache.stats();
    println!("{what}: back after {back:?}, errors {}", stats.tier(TierKind::Redis).unwrap().counts.errors);
    assert_eq!((stats.cache.dropped, stats.cache.load_failures), (0, 0), "{stats}");
    // The former master has to be there to be ended.
    watch.servers()[0].resume();
}

#[test]
fn a_master_that_is_stopped_is_replaced() {
    survives(|watch| watch.servers()[0].pause(), "stopped");
}

#[test]
fn a_master_that_gives_way_is_left() {
    let give_way = |watch: &mut RedisSentinels| {
        watch.sentinels()[0].cli(&["SENTINEL", "FAILOVER", "larder"]);
    };
    survives(give_way, "gave way");
}

/// A master that was stopped goes on as the master it was, until the sentinels
/// tell it otherwise: what it took in between would be lost.
#[test]
fn a_former_master_that_goes_on_is_not_used() {
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
fn some_sentinels_may_be_away_and_unknown_names_are_told() {
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
fn a_url_that_names_a_sentinel_as_the_server_says_so() {
    let Some(mut watch) = RedisSentinels::start() else { return };
    let url = watch.sentinels()[0].url();
    let tier = RedisTier::open(RedisOptions::new(url, "test", "cache")).unwrap();
    let error = tier.check().unwrap_err().to_string();
    assert!(error.contains("is a sentinel") || error.contains("HELLO"), "{error}");
}
