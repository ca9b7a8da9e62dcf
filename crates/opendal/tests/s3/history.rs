//! Histories: threads use few keys over memory and S3, with and without disk and Redis, while the servers fail. A
//! checker must explain every read. No acknowledged value may be missing, unless Redis failed.
//!
//! `LARDER_HISTORIES` sets the number of histories of each set of tiers (default 6). `LARDER_SEED` repeats the one
//! of a failure.

use std::future::Future;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use larder::{Cache, EntryOptions, Error, Keys, Persistence, Position, SealingKey, Tier, TierKind, ucache};
use larder_opendal::OpendalTier;
use larder_testkit::history::{Contract, History, Keeps, Report, Verdict};
use larder_testkit::workload::{Subject, Weights, Workload};
use larder_testkit::{RedisServer, block_on};

use super::server::Server;
use super::troubles::{self, Redis};

const HISTORIES: u64 = 6;
const CALLS: usize = 60;
/// Histories that run at once.
const AT_ONCE: usize = 6;
const PATIENCE: Duration = Duration::from_secs(120);

/// The tiers beside memory and S3.
#[derive(Clone, Copy, Debug)]
struct Tiers {
    disk: bool,
    redis: bool,
}

/// A cache, and the homes that its entries get in turn.
struct Under {
    cache: Cache<u64, String>,
    homes: Vec<Option<TierKind>>,
}

impl Under {
    fn options(&self, value: &str) -> EntryOptions {
        // Values differ in their first bytes, so this is as good as a random number.
        let mixed = value.bytes().take(64).fold(7_usize, |sum, byte| sum * 31 % 1009 + usize::from(byte));
        match self.homes[mixed % self.homes.len()] {
            Some(home) => EntryOptions::new().home(home),
            None => EntryOptions::new(),
        }
    }
}

impl Subject for Under {
    type Error = Option<Error>;

    async fn insert(&self, key: u64, value: String) -> Result<(), Self::Error> {
        let options = self.options(&value);
        self.cache.try_insert_with(key, value, options).map(drop).map_err(Some)
    }

    async fn remove(&self, key: u64) -> Result<(), Self::Error> {
        self.cache.try_remove(&key).map(drop).map_err(Some)
    }

    async fn get(&self, key: u64) -> Result<Option<String>, Self::Error> {
        self.cache.try_get(&key).map_err(Some)
    }

    async fn load(
        &self,
        key: u64,
        loader: impl Future<Output = Option<String>> + Send + 'static,
    ) -> Result<Option<String>, Self::Error> {
        self.cache.try_get_with(key, || block_on(loader).ok_or(())).map(Some).map_err(|_| None)
    }

    async fn take(&self, key: u64) -> Result<Option<String>, Self::Error> {
        self.cache.take(&key).map_err(Some)
    }

    /// A tier that fails makes `contains_key` false, which says nothing of the entry.
    async fn contains(&self, key: u64) -> Result<bool, Self::Error> {
        if self.cache.contains_key(&key) { Ok(true) } else { Err(None) }
    }

    async fn clear(&self) -> Result<(), Self::Error> {
        self.cache.clear().map_err(Some)
    }

    async fn flush(&self) -> Result<(), Self::Error> {
        self.cache.flush().map_err(Some)
    }
}

/// The servers of all histories of a set of tiers.
struct Servers {
    s3: Server,
    redis: Option<RedisServer>,
}

/// A cache over these tiers. Every second one is sealed.
fn build(dir: &Path, tiers: Tiers, (s3, redis): (OpendalTier, Option<&Redis<'_>>), rng: &mut Rng) -> Under {
    let mut homes = vec![None, None, Some(s3.kind())];
    let builder = ucache::<u64, String>("history").dir(dir).persistence(Persistence::LongTerm);
    // Before the others, which take what it refuses while it fails.
    let mut builder = builder.memory_bytes(4 << 20).tier(Position::First, s3);
    if let Some(redis) = redis {
        let url = redis.url();
        builder = builder.namespace(format!("history{}", rng.u64(..)));
        builder = if tiers.disk { builder.redis(url) } else { builder.url(format!("memory: {url}")) };
        homes.push(Some(TierKind::Redis));
    } else if !tiers.disk {
        builder = builder.url("memory:");
    }
    if tiers.disk {
        homes.extend([Some(TierKind::Disk), Some(TierKind::File)]);
    }
    if rng.bool() {
        builder = builder.encrypt(Keys::new(SealingKey::new([7; 32])));
    }
    Under { cache: builder.build().unwrap(), homes }
}

fn history(servers: &Servers, tiers: Tiers, seed: u64) -> Report {
    let (mut rng, dir) = (Rng::with_seed(seed), tempfile::tempdir().unwrap());
    let redis = servers.redis.as_ref().map(Redis::of);
    let redis_fails = redis.is_some() && rng.bool();
    let s3 = servers.s3.tier(&format!("history {seed:x}"));
    let (under, history) = (build(dir.path(), tiers, (s3, redis.as_ref()), &mut rng), History::new());
    let work = Workload {
        keys: rng.u64(1..8),
        lens: vec![0, 100, 1_000, 9_000, 25_000],
        weights: Weights::ALL,
        failing_loads: 20,
        given_up: 0,
    };
    thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let (mut recorder, mut rng) = (history.recorder(), rng.fork());
                let (under, work) = (&under, &work);
                scope.spawn(move || block_on(work.run(under, &mut recorder, &mut rng, CALLS)))
            })
            .collect();
        let is_over = || callers.iter().all(thread::ScopedJoinHandle::is_finished);
        troubles::make((&servers.s3, redis.as_ref().filter(|_| redis_fails)), &mut rng, is_over);
    });
    block_on(work.read_all(&under, &mut history.recorder()));
    let counts = under.cache.stats().tier(TierKind::Redis).map(|tier| tier.counts);
    under.cache.close().unwrap();
    // A machine that stands still for a second loses the connection as well.
    let redis_fails = redis_fails || counts.is_some_and(|counts| counts.errors + counts.refusals > 0);
    // While Redis is away a node keeps its changes for later, and may have to give one up: docs/coherence.md.
    let keeps = if redis_fails { Keeps::Nothing } else { Keeps::Acknowledged };
    // A failed atomic operation among nodes, such as `take`, leaves the entry as it was.
    history.check(&Contract { keeps, failures_change: redis.is_none() })
}

/// Runs a history on a thread of its own. Panics if it hangs.
fn within(servers: Servers, tiers: Tiers, seed: u64) -> (Servers, Report) {
    let (give, take) = channel();
    let worker = thread::spawn(move || {
        let report = history(&servers, tiers, seed);
        // The receiver waits, or has panicked.
        let _given = give.send((servers, report));
    });
    take.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        assert!(worker.is_finished(), "LARDER_SEED={seed} hangs, {tiers:?}");
        panic!("LARDER_SEED={seed} panicked, {tiers:?}");
    })
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Runs histories over servers of their own, each after the other. Most of their time they wait, so several
/// of these run at once.
fn several(tiers: Tiers, seeds: impl Iterator<Item = u64>) -> Report {
    let redis = if tiers.redis { RedisServer::start() } else { None };
    let (mut servers, mut all) = (Servers { s3: Server::start(), redis }, Report::default());
    for seed in seeds {
        let (kept, report) = within(servers, tiers, seed);
        servers = kept;
        report.assert_sound(format_args!("LARDER_SEED={seed}, {tiers:?}"));
        all.add(report);
    }
    all
}

fn check(tiers: Tiers) {
    if tiers.redis && RedisServer::start().is_none() {
        return;
    }
    let once = number("LARDER_SEED");
    let count = if once.is_some() { 1 } else { number("LARDER_HISTORIES").unwrap_or(HISTORIES) };
    let first = once.unwrap_or_else(|| Rng::new().u64(..));
    let mut all = Report::default();
    thread::scope(|scope| {
        let seeds = |worker| (worker..count).step_by(AT_ONCE).map(move |number| first.wrapping_add(number));
        let workers = (0..AT_ONCE as u64).map(|worker| scope.spawn(move || several(tiers, seeds(worker))));
        for worker in workers.collect::<Vec<_>>() {
            all.add(worker.join().unwrap());
        }
    });
    println!("memory, S3, {tiers:?}, {count} histories: {all}");
    assert!(all.of(Verdict::Explained) > 0 && all.of(Verdict::Missed) > 0, "nothing was tried: {all}");
}

#[test]
fn memory_and_s3() {
    check(Tiers { disk: false, redis: false });
}

#[test]
fn memory_disk_and_s3() {
    check(Tiers { disk: true, redis: false });
}

#[test]
fn memory_redis_and_s3() {
    check(Tiers { disk: false, redis: true });
}

#[test]
fn memory_disk_redis_and_s3() {
    check(Tiers { disk: true, redis: true });
}
