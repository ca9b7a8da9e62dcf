//! Runs the history checker over Larder and other caches: concurrent threads, closing and reopening, and
//! `kill -9`.
//!
//! Each cache is configured as its documentation recommends for entries that change. Each has 64 KiB of
//! memory, so that most reads go to the disk, and enough disk space to evict nothing there.

mod foyer;
mod glue;
mod larder;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use ::larder::Result;
use fastrand::Rng;
use larder_testkit::crash::{End, Killer, Life};
use larder_testkit::history::{Act, Contract, History, Keeps, Recorder, Report, Verdict};
use larder_testkit::workload::{Subject, Weights, Workload};

/// The memory budget of each cache.
const MEMORY_BYTES: u64 = 64 << 10;
/// The disk budget of each cache.
const DISK_BYTES: u64 = 256 << 20;
/// Threads that use it at once.
const THREADS: usize = 4;
/// A round that takes longer counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);
/// The variable with the contender and the directory of a child process.
const CHILD: &str = "LARDER_COMPARE_CHILD";

/// A cache under test.
trait Rival: Subject + Send + Sync + Sized + 'static {
    /// Opens the cache in a directory.
    fn open(dir: &Path) -> impl Future<Output = Self> + Send;

    /// Closes the cache as its documentation says.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// A contender: its name, its tests, and the work of its child process.
struct Contender {
    name: &'static str,
    judge: fn(&'static str) -> Result<()>,
    live: fn(&Life, &Path),
}

const CONTENDERS: [Contender; 7] = [
    Contender { name: "larder bcache", judge: judge::<larder::Disk>, live: live::<larder::Disk> },
    Contender {
        name: "larder bcache, flushed",
        judge: judge::<larder::DiskFlushed>,
        live: live::<larder::DiskFlushed>,
    },
    Contender { name: "larder fcache", judge: judge::<larder::Files>, live: live::<larder::Files> },
    Contender { name: "larder ucache", judge: judge::<larder::Universal>, live: live::<larder::Universal> },
    Contender {
        name: "foyer hybrid, on eviction",
        judge: judge::<foyer::OnEviction>,
        live: live::<foyer::OnEviction>,
    },
    Contender {
        name: "foyer hybrid, on insertion",
        judge: judge::<foyer::OnInsertion>,
        live: live::<foyer::OnInsertion>,
    },
    Contender { name: "moka over sled", judge: judge::<glue::MokaSled>, live: live::<glue::MokaSled> },
];

/// Prints the table.
pub(crate) fn run() -> Result<()> {
    println!("\nreads that nothing explains: what each contender answered");
    println!(
        "  {:<28}{:<9}{:>7}{:>8}{:>7}{:>7}{:>13}{:>7}{:>6}{:>8}",
        "", "", "rounds", "reads", "wrong", "stale", "resurrected", "lost", "hung", "panics"
    );
    CONTENDERS.iter().try_for_each(|contender| (contender.judge)(contender.name))
}

/// Runs the work of a child process; returns whether this process is one.
pub(crate) fn was_child() -> bool {
    let (Some(life), Ok(told)) = (Life::from_env(), std::env::var(CHILD)) else { return false };
    let Some((name, dir)) = told.split_once('\n') else { return false };
    if let Some(contender) = CONTENDERS.iter().find(|contender| contender.name == name) {
        (contender.live)(&life, Path::new(dir));
    }
    true
}

fn rounds() -> u64 {
    std::env::var("LARDER_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(30)
}

/// Reads, writes and removals; tests that do not close or kill the cache also load: a load that begins
/// before a change and is stored after it is stale, too.
fn workload(loads: u32) -> Workload {
    Workload {
        keys: 32,
        lens: vec![0, 100, 1_000, 3_900, 4_200, 12_000, 40_000],
        weights: Weights { load: loads, ..Weights::PLAIN },
        failing_loads: 0,
        given_up: 0,
    }
}

fn judge<R: Rival>(name: &'static str) -> Result<()> {
    let rounds = rounds();
    let mut at_once = Tally::default();
    let mut reopened = Tally::default();
    for seed in 0..rounds {
        at_once.add(within(move || used_at_once::<R>(seed)));
        reopened.add(within(move || closed_and_opened::<R>(seed)));
    }
    at_once.print(name, "at once");
    reopened.print("", "reopened");
    killed(name, rounds)?.print("", "killed");
    Ok(())
}

/// The combined results of several rounds.
#[derive(Default)]
struct Tally {
    rounds: u64,
    report: Report,
    hung: u64,
    panics: u64,
}

impl Tally {
    fn add(&mut self, ended: Ended) {
        self.rounds += 1;
        match ended {
            Ended::With(report) => self.report.add(report),
            Ended::Hung => self.hung += 1,
            Ended::Panicked => self.panics += 1,
        }
    }

    fn print(&self, name: &str, test: &str) {
        let of = |verdict| self.report.of(verdict);
        let wrong = of(Verdict::Wrong) + of(Verdict::Unwritten) + of(Verdict::Torn);
        println!(
            "  {name:<28}{test:<9}{:>7}{:>8}{wrong:>7}{:>7}{:>13}{:>7}{:>6}{:>8}",
            self.rounds,
            self.report.reads(),
            of(Verdict::Stale),
            of(Verdict::Resurrected),
            of(Verdict::Lost),
            self.hung,
            self.panics
        );
        if std::env::var_os("LARDER_SHOW").is_some()
            && let Some(first) = self.report.first()
        {
            println!("{}", first.history);
        }
    }
}

/// The outcome of a round.
enum Ended {
    With(Report),
    Hung,
    Panicked,
}

fn within(round: impl FnOnce() -> Report + Send + 'static) -> Ended {
    let (give, take) = channel();
    let worker = thread::spawn(move || give.send(round()));
    match take.recv_timeout(PATIENCE) {
        Ok(report) => Ended::With(report),
        Err(_) if worker.is_finished() => Ended::Panicked,
        Err(_) => Ended::Hung,
    }
}

/// A runtime, for the caches that need one; each thread drives its own calls.
#[allow(clippy::expect_used, reason = "no comparison without threads")]
fn runtime() -> tokio::runtime::Runtime {
    let builder = &mut tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("threads can be started")
}

#[allow(clippy::expect_used, reason = "no comparison without a directory")]
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Makes many calls on many threads.
fn use_it<R: Rival>(rival: &R, history: &Arc<History>, rng: &mut Rng, (work, calls): (&Workload, usize)) {
    let runtime = runtime();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let (mut recorder, mut rng, runtime) = (history.recorder(), rng.fork(), &runtime);
            scope.spawn(move || {
                runtime.block_on(work.run(rival, &mut recorder, &mut rng, calls));
            });
        }
    });
}

fn used_at_once<R: Rival>(seed: u64) -> Report {
    let (runtime, dir, history) = (runtime(), scratch(), History::new());
    let rival = runtime.block_on(R::open(dir.path()));
    let work = workload(10);
    use_it(&rival, &history, &mut Rng::with_seed(seed), (&work, 500));
    runtime.block_on(work.read_all(&rival, &mut history.recorder()));
    runtime.block_on(rival.close());
    history.check(&Contract::CACHE)
}

/// Uses, closes and reopens the cache five times. A missing entry that was acknowledged before the close
/// counts as lost.
fn closed_and_opened<R: Rival>(seed: u64) -> Report {
    let (runtime, dir, history) = (runtime(), scratch(), History::new());
    let mut rng = Rng::with_seed(seed);
    for _ in 0..5 {
        let rival = runtime.block_on(R::open(dir.path()));
        runtime.block_on(workload(0).read_all(&rival, &mut history.recorder()));
        use_it(&rival, &history, &mut rng, (&workload(0), 60));
        let mut recorder = history.recorder();
        let call = recorder.begin(Act::Flush);
        runtime.block_on(rival.close());
        recorder.end_done::<(), ()>(call, &Ok(()));
    }
    history.check(&Contract { keeps: Keeps::Flushed, failures_change: false })
}

/// Kills the process at random moments. A missing entry that was acknowledged counts as lost.
fn killed(name: &str, rounds: u64) -> Result<Tally> {
    let dir = scratch();
    let program = std::env::current_exe().map_err(::larder::Error::from)?;
    let told = format!("{name}\n{}", dir.path().display());
    let mut killer = Killer::of_program(program, Vec::new(), rounds).with(CHILD, told);
    let mut rng = Rng::with_seed(rounds);
    for _ in 0..rounds {
        killer.live(End::Killed { after_lines: rng.u64(70..2_000) });
    }
    killer.live(End::Itself);
    let outcome = killer.check(&Contract { keeps: Keeps::Acknowledged, failures_change: false });
    Ok(Tally { rounds, report: outcome.report, hung: outcome.hung, panics: outcome.panics })
}

/// The work of a child process: reads everything, then uses the cache until it is killed.
fn live<R: Rival>(life: &Life, dir: &Path) {
    let runtime = runtime();
    let rival = runtime.block_on(R::open(dir));
    runtime.block_on(workload(0).read_all(&rival, &mut life.recorder()));
    if life.is_last {
        return runtime.block_on(rival.close());
    }
    let mut seeds = Rng::with_seed(life.seed);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let (mut recorder, mut rng): (Recorder, Rng) = (life.recorder(), seeds.fork());
            let (rival, runtime) = (&rival, &runtime);
            scope.spawn(move || {
                runtime.block_on(workload(0).run(rival, &mut recorder, &mut rng, usize::MAX));
            });
        }
    });
}
