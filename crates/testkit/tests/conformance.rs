//! Tests of the conformance suite: correct tiers pass, and each broken promise is caught
//! by its check.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, OnceLock};

use larder_core::entry_meta::Freshness;
use larder_core::frame::Frame;
use larder_core::key::{EncodedKey, Equivalent};
use larder_core::memory::{Bounds, Lifetimes, MemoryStore, Record, Removed};
use larder_core::tier::{BoxFuture, Capability, Tier, TierKind, Usage};
use larder_core::{Bytes, Error, ErrorKind, Result};
use larder_testkit::conformance::{self, Outcome, Subject};
use larder_testkit::{
    FaultyTier, HashMapTier, MapStorage, QuotaTier, SharedMapStorage, SharedMapTier, TornTier,
};
use parking_lot::Mutex;

fn on_a_map() -> Subject {
    Subject::new("hash map", || {
        let storage = MapStorage::default();
        move || HashMapTier::on(&storage)
    })
}

fn shared_by_nodes() -> Subject {
    Subject::new("shared map", || {
        let storage = SharedMapStorage::default();
        move || SharedMapTier::on(&storage)
    })
}

#[test]
fn correct_tier_passes() {
    for subject in [on_a_map(), shared_by_nodes()] {
        for subject in [subject.through_arc(), subject.through_box(), subject] {
            conformance::run(&subject).assert_all();
        }
    }
}

/// A check of an ability passes through a wrapper if it passes bare, and is not left out there.
#[test]
fn wrapped_tier_passes_every_check_that_the_bare_tier_passes() {
    for subject in [on_a_map(), shared_by_nodes()] {
        let bare = conformance::run(&subject);
        let wrapped = [
            subject.through_arc(),
            subject.through_box(),
            subject.wrapped("with faults", |tier| Box::new(FaultyTier::new(tier))),
            subject.wrapped("with a quota", |tier| Box::new(QuotaTier::new(tier))),
            subject.wrapped("torn", |tier| Box::new(TornTier::new(tier))),
        ];
        for subject in wrapped {
            assert_eq!(conformance::run(&subject).outcomes(), bare.outcomes());
        }
    }
}

#[test]
fn checks_excluded_by_the_capability_are_not_applicable() {
    let report = conformance::run(&Subject::new("volatile", || HashMapTier::new));
    report.assert_all();
    assert!(matches!(report.outcome("close_flushes"), Some(Outcome::NotApplicable(_))));
    let limit = "put_above_the_limit_is_too_large_and_stores_nothing";
    assert!(matches!(report.outcome(limit), Some(Outcome::NotApplicable(_))));
}

#[test]
fn size_limit_and_declared_blocking_are_checked() {
    let subject = Subject::new("small", || {
        let storage = MapStorage::default();
        move || {
            let tier = HashMapTier::on(&storage);
            let capability = Capability { frame_bytes_max: 2 << 20, blocking: true, ..tier.capability() };
            tier.with_capability(capability)
        }
    });
    let report = conformance::run(&subject);
    report.assert_all();
    for name in
        ["put_above_the_limit_is_too_large_and_stores_nothing", "a_blocking_tier_is_ready_in_the_first_poll"]
    {
        assert_eq!(report.outcome(name), Some(&Outcome::Passed), "{name}");
    }
}

/// A tier that takes frames up to 1 MiB cannot take a key of 1 MiB.
#[test]
fn key_is_tried_only_if_its_frame_fits() {
    let subject = Subject::new("1 MiB", || {
        let storage = MapStorage::default();
        move || {
            let tier = HashMapTier::on(&storage);
            let capability = Capability { frame_bytes_max: 1 << 20, ..tier.capability() };
            tier.with_capability(capability)
        }
    });
    let report = conformance::run(&subject);
    report.assert_all();
    assert!(matches!(report.outcome("a_key_of_1_mib_is_a_key"), Some(Outcome::NotApplicable(_))));
}

/// The promise that a [`Broken`] tier breaks.
#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    ForgetsRemoves,
    ForgetsClears,
    HidesFailures,
    CutsLongFrames,
    ScansTwice,
    StoresNothing,
}

struct Broken {
    tier: HashMapTier,
    flaw: Flaw,
}

impl Tier for Broken {
    fn kind(&self) -> TierKind {
        self.tier.kind()
    }

    fn capability(&self) -> Capability {
        Capability { stores: self.flaw != Flaw::StoresNothing, ..self.tier.capability() }
    }

    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            let found = self.tier.get(key).await;
            match self.flaw {
                Flaw::HidesFailures => Ok(found.unwrap_or(None)),
                Flaw::CutsLongFrames => Ok(found?.map(|whole| whole.slice(..whole.len().min(1 << 20)))),
                _ => found,
            }
        })
    }

    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        self.tier.put(key, frame)
    }

    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        match self.flaw {
            Flaw::ForgetsRemoves => self.tier.contains(key),
            _ => self.tier.remove(key),
        }
    }

    fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        self.tier.contains(key)
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        match self.flaw {
            Flaw::ForgetsClears => self.tier.flush(),
            _ => self.tier.clear(),
        }
    }

    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if self.flaw == Flaw::ScansTwice {
                self.tier.scan(visit).await?;
            }
            self.tier.scan(visit).await
        })
    }

    fn usage(&self) -> Usage {
        self.tier.usage()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        self.tier.flush()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.tier.close()
    }
}

fn caught(flaw: Flaw) -> Vec<&'static str> {
    let subject = Subject::new("broken", move || {
        let storage = MapStorage::default();
        move || Broken { tier: HashMapTier::on(&storage), flaw }
    });
    conformance::run(&subject).failed()
}

#[test]
fn broken_promise_is_caught_by_name() {
    let cases = [
        (Flaw::ForgetsRemoves, "get_after_remove_is_none"),
        (Flaw::ForgetsRemoves, "remove_tells_whether_there_was_an_entry"),
        (Flaw::ForgetsRemoves, "removed_entries_stay_removed_after_reopening"),
        (Flaw::ForgetsClears, "get_after_clear_is_none"),
        (Flaw::ForgetsClears, "a_cleared_tier_is_empty_after_reopening"),
        (Flaw::HidesFailures, "after_close_every_call_fails_with_closed"),
        (Flaw::CutsLongFrames, "get_after_put_returns_the_frame_byte_for_byte"),
        (Flaw::ScansTwice, "scan_visits_each_head_exactly_once"),
        (Flaw::StoresNothing, "a_tier_that_stores_nothing_answers_that_nothing_is_there"),
    ];
    for (flaw, name) in cases {
        let failed = caught(flaw);
        assert!(failed.contains(&name), "{name} is not among {failed:?}");
    }
    assert!(!caught(Flaw::ForgetsRemoves).contains(&"get_after_put_returns_the_frame_byte_for_byte"));
}

#[test]
fn failed_report_lists_every_check() {
    let subject =
        Subject::new("broken", || || Broken { tier: HashMapTier::new(), flaw: Flaw::ForgetsClears });
    let report = conformance::run(&subject);
    let text = report.to_string();
    assert!(conformance::names().all(|name| text.contains(name)), "{text}");
    assert!(text.contains("FAILED  get_after_clear_is_none: "), "{text}");
}

/// A store that drops a new record at once if it would exceed the limit.
struct Stubborn {
    records: Mutex<HashMap<u64, Record<String>>>,
    bytes_max: u64,
    forgets_removes: bool,
    lifetimes: OnceLock<Arc<dyn Lifetimes>>,
}

impl Stubborn {
    fn freshness(&self, record: &Record<String>) -> Freshness {
        self.lifetimes
            .get()
            .map_or(Freshness::Fresh, |lifetimes| lifetimes.freshness(record.lifespan(), lifetimes.now()))
    }

    fn is_live(&self, record: &Record<String>) -> bool {
        record.value.is_some() && self.freshness(record) == Freshness::Fresh
    }
}

impl MemoryStore<u64, String> for Stubborn {
    fn attach(&self, lifetimes: Arc<dyn Lifetimes>) {
        assert!(self.lifetimes.set(lifetimes).is_ok(), "attached twice");
    }

    fn peek<Q: Hash + Equivalent<u64> + ?Sized>(&self, key: &Q) -> Option<Record<String>> {
        self.get(key)
    }

    fn get<Q: Hash + Equivalent<u64> + ?Sized>(&self, key: &Q) -> Option<Record<String>> {
        self.records.lock().iter().find(|(held, _)| key.equivalent(held)).map(|(_, record)| record.clone())
    }

    fn insert(&self, key: u64, record: Record<String>) -> bool {
        let fits = u64::from(record.weight) <= self.bytes_max;
        let mut records = self.records.lock();
        records.remove(&key);
        let used: u64 = records.values().map(|record| u64::from(record.weight)).sum();
        if used + u64::from(record.weight) <= self.bytes_max {
            records.insert(key, record);
        }
        fits
    }

    fn remove<Q: Hash + Equivalent<u64> + ?Sized>(&self, key: &Q) -> Option<Removed> {
        let record = match self.forgets_removes {
            true => self.get(key)?,
            false => {
                let mut records = self.records.lock();
                let held = *records.keys().find(|held| key.equivalent(held))?;
                records.remove(&held)?
            }
        };
        let Record { value, stamp, terms, checked, .. } = record;
        Some(Removed { stamp, terms, checked, has_value: value.is_some() })
    }

    fn contains<Q: Hash + Equivalent<u64> + ?Sized>(&self, key: &Q) -> bool {
        self.get(key).is_some()
    }

    fn clear(&self) {
        self.records.lock().clear();
    }

    fn sweep(&self) -> u64 {
        let mut records = self.records.lock();
        let before = records.len();
        records.retain(|_, record| self.freshness(record) != Freshness::Gone);
        (before - records.len()) as u64
    }

    fn set_bounds(&self, _: Bounds) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "stubborn"))
    }

    fn bounds(&self) -> Bounds {
        Bounds::bytes(self.bytes_max)
    }

    fn keys<T>(&self, mut map: impl FnMut(&u64) -> T) -> Vec<T> {
        let records = self.records.lock();
        let live = records.iter().filter(|(_, record)| self.is_live(record));
        live.map(|(key, _)| map(key)).collect()
    }

    fn count(&self, home: Option<TierKind>) -> u64 {
        let is_counted =
            |record: &&Record<String>| home.is_none_or(|home| record.home == home) && self.is_live(record);
        self.records.lock().values().filter(is_counted).count() as u64
    }

    fn usage(&self) -> Usage {
        let records = self.records.lock();
        let bytes = records.values().map(|record| u64::from(record.weight)).sum();
        Usage { entries: records.len() as u64, bytes, evictions: 0 }
    }

    fn settle(&self) {}
}

fn stubborn(forgets_removes: bool) -> conformance::Report {
    conformance::memory("stubborn", Some(10_000), || Stubborn {
        records: Mutex::default(),
        bytes_max: 10_000,
        forgets_removes,
        lifetimes: OnceLock::new(),
    })
}

#[test]
fn correct_memory_store_passes() {
    let report = stubborn(false);
    report.assert_all();
    assert!(report.outcomes().iter().all(|(_, outcome)| *outcome == Outcome::Passed), "{report}");
}

#[test]
fn memory_store_that_forgets_removes_is_caught() {
    assert!(stubborn(true).failed().contains(&"remove_returns_what_was_there"));
}
