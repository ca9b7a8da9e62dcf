//! Keys of the Redis tier that go with it.

use std::time::Duration;

use larder::Tier;
use larder_core::clock::Time;
use larder_core::frame::{Frame, Header};
use larder_core::key::EncodedKey;
use larder_testkit::{RedisServer, block_on, sample};
use larder_tiers::redis::{RedisOptions, RedisTier};

use crate::redis::until;

/// It is renewed four times in that: a machine that stops for a second loses none.
const TENANCY: Duration = Duration::from_secs(2);

fn open(server: &RedisServer, tenancy: Option<Duration>) -> RedisTier {
    RedisTier::open(RedisOptions { tenancy, ..RedisOptions::new(server.url(), "shop", "leased") }).unwrap()
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

/// The server's own clock, in milliseconds.
fn millis(server: &RedisServer) -> u64 {
    let time = server.cli(&["TIME"]);
    let mut parts = time.lines().map(|part| part.parse::<u64>().unwrap());
    parts.next().unwrap() * 1000 + parts.next().unwrap() / 1000
}

#[test]
fn what_is_leased_lives_on_while_its_tier_does() {
    let Some(server) = RedisServer::start() else { return };
    let tier = open(&server, Some(TENANCY));
    put(&tier, 1);
    block_on(tier.put_many(&[(sample::key(2), sample::frame(&sample::key(2), sample::payload(2, 10)))]));
    let began = millis(&server);
    until("two leases are over", || millis(&server) > began + 2 * 2000 + 500);
    assert!(has(&tier, 1) && has(&tier, 2), "renewed");
    block_on(tier.close()).unwrap();
    assert_eq!(keys(&server), 0, "unlinked at the end, marks and all");
}

#[test]
fn what_is_leased_goes_by_itself_when_nobody_renews_it() {
    let Some(server) = RedisServer::start() else { return };
    let tier = open(&server, Some(TENANCY));
    put(&tier, 1);
    block_on(tier.clear()).unwrap();
    put(&tier, 2);
    // As with a killed process: nobody closes it, and it renews nothing.
    std::mem::forget(tier);
    server.cli(&["ACL", "SETUSER", "default", "-pexpire", "-set"]);
    until("all keys expire", || keys(&server) == 0);
}

#[test]
fn a_cache_that_is_destroyed_leaves_no_key() {
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
fn a_tier_that_is_dropped_takes_its_keys_along() {
    let Some(server) = RedisServer::start() else { return };
    let other = open(&server, None);
    put(&other, 1);
    let foreign = keys(&server);
    let leased =
        RedisOptions { tenancy: Some(TENANCY), ..RedisOptions::new(server.url(), "shop", "dropped") };
    let tier = RedisTier::open(leased).unwrap();
    put(&tier, 2);
    assert!(keys(&server) > foreign);
    drop(tier);
    assert_eq!(keys(&server), foreign, "its own, and no others");
    assert!(has(&other, 1));
}

#[test]
fn a_lease_keeps_no_entry_beyond_its_own_end() {
    let Some(server) = RedisServer::start() else { return };
    let tier = open(&server, Some(TENANCY * 2));
    let key = sample::key(1);
    // Past the first renewal, and before the end of the lease.
    let frame = ending_in(&key, TENANCY * 3 / 4);
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
