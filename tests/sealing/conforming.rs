//! A sealed tier keeps every promise that its inner tier keeps.

use std::sync::Arc;

use larder_core::Durability;
use larder_core::tier::Tier;
use larder_seal::CacheKeys;
use larder_testkit::conformance::{self, Subject};
use larder_testkit::{HashMapTier, MapStorage, SharedMapStorage, SharedMapTier, block_on, sample};
use larder_tiers::DiskBudget;
use larder_tiers::disk::{CROSSOVER_BYTES, DiskOptions, DiskTier};
use larder_tiers::file::{FileOptions, FileTier};

use super::keys;

fn sealed(subject: &Subject) -> Subject {
    subject.wrapped("sealed", |tier| {
        let keys = keys(1);
        Box::new(CacheKeys::new(&keys, "conforming").seal(Arc::new(tier), "place", &keys))
    })
}

fn check(subject: &Subject) {
    conformance::run(&sealed(subject)).assert_all();
}

/// No check is left out for the sealed tier that applies to the bare one.
fn check_beside_bare(subject: &Subject) {
    let (bare, sealed) = (conformance::run(subject), conformance::run(&sealed(subject)));
    sealed.assert_all();
    assert_eq!(sealed.outcomes(), bare.outcomes());
}

#[test]
fn sealed_maps_conform() {
    check_beside_bare(&Subject::new("hash map", || {
        let storage = MapStorage::default();
        move || HashMapTier::on(&storage)
    }));
    check_beside_bare(&Subject::new("shared map", || {
        let storage = SharedMapStorage::default();
        move || SharedMapTier::on(&storage)
    }));
}

#[test]
fn sealed_disk_conforms() {
    check(&Subject::new("disk", || {
        let dir = tempfile::tempdir().unwrap();
        move || {
            let budget = DiskBudget::new(256 << 20).share();
            let (dir, durability) = (dir.path().join("disk"), Durability::Buffered);
            DiskTier::open(DiskOptions { dir, budget, crossover: CROSSOVER_BYTES, durability }).unwrap()
        }
    }));
}

/// A sealed tier hid that its inner tier answers without a future, so threads took the longer path.
#[test]
fn sealed_disk_answers_without_a_future_and_a_sealed_map_does_not() {
    let (dir, keys) = (tempfile::tempdir().unwrap(), keys(1));
    let (dir, budget) = (dir.path().join("disk"), DiskBudget::new(256 << 20).share());
    let options = DiskOptions { dir, budget, crossover: CROSSOVER_BYTES, durability: Durability::Buffered };
    let disk = Arc::new(DiskTier::open(options).unwrap());
    let of_cache = CacheKeys::new(&keys, "conforming");
    let sealed = of_cache.seal(Arc::clone(&disk) as Arc<dyn Tier>, "place", &keys);
    let (one, other) = (sample::key(1), sample::key(2));
    let frame = sample::frame(&one, sample::payload(1, 1_000));
    let now = sealed.blocking().unwrap();
    now.put_blocking(&one, &frame).unwrap();
    assert_eq!(block_on(sealed.get(&one)).unwrap().as_deref(), Some(&frame.to_vec()[..]));
    assert_eq!(now.get_blocking(&one).unwrap().as_deref(), Some(&frame.to_vec()[..]));
    assert_eq!(now.get_blocking(&other).unwrap(), None);
    assert_eq!(block_on(disk.get(&one)).unwrap(), None, "its name is sealed");
    assert!(now.remove_blocking(&one).unwrap() && !now.remove_blocking(&one).unwrap());
    assert_eq!(block_on(sealed.get(&one)).unwrap(), None);
    let map = of_cache.seal(Arc::new(HashMapTier::new()), "place", &keys);
    assert!(map.blocking().is_none());
}

#[test]
fn sealed_files_conform() {
    for shared in [false, true] {
        check(&Subject::new(format!("files, shared: {shared}"), move || {
            let dir = tempfile::tempdir().unwrap();
            move || {
                let budget = DiskBudget::new(256 << 20).share();
                let (dir, durability) = (dir.path().join("files"), Durability::Buffered);
                FileTier::open(FileOptions { dir, shared, budget, durability }).unwrap()
            }
        }));
    }
}

#[test]
#[cfg(feature = "redis")]
fn sealed_redis_conforms() {
    use std::sync::atomic::{AtomicU64, Ordering};

    use larder_tiers::redis::{RedisOptions, RedisTier};

    let Some(server) = larder_testkit::RedisServer::start() else { return };
    let (url, next) = (server.url(), AtomicU64::new(0));
    check(&Subject::new("redis", move || {
        let namespace = format!("place {}", next.fetch_add(1, Ordering::Relaxed));
        let url = url.clone();
        move || RedisTier::open(RedisOptions::new(url.clone(), &namespace, "cache")).unwrap()
    }));
}

#[test]
fn sealed_tier_declares_room_for_what_sealing_adds() {
    let keys = keys(1);
    let small = HashMapTier::new();
    let capability = larder::Capability { frame_bytes_max: 2 << 20, ..small.capability() };
    let tier = CacheKeys::new(&keys, "c").seal(Arc::new(small.with_capability(capability)), "p", &keys);
    let declared = tier.capability().frame_bytes_max;
    assert!(declared < 2 << 20 && declared > 1 << 20, "{declared}");
}
