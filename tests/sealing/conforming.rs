//! A sealed tier keeps every promise that its inner tier keeps.

use std::sync::Arc;

use larder_core::Durability;
use larder_core::tier::Tier;
use larder_seal::CacheKeys;
use larder_testkit::conformance::{self, Subject};
use larder_testkit::{HashMapTier, MapStorage, SharedMapStorage, SharedMapTier};
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
