//! Caches in processes that are killed, over one directory, life after life.
//!
//! `LARDER_KILLS` says how many in all, 32 where it says nothing:
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

/// Where a child finds its directory.
const DIR: &str = "LARDER_CRASH_DIR";
const KILLS: u64 = 32;
/// Tests below that kill.
const CASES: u64 = 7;
const THREADS: usize = 3;

/// Below and above the lines at 2 and 4 KiB of frame and at 6000 bytes.
const LENS: [usize; 8] = [0, 100, 1_000, 1_900, 2_100, 4_100, 9_000, 40_000];

fn work() -> Workload {
    Workload { keys: 24, lens: LENS.to_vec(), weights: Weights::ALL, failing_loads: 20, given_up: 0 }
}

/// Kills children that use what `open` opens, and asks that what `keeps` says
/// is there, and nothing else.
fn killed(test: &str, open: fn(&Path) -> larder::Result<Cache<u64, String>>, keeps: Keeps) {
    if let Some(life) = Life::from_env() {
        return live(&life, open);
    }
    let seed = Rng::new().u64(..);
    let mut rng = Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut killer = Killer::of_test(test, seed).with(DIR, dir.path());
    let kills = std::env::var("LARDER_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    for _ in 0..kills.div_ceil(CASES) {
        // The first lines are those of the test harness and of the opening.
        killer.live(End::Killed { after_lines: rng.u64(4..700) });
    }
    killer.live(End::Itself);
    let outcome = killer.check(&Contract { keeps, failures_change: false });
    println!("{test}: {} lives, {}", outcome.lives, outcome.report);
    assert_eq!((outcome.panics, outcome.hung), (0, 0), "seed {seed}: {}", outcome.last_words);
    outcome.report.assert_sound(format_args!("{test}, seed {seed}"));
    assert!(outcome.report.of(Verdict::Explained) > 0, "nothing was read");
}

/// The life of a child: read what is there, then use it until killed.
fn live(life: &Life, open: fn(&Path) -> larder::Result<Cache<u64, String>>) {
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap());
    life.note("opening");
    let cache = Threads(open(&dir).unwrap());
    life.note("opened");
    block_on(work().read_all(&cache, &mut life.recorder()));
    if life.is_last {
        cache.0.close().unwrap();
        return;
    }
    let mut seeds = Rng::with_seed(life.seed);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let (mut recorder, mut rng, cache) = (life.recorder(), seeds.fork(), &cache);
            scope.spawn(move || block_on(work().run(cache, &mut recorder, &mut rng, usize::MAX)));
        }
    });
}

/// A cache as threads use it.
pub(crate) struct Threads(pub(crate) Cache<u64, String>);

impl Subject for Threads {
    type Error = Error;

    async fn insert(&self, key: u64, value: String) -> larder::Result<()> {
        self.0.try_insert(key, value).map(drop)
    }

    async fn remove(&self, key: u64) -> larder::Result<()> {
        self.0.remove(&key);
        Ok(())
    }

    async fn get(&self, key: u64) -> larder::Result<Option<String>> {
        self.0.try_get(&key)
    }

    async fn load(
        &self,
        key: u64,
        loader: impl Future<Output = Option<String>> + Send + 'static,
    ) -> larder::Result<Option<String>> {
        Ok(self.0.try_get_with(key, || block_on(loader).ok_or(())).ok())
    }

    async fn take(&self, key: u64) -> larder::Result<Option<String>> {
        self.0.take(&key)
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
    larder::bcache("crashes").dir(dir)
}

fn every_tier(dir: &Path) -> TieredBuilder<u64, String> {
    let thresholds = Thresholds { small: 200, medium: 6_000, large: 1 << 20 };
    let cache = larder::ucache("crashes").dir(dir).memory_bytes(64 << 10).thresholds(thresholds);
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

#[test]
fn every_tier_buffered() {
    killed("crashes::every_tier_buffered", |dir| every_tier(dir).build(), Keeps::Flushed);
}

#[test]
fn every_tier_flushed() {
    let open = |dir: &Path| every_tier(dir).durability(Durability::Flushed).build();
    killed("crashes::every_tier_flushed", open, Keeps::Acknowledged);
}
