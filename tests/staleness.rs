//! What a cache serves while its source is slow or fails: stale values, timeouts, refreshes and
//! negative entries.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use larder::{Cache, EntryOptions, LoadContext, LoadError, Loaded, MemoryEngine};
use larder_testkit::ManualClock;

use crate::flights::until;
use crate::tier_sets::{TIER_SETS, each_tier_set, tiered};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const CALLERS: usize = 1000;
/// The most that a load that does nothing takes, also on a busy machine.
const PROMPT: Duration = Duration::from_millis(500);

type Strings = Cache<u64, String>;

fn callers<T: Send>(count: usize, call: impl Fn() -> T + Sync) -> Vec<T> {
    let start = Barrier::new(count);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    call()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A loader that fails 50 ms after all its callers have arrived, and counts its runs.
#[derive(Clone, Default)]
struct Failing {
    runs: Arc<AtomicUsize>,
    came: Arc<AtomicUsize>,
    expected: Arc<AtomicUsize>,
}

impl Failing {
    fn call(&self, cache: &Strings) -> Result<String, LoadError<&'static str>> {
        self.came.fetch_add(1, SeqCst);
        let this = self.clone();
        cache.load(1, move |_| {
            this.runs.fetch_add(1, SeqCst);
            until(|| this.came.load(SeqCst) >= this.expected.load(SeqCst));
            let end = Instant::now() + Duration::from_millis(50);
            while Instant::now() < end {
                thread::yield_now();
            }
            Err::<String, _>("the source is down")
        })
    }

    fn burst(&self, cache: &Strings, count: usize) -> Vec<Result<String, LoadError<&'static str>>> {
        self.came.store(0, SeqCst);
        self.expected.store(count, SeqCst);
        callers(count, || self.call(cache))
    }

    fn runs(&self) -> usize {
        self.runs.load(SeqCst)
    }
}

#[test]
fn failing_source_is_called_once_per_backoff_and_stale_value_is_served() {
    each_tier_set!(<u64, String>, |builder| builder.ttl(MINUTE).stale(HOUR), |tier_set, cache: Strings, clock| {
        let clock: ManualClock = clock;
        let source = Failing::default();
        let served = |count: usize| {
            let values = source.burst(&cache, count);
            values.iter().filter(|value| matches!(value, Ok(value) if value == "old")).count()
        };
        cache.insert(1, "old".into());
        clock.advance(MINUTE);
        assert_eq!(cache.get(&1), None, "{tier_set}: never stale");
        assert!(cache.inspect(&1).unwrap().unwrap().stale, "{tier_set}");
        assert_eq!((served(CALLERS), source.runs()), (CALLERS, 1), "{tier_set}: a burst");
        assert_eq!((served(50), source.runs()), (50, 1), "{tier_set}: within the pause");
        clock.advance(Duration::from_secs(1));
        assert_eq!((served(50), source.runs()), (50, 2), "{tier_set}: after the pause");
        clock.advance(Duration::from_secs(1));
        assert_eq!((served(50), source.runs()), (50, 2), "{tier_set}: the second pause is longer");
        clock.advance(Duration::from_secs(1));
        assert_eq!((served(50), source.runs()), (50, 3), "{tier_set}");
        clock.advance(HOUR);
        assert!(matches!(source.burst(&cache, 1)[..], [Err(LoadError::Loader(_))]), "{tier_set}: beyond the window");
        assert_eq!(cache.load(1, |_| Ok::<_, ()>("new".to_owned())).unwrap(), "new");
        assert!(!cache.inspect(&1).unwrap().unwrap().stale);
    });
}

#[test]
fn concurrent_callers_share_one_error_without_a_stale_value() {
    each_tier_set!(<u64, String>, |builder| builder.ttl(MINUTE).stale(HOUR), |tier_set, cache: Strings, _| {
        let source = Failing::default();
        let outcomes = source.burst(&cache, CALLERS);
        let errors: Vec<_> = outcomes
            .iter()
            .map(|outcome| match outcome {
                Err(LoadError::Loader(error)) => Arc::as_ptr(error),
                other => panic!("{tier_set}: {other:?}"),
            })
            .collect();
        assert_eq!(source.runs(), 1, "{tier_set}");
        assert!(errors.iter().all(|error| *error == errors[0]), "{tier_set}: one error");
    });
}

#[test]
fn invalidated_value_is_served_stale_when_the_load_fails() {
    each_tier_set!(<u64, String>, |builder| builder.stale(HOUR), |tier_set, cache: Strings, clock| {
        let clock: ManualClock = clock;
        let fails = |cache: &Strings| cache.load(1, |_| Err::<String, _>("down")).ok();
        let renew = |cache: &Strings| cache.insert_with(1, "old".into(), EntryOptions::new().tag("a"));
        for what in ["a tag", "all", "the key"] {
            renew(&cache);
            let invalidated = match what {
                "a tag" => cache.invalidate_tag("a"),
                "all" => cache.invalidate_all(),
                _ => cache.invalidate(&1),
            };
            invalidated.unwrap();
            assert_eq!(cache.get(&1), None, "{tier_set}, {what}");
            assert_eq!(fails(&cache).as_deref(), Some("old"), "{tier_set}, {what}");
            clock.advance(HOUR);
            assert_eq!(fails(&cache), None, "{tier_set}, {what}: beyond its window");
        }
        renew(&cache);
        cache.clear().unwrap();
        assert_eq!(fails(&cache), None, "{tier_set}: clear leaves nothing");
        renew(&cache);
        cache.remove(&1);
        assert_eq!(fails(&cache), None, "{tier_set}: remove leaves nothing");
    });
}

#[test]
fn load_past_the_soft_timeout_returns_the_stale_value() {
    let soft = Duration::from_millis(20);
    each_tier_set!(<u64, String>, |builder| builder.ttl(MINUTE).stale(HOUR).soft_timeout(soft), |tier_set, cache: Strings, clock| {
        let clock: ManualClock = clock;
        cache.insert(1, "old".into());
        clock.advance(MINUTE);
        let (go, goes) = mpsc::channel::<()>();
        let started = Instant::now();
        let value = cache.load(1, move |_| goes.recv().map(|()| "new".to_owned()));
        assert_eq!(value.unwrap(), "old", "{tier_set}");
        assert!(started.elapsed() >= soft, "{tier_set}");
        assert_eq!(cache.stats().cache.stale_serves, 1);
        go.send(()).unwrap();
        until(|| cache.get(&1).as_deref() == Some("new"));
    });
}

#[test]
fn hung_load_times_out_and_the_next_caller_loads() {
    let hard = PROMPT;
    each_tier_set!(<u64, String>, |builder| builder.hard_timeout(hard), |tier_set, cache: Strings, _| {
        let (go, goes) = mpsc::channel::<()>();
        let goes = std::sync::Mutex::new(goes);
        let hung = cache.load(1, move |_| goes.lock().unwrap().recv().map(|()| "late".to_owned()));
        assert!(matches!(hung, Err(LoadError::Timeout)), "{tier_set}: {hung:?}");
        let next = cache.load(1, |_| Ok::<_, ()>("next".to_owned()));
        assert_eq!(next.unwrap(), "next", "{tier_set}: later calls start anew");
        go.send(()).unwrap();
        until(|| cache.stats().cache.superseded == 1);
        assert_eq!(cache.get(&1).as_deref(), Some("next"), "{tier_set}: the late result is older");
    });
}

#[test]
fn late_result_is_stored_only_if_the_key_did_not_change() {
    let hard = Duration::from_millis(30);
    each_tier_set!(<u64, String>, |builder| builder.hard_timeout(hard), |tier_set, cache: Strings, _| {
        for (key, change) in [(1, false), (2, true)] {
            let (go, goes) = mpsc::channel::<()>();
            let late = cache.load(key, move |_| goes.recv().map(|()| "late".to_owned()));
            assert!(matches!(late, Err(LoadError::Timeout)), "{tier_set}");
            let before = cache.stats().cache;
            if change {
                cache.insert(key, "newer".into());
                cache.remove(&key);
            }
            go.send(()).unwrap();
            until(|| cache.stats().cache.published + cache.stats().cache.superseded > before.published + before.superseded);
            assert_eq!(cache.get(&key).is_some(), !change, "{tier_set}");
        }
    });
}

#[test]
fn hard_timeout_applies_to_tasks() {
    let cache = larder::mcache::<u64, &str>("limits").hard_timeout(PROMPT);
    let cache = cache.build().unwrap().to_async();
    // This runtime has no timer.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let hung = cache.load(1, |_| std::future::pending::<Result<&str, ()>>()).await;
        assert!(matches!(hung, Err(LoadError::Timeout)));
        assert!(matches!(cache.load(1, |_| async { Ok::<_, ()>("next") }).await, Ok("next")));
    });
    assert_eq!(cache.stats().cache.timeouts, 1);
}

#[test]
fn hit_close_to_its_deadline_starts_one_refresh() {
    each_tier_set!(<u64, String>, |builder| builder.ttl(MINUTE).refresh_ahead(0.8), |tier_set: &str, cache: Strings, clock| {
        let clock: ManualClock = clock;
        let runs = Arc::new(AtomicUsize::new(0));
        let load = || {
            let runs = Arc::clone(&runs);
            cache.load(1, move |_| Ok::<_, ()>(format!("load {}", runs.fetch_add(1, SeqCst)))).unwrap()
        };
        assert_eq!(load(), "load 0");
        clock.advance(MINUTE * 79 / 100);
        assert_eq!((load().as_str(), cache.stats().cache.refreshes), ("load 0", 0), "{tier_set}");
        clock.advance(MINUTE / 100);
        let values = callers(100, load);
        assert!(values.iter().all(|value| value == "load 0" || value == "load 1"), "{tier_set}");
        until(|| cache.get(&1).as_deref() == Some("load 1"));
        assert_eq!(cache.stats().cache.refreshes, 1, "{tier_set}");
        clock.advance(MINUTE / 2);
        assert_eq!((load().as_str(), runs.load(SeqCst)), ("load 1", 2), "{tier_set}: its time began anew");
    });
}

/// The fault: only the record in memory knew when its refresh was due, so entries that memory takes no
/// copy of expired under their callers.
#[test]
fn hit_on_an_entry_without_a_copy_in_memory_starts_its_refresh() {
    for tier_set in TIER_SETS {
        let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
        let builder = tiered::<u64, String>(tier_set, dir.path(), &clock).memory_bytes(0);
        let cache = builder.ttl(MINUTE).refresh_ahead(0.5).build().unwrap();
        let load = |result: Result<&'static str, &'static str>| {
            let loader = move |context: LoadContext<String>| {
                assert_eq!(
                    context.stale().map(String::as_str),
                    Some("old"),
                    "the value that is about to expire"
                );
                result.map(str::to_owned)
            };
            cache.load(1, loader).unwrap()
        };
        cache.insert(1, "old".to_owned());
        clock.advance(MINUTE / 2);
        assert_eq!(load(Err("down")), "old", "{tier_set}");
        until(|| cache.stats().cache.load_failures == 1);
        assert_eq!(load(Ok("too soon")), "old", "{tier_set}: not again at once");
        clock.advance(Duration::from_secs(10));
        let (go, wait) = mpsc::channel::<()>();
        let slow = cache.load(1, move |_| wait.recv().map(|()| "new".to_owned()));
        assert_eq!(slow.unwrap(), "old", "{tier_set}: the caller does not wait");
        let begun = Instant::now();
        assert_eq!(load(Ok("meanwhile")), "old", "{tier_set}: nor does a later one");
        assert_eq!(cache.get_with(1, || "meanwhile".to_owned()), "old", "{tier_set}");
        assert!(begun.elapsed() < PROMPT, "{tier_set}: {:?}", begun.elapsed());
        go.send(()).unwrap();
        until(|| cache.get(&1).as_deref() == Some("new"));
        assert_eq!(cache.stats().cache.refreshes, 2, "{tier_set}");
        assert_eq!(cache.inspect(&1).unwrap().unwrap().left, Some(MINUTE), "{tier_set}");
        cache.close().unwrap();
    }
}

#[test]
fn removed_entry_is_not_kept_by_a_refresh_that_began_before() {
    each_tier_set!(<u64, String>, |builder| builder.ttl(MINUTE).refresh_ahead(0.5), |tier_set, cache: Strings, clock| {
        let clock: ManualClock = clock;
        cache.insert(1, "old".into());
        clock.advance(MINUTE / 2);
        let (go, wait) = mpsc::channel::<()>();
        let (begin, began) = mpsc::channel::<()>();
        let kept = cache.load(1, move |_| {
            begin.send(()).unwrap();
            wait.recv().unwrap();
            Ok::<Loaded<String>, ()>(Loaded::NotModified)
        });
        assert_eq!(kept.unwrap().as_deref(), Some("old"), "{tier_set}");
        began.recv().unwrap();
        assert!(cache.remove(&1), "{tier_set}");
        go.send(()).unwrap();
        until(|| cache.stats().cache.superseded == 1);
        assert_eq!(cache.get(&1), None, "{tier_set}");
    });
}

/// The fault: a remembered absence counted as an entry in `len` and `hottest`, and a `touch` prolonged it.
#[test]
fn remembered_absence_is_no_entry() {
    each_tier_set!(<u64, String>, |builder| builder, |tier_set, cache: Strings, clock| {
        let clock: ManualClock = clock;
        let absent = |_| Ok::<Loaded<String>, ()>(Loaded::Absent { ttl: MINUTE });
        assert_eq!(cache.load(1, absent).unwrap(), None);
        if tier_set == "memory" {
            assert_eq!((cache.len(), cache.hottest(1).len()), (0, 0));
        }
        assert_eq!((cache.keys().unwrap().len(), cache.iter().unwrap().count()), (0, 0), "{tier_set}");
        assert!(cache.inspect(&1).unwrap().is_none(), "{tier_set}");
        clock.advance(MINUTE / 2);
        assert!(!cache.touch(&1).unwrap(), "{tier_set}");
        assert!(!cache.expire_in(&1, HOUR).unwrap() && !cache.remove(&2), "{tier_set}");
        let value = |_| Ok::<_, ()>(Loaded::Value("new".to_owned()));
        assert_eq!(cache.load(1, value).unwrap(), None, "{tier_set}: remembered");
        clock.advance(MINUTE / 2);
        assert_eq!(cache.load(1, value).unwrap().as_deref(), Some("new"), "{tier_set}: its time was not prolonged");
        assert_eq!(cache.load(2, absent).unwrap(), None);
        cache.invalidate(&2).unwrap();
        assert_eq!(cache.load(2, value).unwrap().as_deref(), Some("new"), "{tier_set}: invalidated");
    });
}

#[test]
fn loader_gets_the_stale_value_and_its_validator() {
    each_tier_set!(<u64, String>, |builder| builder.ttl(MINUTE).stale(HOUR), |tier_set, cache: Strings, clock| {
        let clock: ManualClock = clock;
        let first = cache.load(1, |context| {
            assert_eq!((context.stale(), context.validator()), (None, None));
            Ok::<_, ()>(Loaded::Value("page".to_owned()).with(EntryOptions::new().validator("etag").tag("t")))
        });
        assert_eq!(first.unwrap().as_deref(), Some("page"));
        clock.advance(MINUTE);
        let again = cache.load(1, |context| {
            assert_eq!(context.stale().map(String::as_str), Some("page"));
            assert_eq!(context.validator(), Some(&b"etag"[..]));
            Ok::<Loaded<String>, ()>(Loaded::NotModified)
        });
        assert_eq!(again.unwrap().as_deref(), Some("page"), "{tier_set}");
        assert_eq!(cache.get(&1).as_deref(), Some("page"), "{tier_set}: it lives again");
        assert_eq!(cache.inspect(&1).unwrap().unwrap().tags, ["t".into()], "{tier_set}");
        clock.advance(MINUTE);
        assert_eq!(cache.get(&1), None, "{tier_set}: for as long as before");
        let nothing = cache.load(2, |_| Ok::<Loaded<String>, ()>(Loaded::NotModified));
        assert!(matches!(nothing, Err(LoadError::NothingToKeep)), "{tier_set}");
    });
}

#[test]
fn absent_result_is_cached_for_its_ttl() {
    each_tier_set!(<u64, String>, |builder| builder, |tier_set, cache: Strings, clock| {
        let clock: ManualClock = clock;
        let runs = Arc::new(AtomicUsize::new(0));
        let load = || {
            let runs = Arc::clone(&runs);
            let answer = move |_| {
                runs.fetch_add(1, SeqCst);
                Ok::<Loaded<String>, ()>(Loaded::Absent { ttl: MINUTE })
            };
            cache.load(1, answer).unwrap()
        };
        assert_eq!((load(), load(), runs.load(SeqCst)), (None, None, 1), "{tier_set}");
        assert_eq!(cache.get(&1), None);
        assert!(!cache.contains_key(&1), "{tier_set}");
        clock.advance(MINUTE);
        assert_eq!((load(), runs.load(SeqCst)), (None, 2), "{tier_set}: its time is over");
        assert_eq!(cache.get_with(1, || "value".into()), "value", "{tier_set}: a loader that has one is asked");
        assert_eq!((load().as_deref(), runs.load(SeqCst)), (Some("value"), 2), "{tier_set}");
        let skip = cache.load(2, |_| Ok::<_, ()>(Loaded::Skip("not stored".to_owned())));
        assert_eq!((skip.unwrap().as_deref(), cache.get(&2)), (Some("not stored"), None), "{tier_set}");
    });
}

/// A recorded absence was listed by `keys` and counted by `len`, as if `get` could serve it.
#[test]
fn recorded_absence_is_neither_listed_nor_counted() {
    let dir = tempfile::tempdir().unwrap();
    let absent = |_| Ok::<Loaded<u32>, ()>(Loaded::Absent { ttl: Duration::from_secs(3600) });
    for engine in [MemoryEngine::Sharded, MemoryEngine::Moka] {
        let memory = larder::mcache::<u8, u32>("absent").memory_engine(engine).build().unwrap();
        let tiered =
            larder::bcache::<u8, u32>("absent").dir(dir.path()).memory_engine(engine).build().unwrap();
        for cache in [&memory, &tiered] {
            assert!(matches!(cache.load(1, absent), Ok(None)));
            assert!(cache.keys().unwrap().is_empty(), "{engine:?}");
            assert_eq!((cache.iter().unwrap().count(), cache.hottest(9).len()), (0, 0), "{engine:?}");
            let seen = cache.invalidate_if(|_, _| unreachable!("there is no value")).wait();
            assert_eq!(seen.unwrap(), 0, "{engine:?}");
            assert!(matches!(cache.load(1, |_| -> Result<Loaded<u32>, ()> { unreachable!() }), Ok(None)));
        }
        assert_eq!((memory.len(), memory.is_empty()), (0, true), "{engine:?}");
        tiered.close().unwrap();
    }
}

#[test]
fn entry_reports_the_rest_of_its_stale_window() {
    each_tier_set!(<u64, String>, |builder| builder.ttl(HOUR).stale(MINUTE), |tier_set, cache: Strings, clock| {
        let clock: ManualClock = clock;
        let left = |key| cache.inspect(&key).unwrap().map(|entry| (entry.left, entry.stale_left));
        cache.insert(1, "one".to_owned());
        cache.insert_with(2, "two".to_owned(), EntryOptions::new().tag("tag"));
        cache.insert_with(3, "three".to_owned(), EntryOptions::new().ttl(Duration::MAX));
        clock.advance(MINUTE);
        assert_eq!(left(1), Some((Some(HOUR - MINUTE), Some(HOUR))), "{tier_set}");
        assert_eq!(left(3), Some((None, None)), "{tier_set}: does not expire");
        // The window begins with the invalidation, if that comes first.
        cache.invalidate(&1).unwrap();
        cache.invalidate_tag("tag").unwrap();
        clock.advance(MINUTE / 2);
        for key in [1, 2] {
            assert_eq!(left(key).unwrap().1, Some(MINUTE / 2), "{tier_set}: {key}");
        }
        clock.advance(MINUTE / 2);
        assert_eq!((left(1), left(2)), (None, None), "{tier_set}");
    });
}
