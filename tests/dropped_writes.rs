//! A write of a task whose future is dropped still runs to completion, but never overwrites a later
//! write.
//!
//! The fault: the dropped write overwrote a later one. The cause: over blocking tiers it waited for
//! a thread of the blocking pool, and took the key lock after the later write had released it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::time::Duration;

use larder::{AsyncCache, Bytes, Cache, fcache};
use larder_testkit::ManualClock;
use tokio::runtime::{Builder, Runtime};

use crate::tier_sets::{TIER_SETS, tiered};

const HOUR: Duration = Duration::from_secs(3600);

/// A runtime whose only blocking thread is occupied until the test releases it.
struct HeldUp {
    runtime: Runtime,
    release: mpsc::Sender<()>,
}

impl HeldUp {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let (release, released) = mpsc::channel();
        drop(runtime.spawn_blocking(move || released.recv().unwrap()));
        Self { runtime, release }
    }

    /// Begins a call, and drops it while it waits for the thread.
    fn begin_and_drop(&self, call: impl Future) {
        let _inside = self.runtime.enter();
        let polled = pin!(call).poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending(), "it waits for the thread");
    }

    /// Releases the thread, and waits until it has run everything that was queued.
    fn finish(self) {
        self.release.send(()).unwrap();
        self.runtime.block_on(self.runtime.spawn_blocking(|| ())).unwrap();
    }
}

type Call<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;
type Begun = (&'static str, for<'a> fn(&'a AsyncCache<u64, u64>) -> Call<'a>);

/// The calls that a task begins and drops.
const FIRST: [Begun; 9] = [
    ("insert", |cache| Box::pin(cache.insert(1, 1))),
    ("remove", |cache| {
        Box::pin(async {
            cache.remove(&1).await;
        })
    }),
    ("take", |cache| {
        Box::pin(async {
            let _told = cache.take(&1).await;
        })
    }),
    ("expire_in", |cache| {
        Box::pin(async {
            let _told = cache.expire_in(&1, Duration::ZERO).await;
        })
    }),
    ("invalidate", |cache| {
        Box::pin(async {
            let _told = cache.invalidate(&1).await;
        })
    }),
    ("increment", |cache| {
        Box::pin(async {
            let _told = cache.increment(1, 1, 0).await;
        })
    }),
    ("insert_if_absent", |cache| {
        Box::pin(async {
            let _told = cache.insert_if_absent(1, 1).await;
        })
    }),
    ("insert_many", |cache| Box::pin(cache.insert_many([(1, 1), (2, 2)]))),
    ("remove_many", |cache| {
        Box::pin(async {
            let _told = cache.remove_many(&[1, 2]).await;
        })
    }),
];

type Later = (&'static str, fn(&Cache<u64, u64>) -> Option<u64>);

/// The calls that a thread makes afterwards, and the expected state of the entry.
const LATER: [Later; 6] = [
    ("insert", |cache| {
        cache.insert(1, 100);
        Some(100)
    }),
    ("insert_many", |cache| {
        cache.insert_many([(1, 100)]);
        Some(100)
    }),
    ("remove", |cache| {
        cache.remove(&1);
        None
    }),
    ("take", |cache| {
        cache.take(&1).unwrap();
        None
    }),
    ("increment", |cache| Some(cache.increment(1, 100, 0).unwrap())),
    ("invalidate", |cache| {
        cache.invalidate(&1).unwrap();
        None
    }),
];

#[test]
fn dropped_write_does_not_overwrite_a_later_one() {
    for tier_set in TIER_SETS {
        for before in [None, Some(7)] {
            for (first, begin) in FIRST {
                for (later, change) in LATER {
                    let dir = tempfile::tempdir().unwrap();
                    let cache =
                        tiered::<u64, u64>(tier_set, dir.path(), &ManualClock::default()).build().unwrap();
                    before.iter().for_each(|value| cache.insert(1, *value));
                    let held_up = HeldUp::new();
                    held_up.begin_and_drop(begin(&cache.to_async()));
                    let expected = change(&cache);
                    held_up.finish();
                    let what = format!("{tier_set}: {first}, then {later}, of {before:?}");
                    assert_eq!(cache.get(&1), expected, "{what}");
                    cache.close().unwrap();
                }
            }
        }
    }
}

#[test]
fn dropped_write_is_stored_if_the_entry_did_not_change() {
    for tier_set in TIER_SETS {
        let dir = tempfile::tempdir().unwrap();
        let cache = tiered::<u64, u64>(tier_set, dir.path(), &ManualClock::default()).build().unwrap();
        cache.insert(2, 2);
        let held_up = HeldUp::new();
        held_up.begin_and_drop(cache.to_async().insert(1, 1));
        held_up.begin_and_drop(cache.to_async().insert(2, 1));
        assert!(!cache.touch(&1).unwrap() && !cache.expire_in(&1, HOUR).unwrap(), "not there yet");
        assert!(!cache.insert_if_absent(2, 9).unwrap(), "it is there");
        held_up.finish();
        assert_eq!(cache.get_many(&[1, 2]), [Some(1), Some(1)], "{tier_set}");
        let counts = cache.stats().cache;
        assert_eq!((counts.insertions, counts.dropped), (3, 0), "{tier_set}");
        cache.close().unwrap();
    }
}

/// Both writes come from tasks, and both futures are dropped.
#[test]
fn later_of_two_dropped_writes_stays() {
    for tier_set in TIER_SETS {
        let dir = tempfile::tempdir().unwrap();
        let cache = tiered::<u64, u64>(tier_set, dir.path(), &ManualClock::default()).build().unwrap();
        let (first, second) = (HeldUp::new(), HeldUp::new());
        first.begin_and_drop(cache.to_async().insert(1, 1));
        second.begin_and_drop(cache.to_async().insert(1, 2));
        second.finish();
        assert_eq!(cache.get(&1), Some(2), "{tier_set}");
        first.finish();
        assert_eq!(cache.get(&1), Some(2), "{tier_set}");
        cache.close().unwrap();
    }
}

#[test]
fn dropped_stream_does_not_overwrite_a_later_write() {
    for len in [10, 5 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let cache = fcache::<u64, Bytes>("streams").dir(dir.path()).build().unwrap();
        let held_up = HeldUp::new();
        held_up.begin_and_drop(cache.to_async().insert_from(1, std::io::Cursor::new(vec![1; len])));
        cache.insert(1, Bytes::from_static(b"later"));
        held_up.finish();
        assert_eq!(cache.get(&1), Some(Bytes::from_static(b"later")), "{len} bytes");
        cache.close().unwrap();
    }
}
