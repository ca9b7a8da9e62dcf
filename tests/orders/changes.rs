//! A change during a load wins: no load that began before the change is stored after it.

use larder_exec::runtime::{Blocking, Tokio, block_on};

use crate::director::{ended, orders, task, thread};
use crate::far::Far;
use crate::stage::Stage;

/// Runs loads, a change, and reads, in threads and tasks.
macro_rules! change_among_loads {
    ($stage:expr, $verb:ident) => {
        orders(|| {
            let stage = $stage;
            let (load, change, reads) = (stage.clone(), stage.clone(), stage.clone());
            let load = task(async move { load.load::<Tokio>().await });
            let change = thread(move || block_on(change.$verb::<Blocking>()));
            let reads = thread(move || {
                block_on(reads.get::<Blocking>());
                block_on(reads.get::<Blocking>());
            });
            block_on(stage.load::<Blocking>());
            ended(load);
            change.join().unwrap();
            reads.join().unwrap();
            stage.judge();
        });
    };
}

#[test]
fn insert_during_loads_in_memory_wins() {
    change_among_loads!(Stage::memory(), insert);
}

#[test]
fn remove_during_loads_in_memory_wins() {
    change_among_loads!(Stage::memory(), remove);
}

#[test]
fn clear_during_loads_in_memory_wins() {
    change_among_loads!(Stage::memory(), clear);
}

#[test]
fn insert_during_loads_over_a_tier_wins() {
    change_among_loads!(Stage::over(&Far::new()), insert);
}

#[test]
fn remove_during_loads_over_a_tier_wins() {
    change_among_loads!(Stage::over(&Far::new()), remove);
}

#[test]
fn clear_during_loads_over_a_tier_wins() {
    change_among_loads!(Stage::over(&Far::new()), clear);
}

#[test]
fn remove_during_loads_in_a_tier_without_memory_wins() {
    change_among_loads!(Stage::only(&Far::new()), remove);
}

#[test]
fn insert_during_loads_over_a_blocking_tier_wins() {
    change_among_loads!(Stage::over(&Far::blocking()), insert);
}

/// A promotion from a tier does not overwrite a newer value in memory.
#[test]
fn promotion_during_changes_keeps_the_newer_value() {
    orders(|| {
        let far = Far::new();
        let stage = Stage::over(&far);
        block_on(stage.insert::<Blocking>());
        let stage = stage.reopened(&far);
        let (one, other, change) = (stage.clone(), stage.clone(), stage.clone());
        let one = task(async move { one.get::<Tokio>().await });
        let change = task(async move { change.insert::<Tokio>().await });
        let other = thread(move || block_on(other.get::<Blocking>()));
        block_on(stage.remove::<Blocking>());
        ended(one);
        ended(change);
        other.join().unwrap();
        stage.judge();
    });
}
