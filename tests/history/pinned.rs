//! What random histories found, each by a schedule of its own.

use std::sync::Arc;
use std::thread;

use larder::ErrorKind;
use larder_core::tier::Tier;
use larder_exec::runtime::{Blocking, block_on};
use larder_testkit::{FaultyTier, HashMapTier, Operation, Times};

use crate::fixtures::{Plan, get, insert};

/// A reader that missed in memory could find the new value in the tier, and
/// the old one in memory when it asked again.
#[test]
fn while_a_tier_is_written_the_old_value_is_not_in_memory() {
    let tier = FaultyTier::new(HashMapTier::new());
    let rig = Plan::over(vec![Arc::new(tier.clone()) as Arc<dyn Tier>]).build();
    insert(&rig, 1, "old").unwrap();
    assert_eq!(rig.hit(&1).as_deref(), Some("old"));
    tier.stall(Operation::Put);
    thread::scope(|scope| {
        scope.spawn(|| insert(&rig, 1, "new").unwrap());
        tier.wait_until_stalled(Operation::Put, 1);
        assert_eq!(rig.hit(&1), None);
        assert_eq!(get(&rig, 1).as_deref(), Some("old"), "from the tier");
        assert_eq!(rig.hit(&1), None, "nor is it promoted");
        tier.release();
    });
    assert_eq!(rig.hit(&1).as_deref(), Some("new"));
}

#[test]
fn what_was_to_be_taken_and_could_not_be_read_is_gone() {
    let tier = FaultyTier::new(HashMapTier::new());
    let rig = Plan::over(vec![Arc::new(tier.clone()) as Arc<dyn Tier>]).without_memory().build();
    insert(&rig, 1, "value").unwrap();
    tier.fail(Operation::Get, Times::Next(1), ErrorKind::Io);
    assert!(block_on(rig.take::<Blocking>(&1)).is_err());
    assert_eq!(get(&rig, 1), None);
}
