//! Random histories: threads and tasks use few keys over tiers that fail on command, and a checker
//! must explain every read.
//!
//! `LARDER_HISTORIES` sets the total number of histories (default 200). `LARDER_SEED` repeats the
//! one history of a failure.
//!
//! `LARDER_HISTORIES=10000 cargo nextest run --test larder history::`

#[cfg(feature = "redis")]
mod answers;
#[cfg(feature = "redis")]
mod clocks;
mod packs;
mod pinned;
mod schemas;
mod spellings;
mod subject;
mod troubles;

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use larder::{Durability, Facts, Persistence, Placement, Selector, Table, Thresholds, TierFacts};
use larder_exec::runtime::{Blocking, Tokio};
use larder_testkit::block_on;
use larder_testkit::history::{Contract, History, Keeps, Recorder, Report, Verdict};
use larder_testkit::workload::{Weights, Workload};
use larder_tiers::DiskBudget;
use larder_tiers::disk::{CROSSOVER_BYTES, DiskOptions, DiskTier};
use larder_tiers::file::{FileOptions, FileTier};
use tempfile::TempDir;

use self::subject::Under;
use self::troubles::Troubled;
use crate::fixtures::{MEMORY_ENGINES, Plan, TestEngine};

/// The tiers that a history runs over.
#[derive(Clone, Copy, Debug)]
struct Tiers {
    memory: bool,
    disk: bool,
    file: bool,
}

/// The number of sets of tiers below, each with and without failures.
const SETS: u64 = 9;

const HISTORIES: u64 = 200;
const CALLS: usize = 60;
const PATIENCE: Duration = Duration::from_secs(120);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn over(memory: bool, disk: bool, file: bool) {
    let tiers = Tiers { memory, disk, file };
    check(tiers, false);
    check(tiers, true);
}

fn check(tiers: Tiers, trouble: bool) {
    if trouble && !tiers.disk && !tiers.file {
        return;
    }
    let once = number("LARDER_SEED");
    let count =
        if once.is_some() { 1 } else { number("LARDER_HISTORIES").unwrap_or(HISTORIES).div_ceil(SETS) };
    let seed = once.unwrap_or_else(|| Rng::new().u64(..));
    let mut all = Report::default();
    for seed in (0..count).map(|n| seed.wrapping_add(n)) {
        let report = within(PATIENCE, seed, move || history(tiers, trouble, seed));
        report.assert_sound(format_args!("LARDER_SEED={seed}, {tiers:?}, trouble: {trouble}"));
        all.add(report);
    }
    println!("{tiers:?}, trouble {trouble}, {count} histories: {all}");
    assert!(all.of(Verdict::Explained) > 0 && all.of(Verdict::Missed) > 0, "nothing was tried: {all}");
}

/// Runs `work` on a thread, and returns its output. Panics if it hangs.
fn within<T: Send + 'static>(patience: Duration, seed: u64, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (give, take) = channel();
    let worker = thread::spawn(move || give.send(work()));
    match take.recv_timeout(patience) {
        Ok(output) => output,
        Err(_) => {
            assert!(worker.is_finished(), "LARDER_SEED={seed} hangs");
            panic!("LARDER_SEED={seed} panicked");
        }
    }
}

/// The default selector with low thresholds, so that kilobytes go to files.
struct Scaled;

impl Selector for Scaled {
    fn place(&self, facts: &Facts, tiers: &[TierFacts]) -> Placement {
        let thresholds = Thresholds { small: 200, medium: 6_000, large: 1 << 20 };
        Table.place(&Facts { thresholds, ..*facts }, tiers)
    }
}

/// Lengths around every limit of size: the shortest values, copies in memory, rows to segments at 4
/// KiB of frame, disk to files at 6000 (24,000 for text).
const LENS: [usize; 10] = [0, 100, 250, 1_000, 3_900, 4_096, 5_000, 9_000, 23_000, 25_000];

fn history(tiers: Tiers, trouble: bool, seed: u64) -> Report {
    let mut rng = Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let troubled = open(tiers, &dir);
    let mut plan = Plan::over(troubled.iter().map(Troubled::tier).collect());
    plan.memory = tiers.memory;
    // Each engine and policy in turn.
    plan.memory_engine = MEMORY_ENGINES[(seed % MEMORY_ENGINES.len() as u64) as usize];
    plan.memory_bytes = 64 << 10;
    plan.selector = Arc::new(Scaled);
    if rng.bool() {
        plan.persistence = Persistence::Session;
    }
    let rig = plan.build();
    let history = History::new();
    let work = Arc::new(Workload {
        keys: rng.u64(1..8),
        lens: LENS.to_vec(),
        weights: Weights::ALL,
        failing_loads: 20,
        given_up: 10,
    });
    run(&rig, &history, &work, &mut rng, if trouble { &troubled } else { &[] });
    block_on(work.read_all(&Under::<Blocking>::new(&rig), &mut history.recorder()));
    block_on(rig.close::<Blocking>()).unwrap();
    history.check(&Contract { keeps: Keeps::Nothing, failures_change: true })
}

fn open(tiers: Tiers, dir: &TempDir) -> Vec<Troubled> {
    let budget = DiskBudget::new(16 << 20);
    let mut troubled = Vec::new();
    if tiers.disk {
        let options = DiskOptions {
            dir: dir.path().join("disk"),
            budget: budget.share(),
            crossover: CROSSOVER_BYTES,
            durability: Durability::Buffered,
        };
        troubled.push(Troubled::new(DiskTier::open(options).unwrap()));
    }
    if tiers.file {
        let options = FileOptions {
            dir: dir.path().join("files"),
            shared: false,
            budget: budget.share(),
            durability: Durability::Buffered,
        };
        troubled.push(Troubled::new(FileTier::open(options).unwrap()));
    }
    troubled
}

/// Runs two threads and three tasks, and optionally a thread that causes failures.
fn run(
    rig: &Arc<TestEngine>,
    history: &Arc<History>,
    work: &Arc<Workload>,
    rng: &mut Rng,
    trouble: &[Troubled],
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    thread::scope(|scope| {
        for mut rng in [rng.fork(), rng.fork()] {
            let mut recorder = history.recorder();
            scope.spawn(move || {
                let subject = Under::<Blocking>::new(rig);
                block_on(work.run(&subject, &mut recorder, &mut rng, CALLS));
            });
        }
        if !trouble.is_empty() {
            let mut rng = rng.fork();
            scope.spawn(move || troubles::make(trouble, history.clock(), &mut rng, CALLS as u64 * 8));
        }
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let (subject, work) = (Under::<Tokio>::new(rig), Arc::clone(work));
                let (mut recorder, mut rng): (Recorder, Rng) = (history.recorder(), rng.fork());
                runtime.spawn(async move { work.run(&subject, &mut recorder, &mut rng, CALLS).await })
            })
            .collect();
        runtime.block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
    });
}

#[test]
fn memory() {
    over(true, false, false);
}

#[test]
fn memory_and_disk() {
    over(true, true, false);
}

#[test]
fn memory_and_files() {
    over(true, false, true);
}

#[test]
fn every_tier() {
    over(true, true, true);
}

#[test]
fn no_memory() {
    over(false, true, true);
}
