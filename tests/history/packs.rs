//! Long histories over a small disk: databases become sorted runs, runs are evicted, and the cache
//! is closed and reopened.

use std::path::Path;
use std::thread;

use fastrand::Rng;
use larder::bcache;
use larder_testkit::block_on;
use larder_testkit::history::{Contract, History, Keeps, Verdict};
use larder_testkit::workload::{Weights, Workload};

use crate::crashes::Threads;

const THREADS: usize = 3;
const LIVES: usize = 3;
const CALLS: usize = 8_000;

/// More small frames than the disk has room for.
fn work() -> Workload {
    let weights = Weights { clear: 0, insert: 50, ..Weights::ALL };
    Workload { keys: 12_000, lens: vec![100, 500, 900, 900, 3000], weights, failing_loads: 0, given_up: 0 }
}

fn packs(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("packed/disk/packs")).map_or(0, |packs| packs.count())
}

#[test]
fn sorted_runs_never_return_a_replaced_value() {
    let seed = super::number("LARDER_SEED").unwrap_or_else(|| Rng::new().u64(..));
    let (mut rng, work, dir) = (Rng::with_seed(seed), work(), tempfile::tempdir().unwrap());
    let (history, mut most, mut evicted) = (History::new(), 0, 0);
    for life in 0..LIVES {
        let cache = bcache::<u64, String>("packed").dir(dir.path()).disk_bytes(16 << 20).memory_bytes(0);
        let cache = Threads(cache.build().unwrap());
        thread::scope(|scope| {
            for _ in 0..THREADS {
                let (mut recorder, mut rng, cache, work) = (history.recorder(), rng.fork(), &cache, &work);
                scope.spawn(move || block_on(work.run(cache, &mut recorder, &mut rng, CALLS)));
            }
        });
        block_on(work.read_all(&cache, &mut history.recorder()));
        most = most.max(packs(dir.path()));
        evicted += cache.0.stats().tiers.iter().map(|tier| tier.usage.evictions).sum::<u64>();
        // In one round the cache is dropped without `close`.
        if life != 1 {
            cache.0.close().unwrap();
        }
    }
    let report = history.check(&Contract { keeps: Keeps::Nothing, failures_change: false });
    println!("packs: up to {most}, {evicted} entries evicted, {report}");
    report.assert_sound(format_args!("LARDER_SEED={seed}"));
    assert!(most > 1 && evicted > 0 && report.of(Verdict::Explained) > 0, "nothing was tried: {report}");
}
