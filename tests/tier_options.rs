//! Options of one tier: its own time to live, read only, and what a failed write means.

use std::time::Duration;

use larder::{
    Access, Cache, EntryOptions, ErrorKind, FailedWrites, Persistence, Position, TierKind, TierOptions,
    TieredBuilder, ucache,
};
use larder_testkit::{FaultyTier, HashMapTier, ManualClock, MapStorage, Operation, Times};

use TierKind::{Disk, File, Memory, Null};

const MINUTE: Duration = Duration::from_secs(60);
const MEDIUM: usize = 50_000;

type Texts = Cache<u32, String>;

fn kind(name: &str) -> TierKind {
    TierKind::own(name).unwrap()
}

fn builder(dir: &tempfile::TempDir) -> TieredBuilder<u32, String> {
    ucache("options").dir(dir.path())
}

#[test]
fn tier_serves_no_entry_longer_than_its_own_ttl() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let ttl = |ttl| TierOptions::new().ttl(ttl);
    let cache = builder(&dir).clock(clock.clone()).ttl(10 * MINUTE);
    let cache = cache.tier_options(Disk, ttl(MINUTE)).tier_options(File, ttl(60 * MINUTE)).build().unwrap();
    let at = |home| EntryOptions::new().home(home);
    for access in [Access::ReadHeavy, Access::WriteHeavy] {
        let text = || format!("{access}");
        cache.insert_with(1, text(), at(Disk).access(access));
        cache.insert_with(2, text(), at(File).access(access));
        cache.insert_with(3, text(), at(Disk).access(access).ttl(MINUTE / 2));
        clock.advance(MINUTE / 2);
        assert_eq!([1, 2, 3].map(|key| cache.get(&key).is_some()), [true, true, false], "{access}");
        clock.advance(MINUTE / 2);
        assert_eq!([1, 2].map(|key| cache.get(&key).is_some()), [false, true], "{access}");
        assert_eq!(cache.keys().unwrap().len(), 1, "{access}");
        clock.advance(9 * MINUTE);
        assert_eq!(cache.get(&2), None, "{access}: the ttl of the entry applies too");
    }
    cache.insert_with(1, "left".into(), at(Disk).access(Access::WriteHeavy));
    assert_eq!(cache.inspect(&1).unwrap().unwrap().left, Some(MINUTE));
    clock.advance(MINUTE);
    assert_eq!(cache.try_sweep().unwrap(), 1);
    cache.close().unwrap();
}

#[test]
fn ttl_of_a_tier_applies_to_entries_of_an_earlier_run_and_to_entries_without_ttl() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let cache = builder(&dir).clock(clock.clone()).persistence(Persistence::LongTerm).build().unwrap();
    cache.insert(1, "old".into());
    cache.close().unwrap();
    clock.advance(MINUTE);
    let cache = builder(&dir).clock(clock.clone()).persistence(Persistence::LongTerm);
    let cache = cache.tier_options(Disk, TierOptions::new().ttl(2 * MINUTE)).build().unwrap();
    assert_eq!(cache.get(&1).as_deref(), Some("old"));
    clock.advance(MINUTE);
    assert_eq!(cache.get(&1), None);
    cache.close().unwrap();
}

/// One program fills a store, others only read it.
#[test]
fn tier_that_is_read_only_serves_and_is_never_written() {
    let (filled_by, dir, storage) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), MapStorage::default());
    let store = || HashMapTier::on(&storage).with_kind(kind("ci"));
    let ci = builder(&filled_by).url("memory:").persistence(Persistence::LongTerm);
    let ci = ci.tier(Position::First, store()).build().unwrap();
    ci.insert_many((0..10).map(|key| (key, format!("{key}"))));
    ci.close().unwrap();

    let tier = FaultyTier::new(store());
    let open = || -> Texts {
        let cache = builder(&dir).persistence(Persistence::LongTerm).tier(Position::First, tier.clone());
        cache.tier_options(kind("ci"), TierOptions::new().read_only()).build().unwrap()
    };
    let cache = open();
    assert_eq!(cache.stats().tiers.last().unwrap().kind, kind("ci"), "it is asked after the others");
    assert_eq!(cache.get(&1).as_deref(), Some("1"));
    assert_eq!(cache.get_with(50, || "50".into()), "50");
    let placement = cache.try_insert_with(2, "two".into(), EntryOptions::new().home(kind("ci"))).unwrap();
    assert_eq!(placement.home, Disk);
    assert!(placement.warning.is_some(), "{placement}");
    assert!(cache.remove(&3));
    assert!(!cache.remove(&3) && !cache.remove(&404));
    assert_eq!(cache.take(&4).unwrap().as_deref(), Some("4"));
    cache.invalidate(&5).unwrap();
    assert_eq!(cache.compute(6, |_| larder::Compute::Put("six".into())).unwrap().as_deref(), Some("six"));
    let texts = |keys: [u32; 6]| keys.map(|key| cache.get(&key));
    assert_eq!(
        texts([1, 2, 3, 4, 5, 6]),
        [Some("1"), Some("two"), None, None, None, Some("six")].map(|text| text.map(str::to_owned))
    );
    let mut keys: Vec<u32> = cache.keys().unwrap().into_iter().map(|key| *key).collect();
    keys.sort_unstable();
    assert_eq!(keys, [0, 1, 2, 6, 7, 8, 9, 50]);
    assert_eq!(cache.invalidate_tag("t").unwrap_err().kind(), ErrorKind::Unsupported);
    cache.clear().unwrap();
    assert_eq!((cache.get(&7), cache.keys().unwrap().len()), (None, 0));
    cache.destroy().unwrap();
    let written =
        [Operation::Put, Operation::PutMany, Operation::Remove, Operation::Clear, Operation::Destroy];
    assert_eq!(written.map(|operation| tier.calls(operation)), [0; 5]);

    let reread = builder(&dir).tier(Position::First, store());
    let reread = reread.tier_options(kind("ci"), TierOptions::new().read_only()).build().unwrap();
    assert!((0..10).all(|key| reread.get(&key) == Some(format!("{key}"))), "nothing was lost");
    reread.close().unwrap();
}

#[test]
fn failed_write_is_repaired_ignored_or_reported() {
    for (means, access, expect) in [
        (FailedWrites::Repair, Access::Balanced, Ok((Disk, true))),
        (FailedWrites::Ignore, Access::Balanced, Ok((Memory, true))),
        (FailedWrites::Ignore, Access::WriteHeavy, Ok((Null, false))),
        (FailedWrites::Report, Access::Balanced, Err(ErrorKind::Io)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let tier = FaultyTier::new(HashMapTier::new().with_kind(kind("flaky")));
        let cache = builder(&dir).access(access).tier(Position::First, tier.clone());
        let cache =
            cache.tier_options(kind("flaky"), TierOptions::new().failed_writes(means)).build().unwrap();
        cache.insert(1, "m".repeat(MEDIUM));
        assert_eq!(cache.explain(&1).unwrap().home, Some(kind("flaky")), "{means:?}");
        tier.fail(Operation::Put, Times::Next(1), ErrorKind::Io);
        let stored = cache.try_insert(1, "n".repeat(MEDIUM));
        let home = stored.map(|placement| placement.home).map_err(|error| {
            assert_eq!(error.tier(), Some(kind("flaky")));
            error.kind()
        });
        assert_eq!(home, expect.map(|(home, _)| home), "{means:?}");
        let served = expect.is_ok_and(|(_, is_served)| is_served);
        assert_eq!(cache.get(&1), served.then(|| "n".repeat(MEDIUM)), "{means:?}: never the former value");
        let counts = cache.stats().cache;
        assert_eq!(counts.dropped, u64::from(expect.is_err()), "{means:?}");
        cache.close().unwrap();
    }
}

#[test]
fn options_of_a_tier_can_be_given_as_text() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::default();
    let url = |tiers: &str| {
        let options = tiers.replace(' ', "%20").replace('=', "%3D").replace(',', "%2C");
        format!("file://{}?tier_options={options}", dir.path().display())
    };
    let builder = |url: String| ucache::<u32, String>("by text").url(url).clock(clock.clone());

    let explained = builder(url("file ttl=1m failed_writes=report")).explain_config().unwrap();
    let row = explained.iter().find(|row| row.option == "tier_options").unwrap();
    assert_eq!(row.to_string(), "tier_options = file ttl=1m failed_writes=report (the URL)");
    let cache = builder(url("file ttl=1m failed_writes=report")).build().unwrap();
    cache.insert(1, "one".to_owned());
    assert_eq!(cache.get(&1).as_deref(), Some("one"));
    clock.advance(MINUTE);
    assert_eq!(cache.get(&1), None);
    cache.close().unwrap();

    for wrong in [
        "file",
        "file ttl",
        "file ttl=soon",
        "file failed_writes=maybe",
        "file read_only=yes",
        "",
        "here ttl=1m",
    ] {
        let error = builder(url(wrong)).build().unwrap_err().to_string();
        assert!(
            error.contains("option `tier_options`") && error.contains("failed_writes=repair"),
            "{wrong}: {error}"
        );
    }
    let error = builder(url("disk ttl=1m")).build().unwrap_err().to_string();
    assert!(error.contains("options of the tier disk"), "{error}");
}

#[test]
fn wrong_options_of_a_tier_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |kind, options: TierOptions| {
        let error = builder(&dir).tier_options(kind, options).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    for tier in [Memory, Null, TierKind::Redis, kind("not-here")] {
        let error = refused(tier, TierOptions::new());
        assert!(
            error.contains(&format!("options of the tier {tier}")) && error.contains("beyond memory"),
            "{error}"
        );
    }
    let error = refused(Disk, TierOptions::new().ttl(Duration::ZERO));
    assert!(error.contains("ttl of a tier") && error.contains("1 ms or more"), "{error}");
    #[cfg(feature = "redis")]
    {
        let builder = builder(&dir).redis("redis://127.0.0.1:1");
        let error =
            builder.tier_options(TierKind::Redis, TierOptions::new().read_only()).build().unwrap_err();
        assert!(error.to_string().contains("redis as read only"), "{error}");
    }
}
