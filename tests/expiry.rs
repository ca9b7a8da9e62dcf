//! Expiry of entries over every set of tiers. The tests move a manual clock; nothing sleeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::time::Duration;

use larder::{Cache, EntryOptions, MemoryEngine, Time, mcache};
use larder_core::clock::Clock;
use larder_testkit::ManualClock;

use crate::tier_sets::{TIER_SETS, each_tier_set, reopened, tiered};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(1);

/// Asserts that the entry is present just before `deadline`, and absent exactly at it.
fn lives_until(cache: &Cache<u64, String>, clock: &ManualClock, key: u64, deadline: Duration) {
    clock.advance(deadline - TICK);
    assert!(cache.get(&key).is_some(), "key {key}, a tick before {deadline:?}");
    clock.advance(TICK);
    assert_eq!(cache.get(&key), None, "key {key}, at {deadline:?}");
    assert!(!cache.contains_key(&key));
    assert_eq!(cache.inspect(&key).unwrap(), None);
}

#[test]
fn at_its_deadline_an_entry_is_absent() {
    each_tier_set!(<u64, String>, |builder| builder.ttl(MINUTE), |tier_set, cache: Cache<u64, String>, clock| {
        let clock: ManualClock = clock;
        println!("{tier_set}");
        cache.insert(1, "of the cache".into());
        lives_until(&cache, &clock, 1, MINUTE);
        cache.insert_with(2, "of the entry".into(), EntryOptions::new().ttl(SECOND));
        lives_until(&cache, &clock, 2, SECOND);
        cache.insert_with(3, "for ever".into(), EntryOptions::new().ttl(Duration::MAX));
        clock.advance(MINUTE * 1_000_000);
        assert!(cache.get(&3).is_some());
        cache.get_with(4, || "loaded".into());
        lives_until(&cache, &clock, 4, MINUTE);
    });
}

#[test]
fn rewriting_an_entry_restarts_its_ttl() {
    each_tier_set!(<u64, String>, |builder| builder.ttl(MINUTE), |_, cache: Cache<u64, String>, clock| {
        let clock: ManualClock = clock;
        cache.insert(1, "first".into());
        clock.advance(MINUTE / 2);
        cache.insert(1, "second".into());
        lives_until(&cache, &clock, 1, MINUTE);
    });
}

#[test]
fn ttl_by_depends_on_key_and_value() {
    let by = |key: &u64, value: &String| match (*key, value.len()) {
        (1, _) => Some(SECOND),
        (_, 3) => Some(SECOND * 3),
        _ => None,
    };
    each_tier_set!(<u64, String>, |builder| builder.ttl(MINUTE).ttl_by(by), |_, cache: Cache<u64, String>, clock| {
        let clock: ManualClock = clock;
        cache.insert(1, "by its key".into());
        lives_until(&cache, &clock, 1, SECOND);
        cache.insert(2, "len".into());
        lives_until(&cache, &clock, 2, SECOND * 3);
        cache.insert(2, "the cache's".into());
        lives_until(&cache, &clock, 2, MINUTE);
    });
}

#[test]
fn idle_entry_expires_and_used_entry_does_not() {
    each_tier_set!(<u64, String>, |builder| builder.idle(MINUTE).ttl(MINUTE * 10), |tier_set: &str, cache: Cache<u64, String>, clock| {
        let clock: ManualClock = clock;
        cache.insert(1, "unused".into());
        clock.advance(MINUTE);
        assert_eq!(cache.get(&1), None, "{tier_set}: unused for a minute");
        if tier_set.contains("without memory") {
            return;
        }
        cache.insert(2, "used".into());
        for _ in 0..18 {
            clock.advance(MINUTE / 2);
            assert!(cache.get(&2).is_some(), "used every half minute");
        }
        clock.advance(MINUTE);
        assert_eq!(cache.get(&2), None, "at the end of its time to live");
    });
}

#[test]
fn touch_and_expire_move_the_deadline() {
    each_tier_set!(<u64, String>, |builder| builder.ttl(MINUTE).idle(MINUTE), |tier_set, cache: Cache<u64, String>, clock| {
        let clock: ManualClock = clock;
        println!("{tier_set}");
        cache.insert(1, "touched".into());
        clock.advance(MINUTE / 2);
        assert!(cache.touch(&1).unwrap());
        lives_until(&cache, &clock, 1, MINUTE);
        assert!(!cache.touch(&1).unwrap(), "an expired entry is not there");

        cache.insert(2, "shorter".into());
        assert!(cache.expire_in(&2, SECOND).unwrap());
        lives_until(&cache, &clock, 2, SECOND);

        cache.insert(3, "at a time".into());
        let time = Time::from_millis(clock.now().as_millis() + 2_000);
        assert!(cache.expire_at(&3, time).unwrap());
        lives_until(&cache, &clock, 3, SECOND * 2);

        cache.set_ttl(Some(SECOND * 5));
        cache.insert(4, "of a later time to live".into());
        lives_until(&cache, &clock, 4, SECOND * 5);
        cache.set_ttl(None);
        cache.insert(5, "of none".into());
        clock.advance(MINUTE);
        assert_eq!(cache.get(&5), None, "{tier_set}: unused for a minute");
    });
}

/// A touch began a write before it knew whether there is an entry, and a write supersedes the loads in
/// progress. A service that touches its sessions never stored what it loaded meanwhile.
#[test]
fn touch_of_an_absent_entry_does_not_discard_the_load_in_progress() {
    each_tier_set!(<u64, String>, |builder| builder.ttl(MINUTE), |tier_set, cache: Cache<u64, String>, clock| {
        let clock: ManualClock = clock;
        type Touch = fn(&Cache<u64, String>) -> bool;
        let touches: [Touch; 3] = [
            |cache| cache.touch(&1).unwrap(),
            |cache| cache.expire_in(&1, SECOND).unwrap(),
            |cache| cache.expire_at(&1, Time::NEVER).unwrap(),
        ];
        for touch in touches {
            let loaded = cache.get_with(1, || {
                assert!(!touch(&cache), "{tier_set}");
                "loaded".into()
            });
            assert_eq!(loaded, "loaded", "{tier_set}");
            assert_eq!(cache.get(&1).as_deref(), Some("loaded"), "{tier_set}");
            clock.advance(MINUTE);
            assert_eq!(cache.get(&1), None, "{tier_set}");
        }
    });
}

#[test]
fn load_is_joined_after_a_touch_that_found_nothing() {
    let cache = mcache::<u64, u64>("joined").build().unwrap();
    let ((begun, leads), (go, wait), loads) = (channel(), channel(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let (cache, loads) = (&cache, &loads);
        let call = move || cache.get_with(1, || loads.fetch_add(1, SeqCst) as u64);
        let leader = scope.spawn(move || {
            cache.get_with(1, || {
                begun.send(()).unwrap();
                wait.recv().unwrap();
                loads.fetch_add(1, SeqCst) as u64
            })
        });
        leads.recv().unwrap();
        assert!(!cache.touch(&1).unwrap());
        let waiter = scope.spawn(call);
        std::thread::park_timeout(Duration::from_millis(20));
        assert!(!waiter.is_finished());
        go.send(()).unwrap();
        assert_eq!((leader.join().unwrap(), waiter.join().unwrap(), loads.load(SeqCst)), (0, 0, 1));
    });
}

/// Without a listener the value stayed until a later write, which may never come.
#[test]
fn look_up_of_an_expired_entry_drops_its_value() {
    for engine in [MemoryEngine::Sharded, MemoryEngine::Moka] {
        let clock = ManualClock::default();
        let cache = mcache("held").ttl(MINUTE).memory_engine(engine).clock(clock.clone()).build().unwrap();
        type Look = fn(&Cache<u64, Arc<()>>);
        let looks: [Look; 2] =
            [|cache| assert_eq!(cache.get(&1), None), |cache| assert_eq!(cache.get_many(&[1]), [None])];
        for look in looks {
            let value = Arc::new(());
            cache.insert(1, Arc::clone(&value));
            clock.advance(MINUTE);
            look(&cache);
            assert_eq!(Arc::strong_count(&value), 1, "{engine:?}");
        }
    }
}

#[test]
fn promoted_copy_keeps_the_remaining_ttl() {
    for tier_set in ["disk", "files", "all tiers"] {
        let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
        let builder = || tiered::<u64, String>(tier_set, dir.path(), &clock).ttl(MINUTE);
        let cache = builder().build().unwrap();
        cache.insert(1, "promoted later".into());
        let cache = reopened(cache, builder());
        clock.advance(MINUTE - SECOND);
        assert!(cache.get(&1).is_some(), "{tier_set}: copied into memory");
        lives_until(&cache, &clock, 1, SECOND);
        cache.close().unwrap();
    }
}

#[test]
fn restart_keeps_the_deadline() {
    for tier_set in TIER_SETS {
        let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
        let builder = || tiered::<u64, String>(tier_set, dir.path(), &clock).ttl(MINUTE);
        let cache = builder().build().unwrap();
        cache.insert(1, "kept".into());
        cache.insert(2, "kept".into());
        clock.advance(MINUTE / 2);
        assert!(cache.expire_in(&2, MINUTE * 2).unwrap());
        let cache = reopened(cache, builder());
        lives_until(&cache, &clock, 1, MINUTE / 2);
        lives_until(&cache, &clock, 2, MINUTE * 3 / 2);
        cache.close().unwrap();
    }
}

#[test]
fn clock_set_back_does_not_revive_expired_entries() {
    each_tier_set!(<u64, String>, |builder| builder.ttl(MINUTE), |_, cache: Cache<u64, String>, clock| {
        let clock: ManualClock = clock;
        let before = clock.now();
        cache.insert(1, "expires".into());
        clock.advance(MINUTE);
        assert_eq!(cache.get(&1), None);
        clock.set(before);
        assert_eq!(cache.get(&1), None, "the clock shows the time of before");
        cache.insert(2, "written after".into());
        lives_until(&cache, &clock, 2, MINUTE);
    });
}

#[test]
fn clock_set_back_between_runs_does_not_revive_expired_entries() {
    for tier_set in TIER_SETS {
        let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
        let before = clock.now();
        let builder = || tiered::<u64, String>(tier_set, dir.path(), &clock).ttl(MINUTE);
        let cache = builder().build().unwrap();
        cache.insert(1, "expires".into());
        clock.advance(MINUTE * 2);
        cache.close().unwrap();
        drop(cache);
        clock.set(before);
        let cache = builder().build().unwrap();
        assert_eq!(cache.get(&1), None, "{tier_set}");
        cache.close().unwrap();
    }
}

/// The fault: a clock that was once years ahead put every later run ahead by as much. The cause:
/// the time noted in the directory was carried on without limit.
#[test]
fn clock_years_ahead_in_an_earlier_run_does_not_affect_later_runs() {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    for tier_set in TIER_SETS {
        let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
        let right = clock.now();
        let builder = || tiered::<u64, String>(tier_set, dir.path(), &clock).ttl(MINUTE);
        let reopened_after = |span| {
            clock.advance(span);
            builder().build().unwrap()
        };
        clock.advance(YEAR * 10);
        let cache = builder().build().unwrap();
        cache.insert(1, "of the future".into());
        cache.insert_with(2, "for ever".into(), EntryOptions::new().ttl(Duration::MAX));
        cache.close().unwrap();
        clock.set(right);
        for run in 0..3 {
            let cache = reopened_after(MINUTE / 4);
            assert_eq!(cache.get(&1), None, "{tier_set}, run {run}: nothing tells how old it is");
            assert_eq!(cache.get(&2), Some("for ever".into()), "{tier_set}, run {run}");
            assert_eq!(cache.get(&3).is_some(), run > 0, "{tier_set}, run {run}: left by the right clock");
            cache.insert(3, "new".into());
            cache.close().unwrap();
        }
        // Set back by less than a day: time continues from the noted value.
        clock.set(Time::from_millis(right.as_millis() - 3_600_000));
        let cache = reopened_after(MINUTE / 4);
        lives_until(&cache, &clock, 3, MINUTE);
        cache.close().unwrap();
    }
}

#[test]
fn sweep_removes_expired_entries_from_memory() {
    let clock = ManualClock::default();
    let cache = larder::mcache::<u64, u64>("swept").ttl(SECOND).clock(clock.clone()).build().unwrap();
    cache.insert_many((0..10).map(|key| (key, key)));
    cache.insert_with(99, 99, EntryOptions::new().ttl(MINUTE));
    clock.advance(SECOND);
    assert_eq!((cache.sweep(), cache.sweep()), (10, 0));
    assert_eq!((cache.len(), cache.get(&99)), (1, Some(99)));
}

#[test]
fn jitter_spreads_deadlines() {
    let clock = ManualClock::default();
    let cache =
        larder::mcache::<u64, u64>("spread").ttl(MINUTE).jitter(0.5).clock(clock.clone()).build().unwrap();
    cache.insert_many((0..200).map(|key| (key, key)));
    clock.advance(MINUTE / 2 - TICK);
    let left = |cache: &Cache<u64, u64>| (0..200).filter(|key| cache.get(key).is_some()).count();
    assert_eq!(left(&cache), 200);
    clock.advance(MINUTE / 4);
    assert!((50..150).contains(&left(&cache)), "half of them at three quarters: {}", left(&cache));
    clock.advance(MINUTE / 4);
    assert_eq!(left(&cache), 0);
}

/// What the table of uses in `docs/policies.md` says: the verb, whether it restarts the idle time, whether it is
/// a use for the eviction policy.
type Use = (&'static str, fn(&Cache<u8, u8>) -> bool, bool, bool);

const USES: [Use; 13] = [
    ("get", |cache| cache.get(&1).is_some(), true, true),
    ("try_get", |cache| cache.try_get(&1).is_ok(), true, true),
    ("get_many", |cache| cache.get_many(&[1]).len() == 1, true, true),
    ("get_with", |cache| cache.get_with(1, || 9) == 1, true, true),
    ("load", |cache| cache.load(1, |_| Ok::<u8, ()>(9)).is_ok(), true, true),
    ("touch", |cache| cache.touch(&1).unwrap(), true, true),
    ("insert", |cache| cache.try_insert(1, 1).is_ok(), true, true),
    ("increment", |cache| cache.increment(1, 1, 0).is_ok(), true, true),
    ("inspect", |cache| cache.inspect(&1).is_ok(), false, true),
    ("contains_key", |cache| cache.contains_key(&1), false, false),
    ("insert_if_absent", |cache| !cache.insert_if_absent(1, 2).unwrap(), true, true),
    ("keys", |cache| cache.keys().is_ok(), false, false),
    ("explain", |cache| cache.explain(&1).is_ok(), false, false),
];

#[test]
fn verbs_that_count_as_uses_restart_the_idle_time_and_inform_the_policy() {
    let mut wrong = Vec::new();
    for (verb, call, restarts, informs) in USES {
        let clock = ManualClock::default();
        let idle = larder::mcache::<u8, u8>("idle").idle(MINUTE).clock(clock.clone()).build().unwrap();
        idle.insert(1, 1);
        clock.advance(MINUTE * 2 / 3);
        assert!(call(&idle), "{verb}");
        clock.advance(MINUTE * 2 / 3);
        let has_restarted = idle.get(&1).is_some();

        let recent =
            larder::mcache::<u8, u8>("recent").capacity(2).policy(larder::Policy::Lru).build().unwrap();
        recent.insert(1, 1);
        recent.insert(2, 2);
        assert!(call(&recent), "{verb}");
        recent.insert(3, 3);
        let seen = (has_restarted, recent.contains_key(&1));
        if seen != (restarts, informs) {
            wrong.push((verb, seen));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
