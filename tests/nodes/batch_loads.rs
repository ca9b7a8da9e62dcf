//! Batch loads of many keys that several nodes share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use larder::{Cache, TierKind};
use larder_testkit::Proxy;

use super::{Nodes, key, moment, until};

fn keys(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(key).collect()
}

/// Loads each key. The value is the length of the key.
fn lengths(missing: Vec<String>) -> Vec<(String, u64)> {
    missing.into_iter().map(|key| (key.clone(), key.len() as u64)).collect()
}

#[test]
fn batch_load_of_a_hundred_keys_takes_few_round_trips() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (line, other) = (Proxy::to(nodes.server.port()), nodes.node());
    let one = nodes.builder().redis(line.url()).build().unwrap();
    line.delay(Duration::from_millis(50));
    let wanted = keys(0..100);
    let begun = Instant::now();
    let loaded = one.get_many_with(wanted.clone(), lengths);
    let took = begun.elapsed();
    println!("a load of 100 keys took {took:?} where each answer takes 50 ms");
    // Loading key by key would take 15 s.
    assert!(took < Duration::from_secs(8), "{took:?}");
    line.delay(Duration::ZERO);
    let expected: Vec<_> = wanted.iter().map(|key| Some(key.len() as u64)).collect();
    assert_eq!(loaded, expected);
    let nothing = |missing: Vec<String>| -> Vec<(String, u64)> { panic!("{missing:?} are there") };
    assert_eq!(other.get_many_with(wanted, nothing), expected);
    let counts = one.stats().cache;
    assert_eq!((counts.loads, counts.published, counts.superseded), (1, 100, 0));
}

#[test]
fn overlapping_batches_load_each_key_once_without_deadlock() {
    let Some(mut nodes) = Nodes::start() else { return };
    let caches: Vec<_> = (0..3).map(|_| nodes.node()).collect();
    let loads = AtomicU64::new(0);
    for round in 0..20 {
        let barrier = Barrier::new(caches.len());
        thread::scope(|scope| {
            for (at, cache) in (0..).zip(&caches) {
                let (loads, barrier) = (&loads, &barrier);
                scope.spawn(move || {
                    // Each batch shares half of its 20 keys with each other batch. Each batch has
                    // another order.
                    let mut wanted = keys((0..20).map(|step| round * 100 + (at * 10 + step) % 30));
                    wanted.rotate_left(at as usize * 7);
                    barrier.wait();
                    let values = cache.get_many_with(wanted.clone(), |missing| {
                        loads.fetch_add(missing.len() as u64, Ordering::Relaxed);
                        until("a moment", moment());
                        lengths(missing)
                    });
                    assert!(wanted.iter().zip(values).all(|(key, value)| value == Some(key.len() as u64)));
                });
            }
        });
    }
    assert_eq!(loads.into_inner(), 20 * 30);
}

#[test]
fn keys_that_another_node_failed_to_load_are_loaded_here() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (nodes.node(), nodes.node());
    let begun = Instant::now();
    thread::scope(|scope| {
        let ((leads, led), (loads, loading)) = (mpsc::channel(), mpsc::channel());
        scope.spawn(move || {
            let failed = one.try_get_many_with(keys(0..10), |_| {
                leads.send(()).unwrap();
                loading.recv().unwrap();
                Err::<Vec<(String, u64)>, _>("no values")
            });
            assert!(failed.is_err());
        });
        led.recv().unwrap();
        let mut asked = Vec::new();
        let values = other.get_many_with(keys(5..15), |missing| {
            asked.push(missing.len());
            // The failing load has ended before the second call, so this send may fail.
            let _heard = loads.send(());
            lengths(missing)
        });
        assert!(values.iter().all(Option::is_some));
        assert_eq!(asked, [5, 5], "its own first, then what the other left");
    });
    assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
}

type Change = fn(&Cache<String, u64>, &String) -> Option<u64>;

#[test]
fn change_of_another_node_wins_over_a_batch_load() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (nodes.node(), nodes.node());
    let changes: [(&str, Change); 4] = [
        ("insert", |node, key| {
            node.insert(key.clone(), 77);
            Some(77)
        }),
        ("insert and remove", |node, key| {
            node.insert(key.clone(), 77);
            assert!(node.remove(key));
            None
        }),
        ("remove", |node, key| {
            assert!(!node.remove(key));
            None
        }),
        ("clear", |node, _| {
            node.clear().unwrap();
            None
        }),
    ];
    // Each change has its own keys. Otherwise a late notice of an earlier change would supersede
    // a load.
    for ((what, change), from) in changes.into_iter().zip([0, 10, 20, 30]) {
        let (changed, untouched) = (key(from + 3), key(from + 4));
        let mut expected = None;
        let values = one.get_many_with(keys(from..from + 10), |missing| {
            expected = change(&other, &changed);
            lengths(missing)
        });
        assert!(values.iter().all(Option::is_some), "who loads has its values: {what}");
        until(what, || one.get(&changed) == expected && other.get(&changed) == expected);
        if what != "clear" {
            assert_eq!(other.get(&untouched), Some(untouched.len() as u64), "{what}");
        }
    }
}

#[test]
fn batch_load_during_an_outage_is_stored_afterwards() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (nodes.node(), nodes.node());
    nodes.server.pause();
    until("the node notices", || one.try_insert(key(1000), 1).unwrap().home != TierKind::Redis);
    let loads = AtomicU64::new(0);
    let load = || {
        one.get_many_with(keys(0..50), |missing| {
            loads.fetch_add(missing.len() as u64, Ordering::Relaxed);
            lengths(missing)
        })
    };
    assert!(load().iter().chain(&load()).all(Option::is_some));
    assert_eq!(loads.load(Ordering::Relaxed), 50, "the second time they are there");
    nodes.server.resume();
    until("the other has them", || other.get_many(&keys(0..50)).iter().all(Option::is_some));
}

#[test]
fn batch_within_a_load_does_not_wait_for_other_nodes() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (nodes.node(), nodes.node());
    // Each node loads one key. Within that load, it loads a batch that includes the key of the
    // other node.
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        for (cache, own, foreign) in [(&one, 1, 2), (&other, 2, 1)] {
            let barrier = &barrier;
            scope.spawn(move || {
                let sum = cache.get_with(key(own), || {
                    barrier.wait();
                    let parts = cache.get_many_with(keys([foreign, own + 10]), lengths);
                    parts.into_iter().flatten().sum()
                });
                assert!(sum > 0);
            });
        }
    });
}
