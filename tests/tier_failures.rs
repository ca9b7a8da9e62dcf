//! Failing tiers: the caller still gets an answer, and an old value never comes back.

use std::sync::Arc;

use larder::{ErrorKind, Persistence, TierKind};
use larder_core::frame::Frame;
use larder_core::tier::Tier;
use larder_exec::runtime::{Blocking, block_on};
use larder_testkit::{FaultyTier, HashMapTier, MapStorage, Operation, Times};

use crate::fixtures::{Plan, counts, get, insert, remove};

fn two() -> (FaultyTier<HashMapTier>, FaultyTier<HashMapTier>, Vec<Arc<dyn Tier>>) {
    let disk = FaultyTier::new(HashMapTier::new());
    let file = FaultyTier::new(HashMapTier::new().with_kind(TierKind::File));
    let tiers = vec![Arc::new(disk.clone()) as Arc<dyn Tier>, Arc::new(file.clone()) as Arc<dyn Tier>];
    (disk, file, tiers)
}

fn text(bytes: usize) -> String {
    "x".repeat(bytes)
}

#[test]
fn failing_read_leads_to_one_load() {
    let (disk, _, tiers) = two();
    let engine = Plan::over(tiers).without_memory().build();
    insert(&engine, 1, "stored").unwrap();
    disk.fail(Operation::Get, Times::Forever, ErrorKind::Unavailable);
    assert_eq!(block_on(engine.get::<Blocking>(&1)).unwrap_err().kind(), ErrorKind::Unavailable);
    let loaded = block_on(engine.get_with::<Blocking, _, _>(1, || async { "loaded".to_owned() }));
    assert_eq!(loaded, "loaded");
    assert_eq!(engine.stats().cache.loads, 1);
    assert_eq!(counts(&engine, TierKind::Disk).errors, 2);
    disk.heal();
    assert_eq!(get(&engine, 1).as_deref(), Some("loaded"));
}

#[test]
fn failing_write_goes_to_the_alternative_tier() {
    let (disk, _, tiers) = two();
    let engine = Plan::over(tiers).build();
    disk.fail(Operation::Put, Times::Forever, ErrorKind::Full);
    let placement = insert(&engine, 1, &text(2_000)).unwrap();
    assert_eq!(placement.home, TierKind::File);
    assert_eq!(get(&engine, 1), Some(text(2_000)));
    assert_eq!(counts(&engine, TierKind::File).fallbacks, 1);
}

#[test]
fn failed_write_in_all_tiers_removes_the_former_value() {
    let (disk, file, tiers) = two();
    let engine = Plan::over(tiers).without_memory().build();
    insert(&engine, 1, &text(2_000)).unwrap();
    disk.fail(Operation::Put, Times::Forever, ErrorKind::Full);
    file.fail(Operation::Put, Times::Forever, ErrorKind::Full);
    assert_eq!(insert(&engine, 1, &text(3_000)).unwrap_err().kind(), ErrorKind::Full);
    assert_eq!(get(&engine, 1), None);
    assert_eq!(engine.stats().cache.dropped, 1);
}

/// The fault: the selector leaves a tier out whose circuit for writes is open, and the error was that of an
/// entry that is too large, which no later attempt can mend.
#[test]
fn write_while_the_only_tier_is_down_fails_as_unavailable() {
    let disk = FaultyTier::new(HashMapTier::new());
    let engine = Plan::over(vec![Arc::new(disk.clone()) as Arc<dyn Tier>]).without_memory().build();
    disk.fail(Operation::Put, Times::Forever, ErrorKind::Io);
    let kinds: Vec<_> = (0..8).map(|key| insert(&engine, key, "any").unwrap_err().kind()).collect();
    assert_eq!(kinds[0], ErrorKind::Io);
    assert_eq!(kinds[7], ErrorKind::Unavailable, "the circuit is open: {kinds:?}");
    assert!(kinds.iter().all(|kind| kind.is_retryable()));
}

#[test]
fn entry_whose_removal_failed_is_not_served() {
    let (disk, _, tiers) = two();
    let engine = Plan::over(tiers).without_memory().build();
    insert(&engine, 1, "old").unwrap();
    disk.fail(Operation::Remove, Times::Forever, ErrorKind::Io);
    assert!(remove(&engine, 1).is_err());
    assert_eq!(get(&engine, 1), None, "the copy is still there, and not trusted");
    assert!(!block_on(engine.contains_key::<Blocking>(&1)).unwrap());
    disk.heal();
    assert_eq!(get(&engine, 1), None);
    insert(&engine, 1, "new").unwrap();
    assert_eq!(get(&engine, 1).as_deref(), Some("new"));
}

/// The fault: a batch asked only after its read whether a key is quarantined. A write that replaced the outdated
/// frame during the read had ended that.
#[test]
fn outdated_frame_that_is_replaced_while_a_batch_reads_it_is_not_served() {
    let (disk, _, tiers) = two();
    let engine = Plan::over(tiers).without_memory().build();
    insert(&engine, 1, "old").unwrap();
    disk.fail(Operation::Remove, Times::Forever, ErrorKind::Io);
    assert!(remove(&engine, 1).is_err());
    disk.hold_answers(Operation::GetMany, 1);
    std::thread::scope(|scope| {
        let batch = scope.spawn(|| block_on(engine.get_many::<Blocking>(&[1])));
        disk.wait_until_stalled(Operation::GetMany, 1);
        insert(&engine, 1, "new").unwrap();
        disk.release();
        assert_eq!(batch.join().unwrap(), [None], "it was removed before the read");
    });
    assert_eq!(get(&engine, 1).as_deref(), Some("new"));
}

#[test]
fn failed_write_does_not_revive_the_old_copy() {
    let (disk, file, tiers) = two();
    let engine = Plan::over(tiers).without_memory().build();
    insert(&engine, 1, &text(2_000)).unwrap();
    disk.fail_all(ErrorKind::Io);
    file.fail_all(ErrorKind::Io);
    assert!(insert(&engine, 1, &text(3_000)).is_err());
    disk.heal();
    file.heal();
    assert_eq!(get(&engine, 1), None);
}

#[test]
fn entry_moved_from_a_broken_tier_is_found_in_its_new_tier() {
    let (disk, _, tiers) = two();
    let engine = Plan::over(tiers).without_memory().build();
    insert(&engine, 1, &text(2_000)).unwrap();
    disk.fail_all(ErrorKind::Io);
    assert_eq!(insert(&engine, 1, &text(2 << 20)).unwrap().home, TierKind::File);
    disk.heal();
    assert_eq!(get(&engine, 1).map(|value| value.len()), Some(2 << 20), "not the old one on disk");
}

#[test]
fn tier_whose_clear_failed_serves_nothing_until_cleared() {
    let (disk, _, tiers) = two();
    let engine = Plan::over(tiers).without_memory().build();
    insert(&engine, 1, "old").unwrap();
    disk.fail(Operation::Clear, Times::Next(1), ErrorKind::Io);
    assert!(block_on(engine.clear::<Blocking>()).is_err());
    assert_eq!(get(&engine, 1), None);
    block_on(engine.clear::<Blocking>()).unwrap();
    insert(&engine, 1, "new").unwrap();
    assert_eq!(get(&engine, 1).as_deref(), Some("new"));
}

#[test]
fn foreign_frame_is_counted_and_removed() {
    let inner = HashMapTier::new();
    let tier = FaultyTier::new(inner);
    let engine = Plan::over(vec![Arc::new(tier.clone()) as Arc<dyn Tier>]).without_memory().build();
    insert(&engine, 1, "stored").unwrap();
    let key = larder_core::key::EncodedKey::new(vec![1]);
    let stored = block_on(tier.inner().get(&key)).unwrap().expect("the key 1 is one byte in MessagePack");
    let other = larder_core::key::EncodedKey::new(vec![2]);
    let foreign = Frame::new(&larder_testkit::sample::header(6), &other, b"", stored.slice(97..));
    block_on(tier.inner().put(&key, &foreign)).unwrap();
    assert_eq!(get(&engine, 1), None);
    assert_eq!(counts(&engine, TierKind::Disk).refused, 1);
    assert_eq!(block_on(tier.inner().get(&key)).unwrap(), None, "removed");
}

#[test]
fn loads_after_close_run_the_loader_each_time() {
    let (_, _, tiers) = two();
    let engine = Plan::over(tiers).build();
    insert(&engine, 1, "stored").unwrap();
    block_on(engine.close::<Blocking>()).unwrap();
    block_on(engine.close::<Blocking>()).unwrap();
    assert_eq!(get(&engine, 1), None);
    assert_eq!(insert(&engine, 1, "late").unwrap_err().kind(), ErrorKind::Closed);
    let loads = std::cell::Cell::new(0);
    for _ in 0..2 {
        let value = block_on(engine.get_with::<Blocking, _, _>(1, || async {
            loads.set(loads.get() + 1);
            "loaded".to_owned()
        }));
        assert_eq!(value, "loaded");
    }
    assert_eq!(loads.get(), 2);
}

#[test]
fn ephemeral_entries_are_not_written_to_persistent_tiers() {
    let storage = MapStorage::default();
    let disk = FaultyTier::new(HashMapTier::on(&storage));
    let mut plan = Plan::over(vec![Arc::new(disk.clone()) as Arc<dyn Tier>]);
    plan.persistence = Persistence::Ephemeral;
    let engine = plan.build();
    insert(&engine, 1, "here").unwrap();
    assert_eq!(get(&engine, 1).as_deref(), Some("here"));
    assert_eq!(disk.calls(Operation::Put), 0);
}
