//! Histories: threads use few keys over memory and S3 while the server fails, and a checker must explain every
//! read.
//!
//! `LARDER_HISTORIES` sets the number of histories (default 6). `LARDER_SEED` repeats the one of a failure.

use std::future::Future;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use larder::{Cache, Error, Persistence, Position, ucache};
use larder_testkit::block_on;
use larder_testkit::history::{Contract, History, Keeps, Report, Verdict};
use larder_testkit::workload::{Subject, Weights, Workload};

use super::server::{Fault, Server};

const HISTORIES: u64 = 6;
const CALLS: usize = 60;

struct Under<'a>(&'a Cache<u64, String>);

impl Subject for Under<'_> {
    type Error = Option<Error>;

    async fn insert(&self, key: u64, value: String) -> Result<(), Self::Error> {
        self.0.try_insert(key, value).map(drop).map_err(Some)
    }

    async fn remove(&self, key: u64) -> Result<(), Self::Error> {
        self.0.try_remove(&key).map(drop).map_err(Some)
    }

    async fn get(&self, key: u64) -> Result<Option<String>, Self::Error> {
        self.0.try_get(&key).map_err(Some)
    }

    async fn load(
        &self,
        key: u64,
        loader: impl Future<Output = Option<String>> + Send + 'static,
    ) -> Result<Option<String>, Self::Error> {
        self.0.try_get_with(key, || block_on(loader).ok_or(())).map(Some).map_err(|_| None)
    }

    async fn take(&self, key: u64) -> Result<Option<String>, Self::Error> {
        self.0.take(&key).map_err(Some)
    }

    async fn contains(&self, key: u64) -> Result<bool, Self::Error> {
        Ok(self.0.contains_key(&key))
    }

    async fn clear(&self) -> Result<(), Self::Error> {
        self.0.clear().map_err(Some)
    }

    async fn flush(&self) -> Result<(), Self::Error> {
        self.0.flush().map_err(Some)
    }
}

fn history(server: &Server, with_disk: bool, seed: u64) -> Report {
    let mut rng = Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let tier = server.tier(&format!("history {seed:x}"));
    let builder = ucache::<u64, String>("history").dir(dir.path()).persistence(Persistence::LongTerm);
    // Before the others, which take what it refuses while it fails.
    let position = Position::First;
    let builder = builder.memory_bytes(256 << 10).tier(position, tier);
    let cache = if with_disk { builder } else { builder.url("memory:") }.build().unwrap();
    let history = History::new();
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
                let (cache, work) = (&cache, &work);
                scope.spawn(move || block_on(work.run(&Under(cache), &mut recorder, &mut rng, CALLS)))
            })
            .collect();
        while !callers.iter().all(thread::ScopedJoinHandle::is_finished) {
            let faults = [
                Fault::Slow(Duration::from_millis(20)),
                Fault::SlowWrites(Duration::from_millis(20)),
                Fault::Status500,
                Fault::Throttled,
                Fault::Half,
                Fault::Unanswered,
                Fault::Gone,
            ];
            server.fail(*rng.choice(&faults).unwrap());
            thread::park_timeout(Duration::from_millis(rng.u64(1..40)));
            server.heal();
            thread::park_timeout(Duration::from_millis(rng.u64(1..40)));
        }
    });
    block_on(work.read_all(&Under(&cache), &mut history.recorder()));
    cache.close().unwrap();
    history.check(&Contract { keeps: Keeps::Nothing, failures_change: true })
}

fn check(with_disk: bool) {
    let number = |variable: &str| std::env::var(variable).ok().map(|text| text.parse::<u64>().unwrap());
    let once = number("LARDER_SEED");
    let count = if once.is_some() { 1 } else { number("LARDER_HISTORIES").unwrap_or(HISTORIES) };
    let seed = once.unwrap_or_else(|| Rng::new().u64(..));
    let server = Arc::new(Server::start());
    let mut all = Report::default();
    for seed in (0..count).map(|n| seed.wrapping_add(n)) {
        let report = history(&server, with_disk, seed);
        report.assert_sound(format_args!("LARDER_SEED={seed}, with disk: {with_disk}"));
        all.add(report);
    }
    println!("with disk {with_disk}, {count} histories: {all}");
    assert!(all.of(Verdict::Explained) > 0 && all.of(Verdict::Missed) > 0, "nothing was tried: {all}");
}

#[test]
fn memory_and_s3() {
    check(false);
}

#[test]
fn memory_disk_and_s3() {
    check(true);
}
