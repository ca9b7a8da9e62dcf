//! Invalidation by tag, `invalidate_all` and `clear`: over every set of tiers, across restarts, and
//! during loads, refreshes and promotions.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use larder::{Cache, EntryOptions, Loaded, TierKind};
use larder_core::tier::Tier;
use larder_exec::runtime::{Blocking, block_on};
use larder_testkit::{HashMapTier, ManualClock, MapStorage};

use crate::fixtures::{Plan, get};
use crate::tier_sets::{TIER_SETS, each_tier_set, reopened, tiered};

const HOUR: Duration = Duration::from_secs(3600);

fn tagged(tags: &[&'static str]) -> EntryOptions {
    EntryOptions::new().tags(tags.iter().copied())
}

#[test]
fn invalidated_tag_removes_only_entries_with_that_tag() {
    each_tier_set!(<u64, String>, |builder| builder, |tier_set, cache: Cache<u64, String>, _| {
        cache.insert_with(1, "a".into(), tagged(&["a"]));
        cache.insert_with(2, "b".into(), tagged(&["b"]));
        cache.insert_with(3, "a and b".into(), tagged(&["a", "b"]));
        cache.insert(4, "none".into());
        let there = |cache: &Cache<u64, String>| (1..=4).filter(|key| cache.get(key).is_some()).collect::<Vec<_>>();
        assert_eq!(there(&cache), [1, 2, 3, 4], "{tier_set}");
        cache.invalidate_tag("a").unwrap();
        assert_eq!(there(&cache), [2, 4], "{tier_set}");
        cache.insert_with(1, "a again".into(), tagged(&["a"]));
        assert_eq!(there(&cache), [1, 2, 4], "{tier_set}: written after");
        cache.invalidate_tags(["b", "c"]).unwrap();
        assert_eq!(there(&cache), [1, 4], "{tier_set}");
        cache.invalidate_all().unwrap();
        assert_eq!(there(&cache), [0; 0], "{tier_set}");
        cache.insert(4, "new".into());
        assert_eq!(there(&cache), [4], "{tier_set}");
        cache.invalidate(&4).unwrap();
        assert_eq!(there(&cache), [0; 0], "{tier_set}");
    });
}

#[test]
fn invalidations_survive_a_restart() {
    for tier_set in TIER_SETS {
        let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
        let builder = || tiered::<u64, String>(tier_set, dir.path(), &clock);
        let cache = builder().build().unwrap();
        for key in 0..4 {
            cache.insert_with(key, "old".into(), tagged(&["old"]));
        }
        let cache = reopened(cache, builder());
        cache.invalidate_tag("old").unwrap();
        cache.insert_with(3, "new".into(), tagged(&["old"]));
        let cache = reopened(cache, builder());
        assert_eq!(cache.get_many(&[0, 1, 2, 3]), [None, None, None, Some("new".into())], "{tier_set}");
        cache.invalidate_all().unwrap();
        let cache = reopened(cache, builder());
        assert_eq!(cache.get(&3), None, "{tier_set}");
        cache.close().unwrap();
    }
}

#[test]
fn lost_invalidation_log_invalidates_all_entries() {
    for tier_set in TIER_SETS {
        let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
        let builder = || tiered::<u64, String>(tier_set, dir.path(), &clock);
        let cache = builder().build().unwrap();
        cache.insert_with(1, "invalidated".into(), tagged(&["a"]));
        cache.insert(2, "not".into());
        cache.invalidate_tag("a").unwrap();
        let marks = cache.dir().unwrap().join("marks");
        cache.close().unwrap();
        std::fs::remove_file(marks).unwrap();
        let cache = builder().build().unwrap();
        assert_eq!(cache.get_many(&[1, 2]), [None, None], "{tier_set}");
        cache.close().unwrap();
    }
}

#[test]
fn invalidation_during_a_load_applies_to_the_loaded_value() {
    each_tier_set!(<u64, String>, |builder| builder, |tier_set, cache: Cache<u64, String>, _| {
        let load = |invalidate: &dyn Fn()| {
            let value = cache.get_with(1, || {
                invalidate();
                "read before".into()
            });
            assert_eq!(value, "read before");
            cache.get(&1)
        };
        assert_eq!(load(&|| cache.invalidate_all().unwrap()), None, "{tier_set}: all");
        assert_eq!(load(&|| cache.clear().unwrap()), None, "{tier_set}: clear");
        assert!(load(&|| cache.invalidate_tag("of another").unwrap()).is_some(), "{tier_set}");
        cache.remove(&1);
        let inner = cache.clone();
        let loaded = cache.load(1, move |_| {
            inner.invalidate_tag("mine").unwrap();
            Ok::<_, ()>(Loaded::Value("read before".to_owned()).with(tagged(&["mine"])))
        });
        assert_eq!(loaded.unwrap().as_deref(), Some("read before"));
        assert_eq!(cache.get(&1), None, "{tier_set}: by a tag that the loader answered with");
    });
}

#[test]
fn invalidation_during_a_refresh_applies_to_the_refreshed_value() {
    let clock = ManualClock::default();
    let cache = larder::mcache::<u64, &str>("refreshed").ttl(HOUR).refresh_ahead(0.5);
    let cache = cache.clock(clock.clone()).build().unwrap();
    cache.insert_with(1, "old", tagged(&["a"]));
    clock.advance(HOUR * 3 / 4);
    let (started, starts) = mpsc::channel();
    let (go, goes) = mpsc::channel::<()>();
    let hit = cache.load(1, move |context| {
        started.send(()).unwrap();
        goes.recv().unwrap();
        assert_eq!(context.stale(), Some(&"old"));
        Ok::<_, ()>(Loaded::Value("refreshed").with(tagged(&["a"])))
    });
    assert_eq!(hit.unwrap(), Some("old"), "a hit does not wait for its refresh");
    starts.recv().unwrap();
    cache.invalidate_tag("a").unwrap();
    go.send(()).unwrap();
    crate::flights::until(|| cache.stats().cache.published == 1);
    assert_eq!(cache.get(&1), None, "the refresh began before");
}

#[test]
fn invalidation_during_a_promotion_applies_to_the_copy() {
    let engine_on =
        |storage: &MapStorage| Plan::over(vec![Arc::new(HashMapTier::on(storage)) as Arc<dyn Tier>]).build();
    for round in 0..300 {
        let storage = MapStorage::default();
        block_on(engine_on(&storage).insert::<Blocking>(1, "value".into(), tagged(&["a"]))).unwrap();
        // Opens a second cache whose memory is empty, so that a hit is promoted.
        let engine = engine_on(&storage);
        thread::scope(|scope| {
            scope.spawn(|| get(&engine, 1));
            scope.spawn(|| block_on(engine.invalidate_tags::<Blocking>(vec!["a".into()])).unwrap());
        });
        assert_eq!(get(&engine, 1), None, "round {round}");
    }
}

#[test]
fn tag_invalidation_costs_the_same_for_few_and_many_entries() {
    let operations = |entries: u64| {
        let tier = HashMapTier::new();
        let engine = Plan::over(vec![Arc::new(tier) as Arc<dyn Tier>]).build();
        for key in 0..entries {
            block_on(engine.insert::<Blocking>(key, "value".into(), tagged(&["all"]))).unwrap();
        }
        let before = engine.stats();
        block_on(engine.invalidate_tags::<Blocking>(vec!["all".into()])).unwrap();
        let after = engine.stats();
        assert_eq!(get(&engine, 7), None);
        let tier = |stats: &larder::Stats| stats.tier(TierKind::Disk).unwrap().counts;
        let (before, after) = (tier(&before), tier(&after));
        (after.puts + after.removes + after.hits + after.misses)
            - (before.puts + before.removes + before.hits + before.misses)
    };
    assert_eq!((operations(10), operations(100_000)), (0, 0));
}

#[test]
fn memory_hit_on_a_tagged_entry_reads_no_other_tier() {
    let tier = HashMapTier::new();
    let engine = Plan::over(vec![Arc::new(tier) as Arc<dyn Tier>]).build();
    block_on(engine.insert::<Blocking>(1, "value".into(), tagged(&["a", "b"]))).unwrap();
    block_on(engine.invalidate_tags::<Blocking>(vec!["c".into()])).unwrap();
    let before = engine.stats().tier(TierKind::Disk).unwrap().counts;
    assert_eq!(engine.hit(&1).as_deref(), Some("value"));
    assert_eq!(engine.stats().tier(TierKind::Disk).unwrap().counts, before);
}

#[test]
fn load_started_before_invalidation_is_not_joined_after_it() {
    each_tier_set!(<u64, String>, |builder| builder, |tier_set, cache: Cache<u64, String>, _| {
        let (leads, led) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let cache = &cache;
            scope.spawn(move || {
                let value = cache.get_with(1, || {
                    leads.send(()).unwrap();
                    goes.recv().unwrap();
                    "read before".into()
                });
                assert_eq!(value, "read before");
            });
            led.recv().unwrap();
            cache.invalidate_all().unwrap();
            assert_eq!(cache.get_with(1, || "read after".into()), "read after", "{tier_set}");
            go.send(()).unwrap();
        });
        assert_eq!(cache.get(&1).as_deref(), Some("read after"), "{tier_set}");
    });
}

#[test]
fn keys_are_found_by_tag_until_the_tag_is_invalidated() {
    each_tier_set!(<u64, String>, |builder| builder.ttl(HOUR), |tier_set, cache: Cache<u64, String>, clock| {
        let clock: ManualClock = clock;
        cache.insert_with(1, "a".into(), tagged(&["a"]));
        cache.insert_with(2, "a and b".into(), tagged(&["b", "a"]));
        cache.insert(3, "none".into());
        cache.insert_with(4, "large".repeat(1 << 18), tagged(&["a"]));
        let keys = |tag: &'static str| {
            let mut keys: Vec<_> = cache.keys_by_tag(tag).unwrap().into_iter().map(|key| *key).collect();
            keys.sort_unstable();
            keys
        };
        let tags = || cache.tags().unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!((keys("a"), keys("b"), keys("c")), (vec![1, 2, 4], vec![2], vec![]), "{tier_set}");
        assert_eq!(tags(), ["a", "b"], "{tier_set}");
        cache.remove(&1);
        assert_eq!(keys("a"), [2, 4], "{tier_set}");
        cache.invalidate_tag("b").unwrap();
        assert_eq!((keys("a"), tags()), (vec![4], vec!["a".to_owned()]), "{tier_set}");
        clock.advance(HOUR);
        assert_eq!((keys("a"), tags()), (vec![], vec![]), "{tier_set}");
    });
}
