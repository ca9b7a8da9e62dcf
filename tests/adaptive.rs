//! The selector that learns: what it decides in a cache, how it explains itself, and what it keeps.
#![allow(clippy::disallowed_methods, reason = "a loader that takes a measured time")]

use std::time::Duration;

use larder::{
    Access, Adaptive, Cache, Event, Facts, Kind, Lesson, Policy, Selector, TierFacts, TierKind,
    TieredBuilder, ucache,
};
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

/// Says that each of these keys, whose entries are on disk, was requested so often.
fn request(selector: &Adaptive, keys: u64, times: usize) {
    for key in std::iter::repeat_n(0..keys, times).flatten() {
        let key = Some(key.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let facts = Facts { key, found: Some(TierKind::Disk), ..facts() };
        selector.learn(Lesson::Requested { facts: &facts, found: facts.found });
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

/// A cache on disk whose disk became slow, after it was told of many requests for few keys.
fn slow_disk(dir: &TempDir) -> TieredBuilder<u32, String> {
    let selector = Adaptive::default();
    let cache = builder(dir).selector(selector.clone()).build().unwrap();
    load(&cache, 1, MEDIUM);
    assert_eq!(cache.explain(&1).unwrap().home, Some(TierKind::Disk));
    cache.close().unwrap();
    let selector = Adaptive::default();
    request(&selector, 16, 512);
    teach(&selector, TierKind::Disk, Duration::from_millis(50));
    teach(&selector, TierKind::File, Duration::from_micros(100));
    // What the former cache had learned would replace that.
    std::fs::remove_file(find(dir.path(), "learned").unwrap()).unwrap();
    builder(dir).access(Access::WriteHeavy).selector(selector)
}

fn find(dir: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    let entries = || std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &std::path::PathBuf| path.file_name().is_some_and(|file| file == name);
    entries()
        .find(is_it)
        .or_else(|| entries().filter(|path| path.is_dir()).find_map(|path| find(&path, name)))
}

#[test]
fn entry_that_is_read_moves_from_a_slow_tier_to_a_faster_one() {
    let dir = tempfile::tempdir().unwrap();
    let moves = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&moves);
    let on_event = move |event: Event<u32>| {
        if let Event::Moved { key, from, to } = event {
            seen.lock().unwrap().push((*key, from, to));
        }
    };
    let cache = slow_disk(&dir).on_event(on_event).build().unwrap();
    let value = "x".repeat(MEDIUM);
    (0..20).for_each(|_| assert_eq!(cache.get(&1).as_ref(), Some(&value)));
    let explanation = cache.explain(&1).unwrap();
    assert_eq!((explanation.home, &explanation.tiers[..]), (Some(TierKind::File), &[TierKind::File][..]));
    assert_eq!(cache.stats().cache.moves, 1);
    cache.close().unwrap();
    assert_eq!(*moves.lock().unwrap(), [(1, TierKind::Disk, TierKind::File)]);
}

#[tokio::test]
async fn entry_that_a_task_reads_moves_too() {
    let dir = tempfile::tempdir().unwrap();
    let cache = slow_disk(&dir).build().unwrap().to_async();
    for _ in 0..20 {
        assert_eq!(cache.get(&1).await.map(|value| value.len()), Some(MEDIUM));
    }
    assert_eq!(cache.explain(&1).await.unwrap().tiers, [TierKind::File]);
    cache.close().await.unwrap();
}

#[test]
fn removed_entry_stays_removed_after_it_moved() {
    let dir = tempfile::tempdir().unwrap();
    let cache = slow_disk(&dir).build().unwrap();
    (0..20).for_each(|_| assert!(cache.get(&1).is_some()));
    assert_eq!(cache.explain(&1).unwrap().tiers, [TierKind::File]);
    cache.remove(&1);
    assert_eq!(cache.get(&1), None);
    cache.close().unwrap();
    assert_eq!(builder(&dir).build().unwrap().get(&1), None);
}

/// Memory of 16 MiB, and requests for 2,000 entries of 50 kB that disk returns in 100 µs: 2 ns a byte.
fn scarce_memory() -> Adaptive {
    let selector = Adaptive::default();
    let usage = larder_core::tier::Usage::default();
    selector.learn(Lesson::Filled { tier: TierKind::Memory, usage, capacity: Some(16 << 20) });
    teach(&selector, TierKind::Disk, Duration::from_micros(100));
    request(&selector, 2_000, 1);
    selector
}

#[test]
fn memory_gets_copies_of_entries_that_are_worth_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let selector = scarce_memory();
    let build = || builder(&dir).memory_bytes(16 << 20).selector(selector.clone()).build().unwrap();
    let cache = build();
    cache.insert(1, "x".repeat(MEDIUM));
    let copied =
        |cache: &Cache<u32, String>, key| cache.explain(&key).unwrap().tiers.contains(&TierKind::Memory);
    assert!(!copied(&cache, 1), "as good as most of those that do not fit");
    // Larger than what the table copies, from a tier that takes 10 ns a byte.
    for _ in 0..50 {
        let (bytes, time) = (2 << 20, Duration::from_millis(20));
        selector.learn(Lesson::Read { tier: TierKind::File, bytes, time });
        selector.learn(Lesson::Read { tier: TierKind::Disk, bytes, time });
    }
    cache.insert(2, "x".repeat(2 << 20));
    assert!(copied(&cache, 2), "{}", cache.explain(&2).unwrap());
    cache.close().unwrap();
    let cache = build();
    assert!(!copied(&cache, 2), "memory is empty");
    assert!(cache.get(&2).is_some());
    assert!(copied(&cache, 2), "a read makes a copy as well");
    cache.close().unwrap();
}

#[test]
fn memory_evicts_by_cost_if_no_policy_is_chosen() {
    let policy = |build: fn(TieredBuilder<u32, String>) -> TieredBuilder<u32, String>| {
        let dir = tempfile::tempdir().unwrap();
        let cache = build(builder(&dir)).build().unwrap();
        cache.insert(1, "x".into());
        let text = cache.explain(&1).unwrap().to_string();
        cache.close().unwrap();
        text
    };
    let adaptive = policy(|builder| builder.selector(Adaptive::default()));
    assert!(adaptive.contains("policy cost_aware"), "{adaptive}");
    let lru = policy(|builder| builder.selector(Adaptive::default()).policy(Policy::Lru));
    assert!(lru.contains("policy lru"), "{lru}");
    let table = policy(|builder| builder);
    assert!(table.contains("policy auto"), "{table}");
}
