//! A real file system that is filled up. Runs only where mounting is allowed; elsewhere the
//! histories with a quota cover this.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use larder::TierStats;
use larder::{Cache, Persistence, Result};
use larder_testkit::history::{Contract, History, Keeps};
use larder_testkit::workload::{Weights, Workload};
use larder_testkit::{block_on, not_run};
use tempfile::TempDir;

use crate::crashes::Threads;

/// A mounted file system, which is unmounted on drop.
pub(crate) struct Mounted(TempDir);

impl Mounted {
    /// Mounts a tmpfs with the `options`. Returns `None`, which is noted as not run, if mounting is
    /// not allowed.
    pub(crate) fn new(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).output();
        let is_mounted = mount.is_ok_and(|output| output.status.success());
        if !is_mounted {
            not_run("mounting a file system is not allowed");
        }
        is_mounted.then_some(Self(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.path().display());
    }
}

/// More data than fits, with sizes for rows, segments and files.
fn workload() -> Workload {
    let weights = Weights { insert: 60, clear: 0, ..Weights::ALL };
    let lens = vec![100, 3_000, 20_000, 200_000];
    Workload { keys: 200, lens, weights, failing_loads: 0, given_up: 0 }
}

fn use_it(cache: &Threads, history: &Arc<History>, seed: u64) {
    let mut seeds = Rng::with_seed(seed);
    thread::scope(|scope| {
        for _ in 0..3 {
            let (mut recorder, mut rng) = (history.recorder(), seeds.fork());
            scope.spawn(move || block_on(workload().run(cache, &mut recorder, &mut rng, 300)));
        }
    });
}

/// Fills the file system and checks that every read can be explained. Then frees space, and checks
/// that the cache uses it without help.
fn check(name: &str, open: fn(&Path) -> Result<Cache<u64, String>>) {
    let Some(mounted) = Mounted::new("size=14m") else { return };
    let ballast = mounted.path().join("ballast");
    fs::write(&ballast, vec![1; 8 << 20]).unwrap();
    let history = History::new();
    let cache = Threads(open(mounted.path()).unwrap());
    use_it(&cache, &history, 1);
    let of_tiers = |count: fn(&TierStats) -> u64| cache.0.stats().tiers.iter().map(count).sum::<u64>();
    let (failed, evicted) = (of_tiers(|tier| tier.counts.errors), of_tiers(|tier| tier.usage.evictions));
    assert!(evicted > 0, "{name}: it never was full\n{}", cache.0.stats());

    fs::remove_file(ballast).unwrap();
    let mut recorder = history.recorder();
    let deadline = Instant::now() + Duration::from_secs(20);
    let lands =
        |key: u64| cache.0.try_insert(key, "room".repeat(1_000)).is_ok() && cache.0.get(&key).is_some();
    // These keys are not part of the history.
    while !(1_000..1_020).all(lands) {
        assert!(Instant::now() < deadline, "{name}: there is room, and it does not come back");
        thread::park_timeout(Duration::from_millis(50));
    }
    block_on(workload().read_all(&cache, &mut recorder));
    // The flush may fill the file system again. Then `close` returns an error.
    let closed = cache.0.close();
    drop(cache);
    let cache = Threads(open(mounted.path()).unwrap());
    block_on(workload().read_all(&cache, &mut recorder));
    cache.0.close().unwrap();
    drop(recorder);
    // Removals that failed are remembered only while the cache lives. So a failed call may take
    // effect only until then.
    let report = history.check(&Contract { keeps: Keeps::Nothing, failures_change: false });
    println!("{name}: {failed} failures, {evicted} evicted, closed with {closed:?}, {report}");
    report.assert_sound(name);
}

#[test]
fn disk() {
    check("disk", |dir| larder::bcache("full").dir(dir).disk_bytes(256 << 20).memory_bytes(64 << 10).build());
}

#[test]
fn files() {
    check("files", |dir| {
        larder::fcache("full").dir(dir).disk_bytes(256 << 20).memory_bytes(64 << 10).build()
    });
}

#[test]
fn every_tier() {
    check("every tier", |dir| {
        let cache = larder::ucache("full").dir(dir).disk_bytes(256 << 20).memory_bytes(64 << 10);
        cache.persistence(Persistence::LongTerm).build()
    });
}
