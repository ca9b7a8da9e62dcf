//! Races of one key: a change during a load or a promotion wins over it, in every tier.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use larder::TierKind;
use larder_core::tier::Tier;
use larder_exec::runtime::{Blocking, block_on};
use larder_testkit::{FaultyTier, HashMapTier, Operation};

use crate::fixtures::{MEMORY_ENGINES, Plan, TestEngine, counts, get, insert, remove};

/// The name of a change, the change, and the value expected after it.
type Change = (&'static str, fn(&Arc<TestEngine>), Option<&'static str>);

const CHANGES: [Change; 4] = [
    ("insert", |engine| assert!(insert(engine, 1, "new").is_ok()), Some("new")),
    ("remove", |engine| assert!(remove(engine, 1).is_ok()), None),
    ("take", |engine| drop(block_on(engine.take::<Blocking>(&1)).unwrap()), None),
    ("clear", |engine| block_on(engine.clear::<Blocking>()).unwrap(), None),
];

fn disk() -> FaultyTier<HashMapTier> {
    FaultyTier::new(HashMapTier::new())
}

/// Every memory engine and policy, alone and over a tier, and a tier alone.
fn engines() -> Vec<(String, Arc<TestEngine>)> {
    let tier = || vec![Arc::new(disk()) as Arc<dyn Tier>];
    let mut engines = vec![("a tier alone".to_owned(), Plan::over(tier()).without_memory().build())];
    for memory_engine in MEMORY_ENGINES {
        let alone = Plan { memory_engine, ..Plan::over(vec![]) };
        let over = Plan { memory_engine, ..Plan::over(tier()) };
        engines.push((format!("memory alone, {memory_engine:?}"), alone.build()));
        engines.push((format!("memory and a tier, {memory_engine:?}"), over.build()));
    }
    engines
}

#[test]
fn change_during_a_load_wins_over_the_load() {
    for (change, make, expect) in CHANGES {
        for (name, engine) in engines() {
            let (started, on_start) = channel();
            let (go, on_go) = channel::<()>();
            let loader = thread::spawn({
                let engine = Arc::clone(&engine);
                move || {
                    let load = || async {
                        started.send(()).unwrap();
                        on_go.recv().unwrap();
                        "old".to_owned()
                    };
                    block_on(engine.get_with::<Blocking, _, _>(1, load))
                }
            });
            on_start.recv().unwrap();
            make(&engine);
            go.send(()).unwrap();
            assert_eq!(loader.join().unwrap(), "old", "the caller has what it loaded");
            assert_eq!(get(&engine, 1).as_deref(), expect, "{change} during a load, {name}");
            assert_eq!(engine.stats().cache.superseded, 1, "{change} during a load, {name}");
        }
    }
}

#[test]
fn load_started_before_remove_is_not_joined_after_it() {
    for (name, engine) in engines() {
        let (started, on_start) = channel();
        let (go, on_go) = channel::<()>();
        let loader = thread::spawn({
            let engine = Arc::clone(&engine);
            move || {
                let load = || async {
                    started.send(()).unwrap();
                    on_go.recv().unwrap();
                    "old".to_owned()
                };
                block_on(engine.get_with::<Blocking, _, _>(1, load))
            }
        });
        on_start.recv().unwrap();
        remove(&engine, 1).unwrap();
        let after = block_on(engine.get_with::<Blocking, _, _>(1, || async { "new".to_owned() }));
        go.send(()).unwrap();
        loader.join().unwrap();
        assert_eq!(after, "new", "{name}");
        assert_eq!(get(&engine, 1).as_deref(), Some("new"), "{name}");
    }
}

#[test]
fn change_during_a_promotion_wins_over_the_copy() {
    for (change, make, expect) in CHANGES {
        let tier = disk();
        insert(&over(&tier), 1, "old").unwrap();
        let engine = over(&tier);
        tier.stall(Operation::Get);
        let reader = thread::spawn({
            let engine = Arc::clone(&engine);
            move || get(&engine, 1)
        });
        tier.wait_until_stalled(Operation::Get, 1);
        // The reader already has its result. `take` reads too, so the tier must not stall then.
        if change == "take" {
            tier.release();
            reader.join().unwrap();
            make(&engine);
        } else if change == "remove" {
            // It reads the head first: an entry of an earlier cache may not be live.
            let changer = thread::spawn({
                let engine = Arc::clone(&engine);
                move || make(&engine)
            });
            tier.wait_until_stalled(Operation::Get, 2);
            tier.release();
            changer.join().unwrap();
            reader.join().unwrap();
        } else {
            make(&engine);
            tier.release();
            reader.join().unwrap();
        }
        assert_eq!(get(&engine, 1).as_deref(), expect, "{change} during a promotion");
    }
}

/// An engine over `tier` with empty memory.
fn over(tier: &FaultyTier<HashMapTier>) -> Arc<TestEngine> {
    Plan::over(vec![Arc::new(tier.clone()) as Arc<dyn Tier>]).build()
}

#[test]
fn concurrent_writers_leave_memory_and_tier_equal() {
    for round in 0..50 {
        let tier = disk();
        let engine = over(&tier);
        thread::scope(|scope| {
            for writer in 0..4 {
                let engine = &engine;
                scope.spawn(move || {
                    for n in 0..20 {
                        insert(engine, 1, &format!("{writer} {n}")).unwrap();
                        if (writer + n) % 7 == 0 {
                            remove(engine, 1).unwrap();
                        }
                    }
                });
            }
        });
        assert_eq!(engine.hit(&1), get(&over(&tier), 1), "round {round}: memory and tier do not agree");
    }
}

#[test]
fn concurrent_loads_inserts_and_removes_never_return_an_older_value() {
    // The source counts up before each insert or remove. A value that is read afterwards must not
    // be older than the last count the reader has seen.
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    for (name, engine) in engines() {
        let source = AtomicU64::new(1);
        thread::scope(|scope| {
            let (engine, source) = (&engine, &source);
            scope.spawn(move || {
                for n in 0..2_000 {
                    let next = source.load(SeqCst) + 1;
                    source.store(next, SeqCst);
                    if n % 3 == 0 {
                        remove(engine, 1).unwrap();
                    } else {
                        insert(engine, 1, &next.to_string()).unwrap();
                    }
                    let floor = next;
                    if let Some(found) = get(engine, 1) {
                        let found: u64 = found.parse().unwrap();
                        assert!(found >= floor, "{name}: found {found} after {floor} was written");
                    }
                }
            });
            for _ in 0..2 {
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        let load = || async { source.load(SeqCst).to_string() };
                        block_on(engine.get_with::<Blocking, _, _>(1, load));
                    }
                });
            }
        });
    }
}

#[test]
fn entry_that_changes_size_moves_to_another_tier_and_leaves_one_copy() {
    let disk = FaultyTier::new(HashMapTier::new());
    let file = FaultyTier::new(HashMapTier::new().with_kind(TierKind::File));
    let tiers = vec![Arc::new(disk) as Arc<dyn Tier>, Arc::new(file) as Arc<dyn Tier>];
    let engine = Plan::over(tiers).build();
    let homes = |engine: &Arc<TestEngine>| {
        let held = block_on(engine.explain::<Blocking>(&1)).unwrap().tiers;
        held.into_iter().filter(|kind| *kind != TierKind::Memory).collect::<Vec<_>>()
    };
    for (bytes, home) in [
        (100, TierKind::Disk),
        (2 << 20, TierKind::File),
        (100, TierKind::Disk),
        (500 << 10, TierKind::Disk),
        (3 << 20, TierKind::File),
    ] {
        let placement = insert(&engine, 1, &"x".repeat(bytes)).unwrap();
        assert_eq!(placement.home, home, "{bytes} bytes");
        assert_eq!(homes(&engine), [home], "{bytes} bytes");
        assert_eq!(get(&engine, 1).map(|value| value.len()), Some(bytes));
    }
    assert_eq!(engine.stats().cache.moves, 3);
    assert_eq!(counts(&engine, TierKind::Disk).refused, 0);
}
