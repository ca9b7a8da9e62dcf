//! The selector that learns: what it decides in a cache, how it explains itself, and what it keeps.
#![allow(clippy::disallowed_methods, reason = "a loader that takes a measured time")]

use std::time::Duration;

use larder::{Adaptive, Cache, Facts, Kind, Lesson, Selector, TierFacts, TierKind, TieredBuilder, ucache};
use tempfile::TempDir;

const MEDIUM: usize = 50_000;

fn builder(dir: &TempDir) -> TieredBuilder<u32, String> {
    ucache("adaptive").dir(dir.path())
}

/// Loads an entry that takes a while, so that its load cost is known.
fn load(cache: &Cache<u32, String>, key: u32, bytes: usize) -> String {
    cache.get_with(key, || {
        std::thread::sleep(Duration::from_micros(300));
        "x".repeat(bytes)
    })
}

/// Says of a tier that reads and writes take this long.
fn teach(selector: &Adaptive, tier: TierKind, time: Duration) {
    for _ in 0..50 {
        selector.learn(Lesson::Read { tier, bytes: MEDIUM as u64, time });
        selector.learn(Lesson::Written { tier, bytes: MEDIUM as u64, time });
    }
}

fn facts() -> Facts {
    Facts { load_cost: Some(Duration::from_millis(5)), ..Facts::new(MEDIUM as u64, Kind::Other) }
}

fn tiers(cache_dir: &TempDir) -> Vec<TierFacts> {
    let spy = Spy::default();
    let cache = builder(cache_dir).selector(spy.clone()).build().unwrap();
    cache.insert(1, "x".into());
    cache.close().unwrap();
    spy.tiers()
}

/// Remembers the tiers of a cache.
#[derive(Clone, Default)]
struct Spy(std::sync::Arc<std::sync::Mutex<Vec<TierFacts>>>);

impl Spy {
    fn tiers(&self) -> Vec<TierFacts> {
        self.0.lock().unwrap().clone()
    }
}

impl Selector for Spy {
    fn place(&self, facts: &Facts, tiers: &[TierFacts]) -> larder::Placement {
        *self.0.lock().unwrap() = tiers.to_vec();
        larder::Table.place(facts, tiers)
    }
}

#[test]
fn slow_tier_is_no_home_while_a_faster_one_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let selector = Adaptive::default();
    let cache = builder(&dir).selector(selector.clone()).build().unwrap();
    load(&cache, 1, MEDIUM);
    assert_eq!(cache.explain(&1).unwrap().home, Some(TierKind::Disk), "as the table says");
    teach(&selector, TierKind::Disk, Duration::from_millis(50));
    teach(&selector, TierKind::File, Duration::from_micros(100));
    load(&cache, 2, MEDIUM);
    assert_eq!(cache.explain(&2).unwrap().home, Some(TierKind::File), "files are faster now");
    cache.close().unwrap();
}

#[test]
fn hints_precede_what_was_learned() {
    let dir = tempfile::tempdir().unwrap();
    let selector = Adaptive::default();
    teach(&selector, TierKind::Disk, Duration::from_millis(50));
    let cache = builder(&dir).selector(selector).build().unwrap();
    let home = larder::EntryOptions::new().home(TierKind::Disk);
    let placement = cache.try_insert_with(1, "x".repeat(MEDIUM), home).unwrap();
    assert_eq!((placement.home, placement.reckoning), (TierKind::Disk, None), "{placement}");
    let long = larder::EntryOptions::new().persistence(larder::Persistence::LongTerm);
    let placement = cache.try_insert_with(2, "small".into(), long).unwrap();
    assert_ne!(placement.home, TierKind::Memory, "{placement}");
    cache.close().unwrap();
}

#[test]
fn placement_and_explanation_have_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let cache = builder(&dir).selector(Adaptive::default()).build().unwrap();
    load(&cache, 1, MEDIUM);
    let explanation = cache.explain(&1).unwrap();
    let reckoning = explanation.placement.unwrap().reckoning.unwrap();
    assert!(reckoning.load.unwrap() >= Duration::from_micros(300), "{reckoning:?}");
    assert!(reckoning.write > Duration::ZERO && reckoning.read > Duration::ZERO, "{reckoning:?}");
    let text = explanation.to_string();
    assert!(
        text.contains("load ") && text.contains(", read ") && text.contains("further requests a key"),
        "{text}"
    );
    cache.close().unwrap();
}

#[test]
fn writes_and_reads_of_a_cache_are_measured() {
    let dir = tempfile::tempdir().unwrap();
    let selector = Adaptive::default();
    let tiers = tiers(&tempfile::tempdir().unwrap());
    let write = |selector: &Adaptive| selector.place(&facts(), &tiers).reckoning.unwrap().write;
    let assumed = write(&selector);
    let cache = builder(&dir).selector(selector.clone()).build().unwrap();
    (0..20).for_each(|key| drop(load(&cache, key, MEDIUM)));
    assert_ne!(write(&selector), assumed);
    cache.close().unwrap();
}

#[test]
fn what_was_learned_outlives_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let tiers = tiers(&tempfile::tempdir().unwrap());
    let read = |selector: &Adaptive| selector.place(&facts(), &tiers).reckoning.unwrap().read;
    let first = Adaptive::default();
    let cache = builder(&dir).selector(first.clone()).build().unwrap();
    teach(&first, TierKind::Disk, Duration::from_micros(777));
    cache.close().unwrap();
    let second = Adaptive::default();
    assert_ne!(read(&second), read(&first));
    let cache = builder(&dir).selector(second.clone()).build().unwrap();
    assert_eq!(read(&second), read(&first));
    cache.close().unwrap();
}

#[test]
fn damaged_snapshot_changes_nothing() {
    let taught = Adaptive::default();
    teach(&taught, TierKind::Disk, Duration::from_millis(50));
    let snapshot = taught.snapshot().unwrap();
    let fresh = Adaptive::default();
    let before = fresh.snapshot().unwrap();
    for at in (0..snapshot.len()).step_by(997) {
        let mut flipped = snapshot.clone();
        flipped[at] ^= 1;
        assert!(!fresh.restore(&flipped), "flipped at {at}");
        assert!(!fresh.restore(&snapshot[..at]), "cut at {at}");
    }
    assert_eq!(fresh.snapshot().unwrap(), before);
    assert!(fresh.restore(&snapshot));
}

#[test]
fn selector_is_chosen_by_text() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    let url = format!("memory: sled://{path}?selector=adaptive file://{path}");
    let cache = ucache::<u32, String>("by text").url(url).build().unwrap();
    assert!(cache.try_insert(1, "x".repeat(MEDIUM)).unwrap().reckoning.is_some());
    cache.close().unwrap();
}
