//! Crash tests: processes with a cache over one directory are killed and restarted.
//!
//! `LARDER_KILLS` sets the total number of kills (default 32):
//!
//! `LARDER_KILLS=1000 cargo nextest run --test larder crashes::`

use std::future::Future;
use std::path::{Path, PathBuf};
use std::thread;

use fastrand::Rng;
use larder::{Cache, Durability, Error, Persistence, Thresholds, TieredBuilder};
use larder_testkit::block_on;
use larder_testkit::crash::{End, Killer, Life};
use larder_testkit::history::{Contract, Keeps, Verdict};
use larder_testkit::workload::{Subject, Weights, Workload};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

/// The variable that names the directory of a child.
const DIR: &str = "LARDER_CRASH_DIR";
const KILLS: u64 = 32;
/// The number of tests below that kill processes.
const CASES: u64 = 9;
const THREADS: usize = 3;
/// The smallest budget, with which a database becomes a sorted run every few restarts.
const SMALL: u64 = 16 << 20;

/// Lengths below and above the limits of segments (2 KiB of frame) and of files.
const LENS: [usize; 8] = [0, 100, 1_000, 1_900, 2_100, 4_100, 9_000, 40_000];

fn work() -> Workload {
    Workload { keys: 24, lens: LENS.to_vec(), weights: Weights::ALL, failing_loads: 20, given_up: 0 }
}

/// Enough data to create a sorted run every few restarts, and no `clear`.
fn packed() -> Workload {
    let weights = Weights { clear: 0, ..Weights::ALL };
    Workload { keys: 2000, lens: vec![300, 900], weights, failing_loads: 20, given_up: 0 }
}

type Open = fn(&Path) -> larder::Result<Cache<u64, String>>;

/// Kills child processes that use the cache of `open`. Checks that the entries promised by `keeps`
/// survive, and that every read can be explained.
fn killed(test: &str, open: Open, keeps: Keeps) {
    let _dir = killed_at_work(test, open, keeps, work);
}

/// As [`killed`], with a workload. Returns the directory of the caches.
fn killed_at_work(test: &str, open: Open, keeps: Keeps, work: fn() -> Workload) -> Option<TempDir> {
    if let Some(life) = Life::from_env() {
        live(&life, open, &work());
        return None;
    }
    let seed = Rng::new().u64(..);
    let mut rng = Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut killer = Killer::of_test(test, seed).with(DIR, dir.path());
    let kills = std::env::var("LARDER_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    // The first lines come from the test harness, from opening, and from reading existing entries.
    // The first child lives long.
    let most = 650 + 12 * work().keys;
    for life in 0..kills.div_ceil(CASES) {
        let after_lines = if life == 0 { most } else { rng.u64(4..most) };
        killer.live(End::Killed { after_lines });
    }
    killer.live(End::Itself);
    let outcome = killer.check(&Contract { keeps, failures_change: false });
    println!("{test}: {} lives, {}", outcome.lives, outcome.report);
    assert_eq!((outcome.panics, outcome.hung), (0, 0), "seed {seed}: {}", outcome.last_words);
    outcome.report.assert_sound(format_args!("{test}, seed {seed}"));
    assert!(outcome.report.of(Verdict::Explained) > 0, "nothing was read");
    Some(dir)
}

/// The run of a child: reads existing entries, then uses the cache until it is killed.
fn live(life: &Life, open: Open, work: &Workload) {
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap());
    life.note("opening");
    let cache = Threads(open(&dir).unwrap());
    life.note("opened");
    block_on(work.read_all(&cache, &mut life.recorder()));
    if life.is_last {
        cache.0.close().unwrap();
        return;
    }
    let mut seeds = Rng::with_seed(life.seed);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let (mut recorder, mut rng, cache) = (life.recorder(), seeds.fork(), &cache);
            scope.spawn(move || block_on(work.run(cache, &mut recorder, &mut rng, usize::MAX)));
        }
    });
}

/// A value that carries the text of a history.
pub(crate) trait Text: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    fn of(text: String) -> Self;
    fn into_text(self) -> String;
}

impl Text for String {
    fn of(text: String) -> Self {
        text
    }

    fn into_text(self) -> String {
        self
    }
}

/// A cache that is used from threads.
pub(crate) struct Threads<V: Text = String>(pub(crate) Cache<u64, V>);

impl<V: Text> Subject for Threads<V> {
    type Error = Error;

    async fn insert(&self, key: u64, value: String) -> larder::Result<()> {
        self.0.try_insert(key, V::of(value)).map(drop)
    }

    async fn remove(&self, key: u64) -> larder::Result<()> {
        self.0.remove(&key);
        Ok(())
    }

    async fn get(&self, key: u64) -> larder::Result<Option<String>> {
        Ok(self.0.try_get(&key)?.map(V::into_text))
    }

    async fn load(
        &self,
        key: u64,
        loader: impl Future<Output = Option<String>> + Send + 'static,
    ) -> larder::Result<Option<String>> {
        let loaded = self.0.try_get_with(key, || block_on(loader).map(V::of).ok_or(()));
        Ok(loaded.ok().map(V::into_text))
    }

    async fn take(&self, key: u64) -> larder::Result<Option<String>> {
        Ok(self.0.take(&key)?.map(V::into_text))
    }

    async fn contains(&self, key: u64) -> larder::Result<bool> {
        Ok(self.0.contains_key(&key))
    }

    async fn clear(&self) -> larder::Result<()> {
        self.0.clear()
    }

    async fn flush(&self) -> larder::Result<()> {
        self.0.flush()
    }
}

#[test]
fn files_with_memory() {
    let open = |dir: &Path| larder::fcache("crashes").dir(dir).build();
    killed("crashes::files_with_memory", open, Keeps::Acknowledged);
}

#[test]
fn files_alone() {
    let open = |dir: &Path| larder::fcache("crashes").dir(dir).memory_bytes(0).build();
    killed("crashes::files_alone", open, Keeps::Acknowledged);
}

fn disk(dir: &Path) -> TieredBuilder<u64, String> {
    larder::bcache("crashes").dir(dir).disk_bytes(SMALL)
}

fn every_tier(dir: &Path) -> TieredBuilder<u64, String> {
    let thresholds = Thresholds { small: 200, medium: 6_000, large: 1 << 20 };
    let cache =
        larder::ucache("crashes").dir(dir).disk_bytes(SMALL).memory_bytes(64 << 10).thresholds(thresholds);
    cache.persistence(Persistence::LongTerm)
}

#[test]
fn disk_buffered() {
    killed("crashes::disk_buffered", |dir| disk(dir).build(), Keeps::Flushed);
}

#[test]
fn disk_flushed() {
    let open = |dir: &Path| disk(dir).durability(Durability::Flushed).build();
    killed("crashes::disk_flushed", open, Keeps::Acknowledged);
}

#[test]
fn disk_synced() {
    let open = |dir: &Path| disk(dir).durability(Durability::Synced).build();
    killed("crashes::disk_synced", open, Keeps::Acknowledged);
}

/// As [`killed_at_work`], and asserts that sorted runs exist at the end.
fn killed_with_runs(test: &str, open: Open, keeps: Keeps) {
    let Some(dir) = killed_at_work(test, open, keeps, packed) else { return };
    let packs = dir.path().join("crashes/disk/packs");
    let count = std::fs::read_dir(&packs).map_or(0, |packs| packs.count());
    assert!(count > 0, "no pack in {}", packs.display());
}

#[test]
fn runs_buffered() {
    let open = |dir: &Path| disk(dir).memory_bytes(0).build();
    killed_with_runs("crashes::runs_buffered", open, Keeps::Flushed);
}

#[test]
fn runs_flushed() {
    let open = |dir: &Path| disk(dir).memory_bytes(0).durability(Durability::Flushed).build();
    killed_with_runs("crashes::runs_flushed", open, Keeps::Acknowledged);
}

#[test]
fn every_tier_buffered() {
    killed("crashes::every_tier_buffered", |dir| every_tier(dir).build(), Keeps::Flushed);
}

#[test]
fn every_tier_flushed() {
    let open = |dir: &Path| every_tier(dir).durability(Durability::Flushed).build();
    killed("crashes::every_tier_flushed", open, Keeps::Acknowledged);
}
