//! The tier over SQLite against the conformance suite, and in a cache.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use larder::{ErrorKind, Position, TierKind, ucache};
use larder_example_own_tier::SqliteTier;
use larder_testkit::conformance::{Subject, run};

const BYTES_MAX: u64 = 512 << 20;

#[test]
fn sqlite_tier_conforms() {
    let subject = Subject::new("sqlite", || {
        let dir = tempfile::tempdir().unwrap();
        move || SqliteTier::open(dir.path().join("entries.db"), BYTES_MAX).unwrap()
    });
    run(&subject).assert_all();
    run(&subject.through_arc()).assert_all();
    run(&subject.through_box()).assert_all();
}

#[test]
fn cache_keeps_entries_in_sqlite_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = TierKind::own("sqlite").unwrap();
    let open = || {
        let tier = SqliteTier::open(dir.path().join("entries.db"), BYTES_MAX).unwrap();
        ucache::<u32, String>("pages")
            .dir(dir.path())
            .tier(Position::Before(TierKind::Disk), tier)
            .build()
            .unwrap()
    };
    let pages = open();
    let placement = pages.try_insert(1, "a".repeat(50_000)).unwrap();
    assert_eq!(placement.to_string(), "sqlite (copy in memory): medium: disk");
    pages.insert(2, "b".repeat(50_000));
    assert!(pages.remove(&2));
    pages.close().unwrap();
    let pages = open();
    assert_eq!(pages.get(&1), Some("a".repeat(50_000)));
    assert_eq!(pages.get(&2), None);
    assert_eq!(pages.explain(&1).unwrap().home, Some(sqlite));
    assert_eq!(pages.stats().tier(sqlite).unwrap().usage.entries, 1);
    pages.close().unwrap();
}

#[test]
fn entry_beyond_the_bound_goes_to_the_next_tier() {
    let dir = tempfile::tempdir().unwrap();
    let tier = SqliteTier::open(dir.path().join("entries.db"), 1 << 20).unwrap();
    let pages = ucache::<u32, Vec<u64>>("pages").dir(dir.path()).tier(Position::First, tier).build().unwrap();
    let noise =
        |seed: u64| (0..10_000).map(|n| (n ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect::<Vec<u64>>();
    let homes: Vec<_> = (0..20).map(|n| pages.try_insert(n, noise(u64::from(n))).unwrap().home).collect();
    assert!(
        homes.contains(&TierKind::own("sqlite").unwrap()) && homes.contains(&TierKind::Disk),
        "{homes:?}"
    );
    for n in 0..20 {
        assert_eq!(pages.get(&n), Some(noise(u64::from(n))));
    }
    pages.close().unwrap();
    assert_eq!(pages.try_insert(1, noise(1)).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn tier_takes_less_than_a_hundred_lines_of_code() {
    let source = include_str!("../src/lib.rs");
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    let lines = source.lines().filter(is_code).count();
    assert!(lines < 100, "{lines} lines");
}
