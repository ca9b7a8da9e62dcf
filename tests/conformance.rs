//! Every tier keeps the promises of its trait: bare, wrapped, behind pointers.

use std::sync::Arc;

use larder_engine::layers::Observe;
use larder_testkit::conformance::{self, Subject};
use larder_tiers::disk::{CROSSOVER_BYTES, DiskOptions, DiskTier};
use larder_tiers::file::{FileOptions, FileTier};
use larder_tiers::memory::{Bound, MokaStore, Policy, Store};
use larder_tiers::{NullTier, Space};

fn check(subject: &Subject) {
    conformance::run(subject).assert_all();
    conformance::run(&subject.through_arc()).assert_all();
    conformance::run(&subject.through_box()).assert_all();
    let observed = subject.wrapped("observed", |tier| Box::new(Observe::new(tier, Arc::default())));
    conformance::run(&observed).assert_all();
}

fn disk(name: &str, crossover: u64) -> Subject {
    Subject::new(name, move || {
        let dir = tempfile::tempdir().unwrap();
        move || {
            let dir = dir.path().join("disk");
            DiskTier::open(DiskOptions { dir, space: Space::new(256 << 20).share(), crossover }).unwrap()
        }
    })
}

#[test]
fn the_null_tier() {
    check(&Subject::new("null", || || NullTier));
}

fn file(name: &str, shared: bool) -> Subject {
    Subject::new(name, move || {
        let dir = tempfile::tempdir().unwrap();
        move || {
            let dir = dir.path().join("files");
            FileTier::open(FileOptions { dir, shared, space: Space::new(256 << 20).share() }).unwrap()
        }
    })
}

#[test]
fn the_file_tier() {
    check(&file("file", false));
}

#[test]
fn the_file_tier_that_processes_share() {
    conformance::run(&file("file, shared", true)).assert_all();
}

#[test]
fn the_disk_tier() {
    check(&disk("disk", CROSSOVER_BYTES));
}

#[test]
fn the_disk_tier_with_all_in_segments() {
    conformance::run(&disk("disk, segments alone", 0)).assert_all();
}

#[test]
fn the_memory_store() {
    for policy in [Policy::TinyLfu, Policy::Lru] {
        for (bound, max) in [(Bound::Entries(1000), None), (Bound::Bytes(10_000), Some(10_000))] {
            let name = format!("moka, {policy:?}, {bound:?}");
            conformance::memory(&name, max, || MokaStore::new(bound, policy)).assert_all();
            conformance::memory(&name, max, || Store::Moka(MokaStore::new(bound, policy))).assert_all();
        }
    }
}
