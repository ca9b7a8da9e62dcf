//! A change during a load wins: no load that began before the change is stored after it.

use larder_exec::runtime::{Blocking, Tokio, block_on};

use crate::director::{ended, orders, task, thread};
use crate::scenario::Scenario;
use crate::suspending_tier::SuspendingTier;

/// Runs loads, a change, and reads, in threads and tasks.
macro_rules! change_among_loads {
    ($scenario:expr, $verb:ident) => {
        orders(|| {
            let scenario = $scenario;
            let (load, change, reads) = (scenario.clone(), scenario.clone(), scenario.clone());
            let load = task(async move { load.load::<Tokio>().await });
            let change = thread(move || block_on(change.$verb::<Blocking>()));
            let reads = thread(move || {
                block_on(reads.get::<Blocking>());
                block_on(reads.get::<Blocking>());
            });
            block_on(scenario.load::<Blocking>());
            ended(load);
            change.join().unwrap();
            reads.join().unwrap();
            scenario.judge();
        });
    };
}

#[test]
fn insert_during_loads_in_memory_wins() {
    change_among_loads!(Scenario::memory(), insert);
}

#[test]
fn remove_during_loads_in_memory_wins() {
    change_among_loads!(Scenario::memory(), remove);
}

#[test]
fn clear_during_loads_in_memory_wins() {
    change_among_loads!(Scenario::memory(), clear);
}

#[test]
fn insert_during_loads_over_a_tier_wins() {
    change_among_loads!(Scenario::over(&SuspendingTier::new()), insert);
}

#[test]
fn remove_during_loads_over_a_tier_wins() {
    change_among_loads!(Scenario::over(&SuspendingTier::new()), remove);
}

#[test]
fn clear_during_loads_over_a_tier_wins() {
    change_among_loads!(Scenario::over(&SuspendingTier::new()), clear);
}

#[test]
fn remove_during_loads_in_a_tier_without_memory_wins() {
    change_among_loads!(Scenario::only(&SuspendingTier::new()), remove);
}

#[test]
fn insert_during_loads_over_a_blocking_tier_wins() {
    change_among_loads!(Scenario::over(&SuspendingTier::blocking()), insert);
}

/// A promotion from a tier does not overwrite a newer value in memory.
#[test]
fn promotion_during_changes_keeps_the_newer_value() {
    orders(|| {
        let tier = SuspendingTier::new();
        let scenario = Scenario::over(&tier);
        block_on(scenario.insert::<Blocking>());
        let scenario = scenario.reopened(&tier);
        let (one, other, change) = (scenario.clone(), scenario.clone(), scenario.clone());
        let one = task(async move { one.get::<Tokio>().await });
        let change = task(async move { change.insert::<Tokio>().await });
        let other = thread(move || block_on(other.get::<Blocking>()));
        block_on(scenario.remove::<Blocking>());
        ended(one);
        ended(change);
        other.join().unwrap();
        scenario.judge();
    });
}
