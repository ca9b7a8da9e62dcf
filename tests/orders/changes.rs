//! A change during a load wins: nothing that began before it is stored after it.

use larder_exec::runtime::{Blocking, Tokio, block_on};

use crate::director::{ended, orders, task, thread};
use crate::far::Far;
use crate::stage::Stage;

/// Loads, a change, and reads, in threads and tasks.
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
fn an_insert_in_memory() {
    change_among_loads!(Stage::memory(), insert);
}

#[test]
fn a_removal_in_memory() {
    change_among_loads!(Stage::memory(), remove);
}

#[test]
fn a_clear_in_memory() {
    change_among_loads!(Stage::memory(), clear);
}

#[test]
fn an_insert_over_a_tier() {
    change_among_loads!(Stage::over(&Far::new()), insert);
}

#[test]
fn a_removal_over_a_tier() {
    change_among_loads!(Stage::over(&Far::new()), remove);
}

#[test]
fn a_clear_over_a_tier() {
    change_among_loads!(Stage::over(&Far::new()), clear);
}

#[test]
fn a_removal_in_a_tier() {
    change_among_loads!(Stage::only(&Far::new()), remove);
}

#[test]
fn an_insert_over_a_tier_that_blocks() {
    change_among_loads!(Stage::over(&Far::blocking()), insert);
}

/// What a reader takes from a tier is not put into memory over a newer value.
#[test]
fn a_promotion_among_changes() {
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
