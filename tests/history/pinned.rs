//! Regressions that random histories found, each with a fixed schedule.

use std::sync::Arc;
use std::thread;

use larder::ErrorKind;
use larder_core::tier::Tier;
use larder_exec::runtime::{Blocking, block_on};
use larder_testkit::{FaultyTier, HashMapTier, Operation, Times};

use crate::fixtures::{Plan, get, insert};

/// The fault: after a reader saw the new value, it read the old one. The cause: a read that missed
/// in memory found the new value in the tier, while the old value was still in memory.
#[test]
fn old_value_is_not_in_memory_while_a_tier_is_written() {
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

/// The fault: a value was read after `take` of it had failed.
#[test]
fn take_that_fails_to_read_removes_the_entry() {
    let tier = FaultyTier::new(HashMapTier::new());
    let rig = Plan::over(vec![Arc::new(tier.clone()) as Arc<dyn Tier>]).without_memory().build();
    insert(&rig, 1, "value").unwrap();
    tier.fail(Operation::Get, Times::Next(1), ErrorKind::Io);
    assert!(block_on(rig.take::<Blocking>(&1)).is_err());
    assert_eq!(get(&rig, 1), None);
}
