//! Ephemeral Redis keys, which live only as long as their tier.

use std::time::Duration;

use larder::Tier;
use larder_core::clock::Time;
use larder_core::frame::{Frame, Header};
use larder_core::key::EncodedKey;
use larder_testkit::{RedisServer, block_on, sample};
use larder_tiers::redis::{RedisOptions, RedisTier};

use crate::redis::until;

/// The lease is renewed four times in this span, so that a machine may stop for a second.
const EPHEMERAL_TTL: Duration = Duration::from_secs(2);

fn open(server: &RedisServer, ephemeral_ttl: Option<Duration>) -> RedisTier {
    RedisTier::open(RedisOptions { ephemeral_ttl, ..RedisOptions::new(server.url(), "shop", "leased") })
        .unwrap()
}

fn put(tier: &RedisTier, number: u64) {
    let key = sample::key(number);
    block_on(tier.put(&key, &sample::frame(&key, sample::payload(number, 100)))).unwrap();
}

fn has(tier: &RedisTier, number: u64) -> bool {
    block_on(tier.get(&sample::key(number))).unwrap().is_some()
}

fn keys(server: &RedisServer) -> u64 {
    server.cli(&["DBSIZE"]).parse().unwrap()
}

/// The clock of the server, in milliseconds.
fn millis(server: &RedisServer) -> u64 {
    let time = server.cli(&["TIME"]);
    let mut parts = time.lines().map(|part| part.parse::<u64>().unwrap());
    parts.next().unwrap() * 1000 + parts.next().unwrap() / 1000
}

#[test]
fn ephemeral_keys_live_as_long_as_their_tier() {
    let Some(server) = RedisServer::start() else { return };
    let tier = open(&server, Some(EPHEMERAL_TTL));
    put(&tier, 1);
    block_on(tier.put_many(&[(sample::key(2), sample::frame(&sample::key(2), sample::payload(2, 10)))]));
    let began = millis(&server);
    until("two leases are over", || millis(&server) > began + 2 * 2000 + 500);
    assert!(has(&tier, 1) && has(&tier, 2), "renewed");
    block_on(tier.close()).unwrap();
    assert_eq!(keys(&server), 0, "unlinked at the end, marks and all");
}

#[test]
fn ephemeral_keys_expire_without_renewal() {
    let Some(server) = RedisServer::start() else { return };
    let tier = open(&server, Some(EPHEMERAL_TTL));
    put(&tier, 1);
    block_on(tier.clear()).unwrap();
    put(&tier, 2);
    // Acts like a killed process: it neither closes the tier nor renews keys.
    std::mem::forget(tier);
    server.cli(&["ACL", "SETUSER", "default", "-pexpire", "-set"]);
    until("all keys expire", || keys(&server) == 0);
}

#[test]
fn destroyed_cache_leaves_no_key() {
    let Some(server) = RedisServer::start() else { return };
    let cache = larder::ucache::<u64, u64>("destroyed").url(format!("{}?namespace=shop", server.url()));
    let cache = cache.build().unwrap();
    (0..2000).for_each(|key| cache.insert(key, key));
    cache.clear().unwrap();
    (0..100).for_each(|key| cache.insert(key, key));
    assert!(keys(&server) > 100);
    cache.destroy().unwrap();
    assert_eq!(keys(&server), 0);
}

#[test]
fn dropped_tier_removes_its_keys() {
    let Some(server) = RedisServer::start() else { return };
    let other = open(&server, None);
    put(&other, 1);
    let foreign = keys(&server);
    let leased = RedisOptions {
        ephemeral_ttl: Some(EPHEMERAL_TTL),
        ..RedisOptions::new(server.url(), "shop", "dropped")
    };
    let tier = RedisTier::open(leased).unwrap();
    put(&tier, 2);
    assert!(keys(&server) > foreign);
    drop(tier);
    assert_eq!(keys(&server), foreign, "its own, and no others");
    assert!(has(&other, 1));
}

#[test]
fn renewal_does_not_extend_the_deadline_of_an_entry() {
    let Some(server) = RedisServer::start() else { return };
    let tier = open(&server, Some(EPHEMERAL_TTL * 2));
    let key = sample::key(1);
    // After the first renewal, and before the end of the lease.
    let frame = ending_in(&key, EPHEMERAL_TTL * 3 / 4);
    block_on(tier.put(&key, &frame)).unwrap();
    put(&tier, 2);
    until("it is gone, renewals or not", || !has(&tier, 1));
    assert!(has(&tier, 2));
}

fn ending_in(key: &EncodedKey, left: Duration) -> Frame {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let until = Time::from_millis(u64::try_from((now + left).as_millis()).unwrap());
    let payload = sample::payload(1, 100);
    let plain = sample::frame(key, payload.clone());
    let header = larder_core::frame::Head::parse(plain.head()).unwrap().header;
    let header = Header { deadline: until, stale_deadline: until, ..header };
    Frame::new(&header, key, &[], payload)
}
