//! The history checker over Larder and its rivals: threads at once, closing
//! and opening again, and `kill -9`.
//!
//! Each is set up as its documentation recommends for a cache whose entries
//! change, with 64 KiB of memory so that most reads go further, and room on
//! disk for everything, so that nothing has to be evicted there.

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

/// Bytes of memory in front of each.
const MEMORY_BYTES: u64 = 64 << 10;
/// Bytes on disk behind each.
const DISK_BYTES: u64 = 256 << 20;
/// Threads that use it at once.
const THREADS: usize = 4;
/// A round that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a child of this program is told: contender and directory.
const CHILD: &str = "LARDER_COMPARE_CHILD";

/// A cache that is put to the test.
trait Rival: Subject + Send + Sync + Sized + 'static {
    /// Opens it in a directory.
    fn open(dir: &Path) -> impl Future<Output = Self> + Send;

    /// Closes it, as its documentation says.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// One contender: its name, how it is put to the tests, what a child of it does.
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

/// Prints the table; in a child that is to be killed, lives its life.
pub(crate) fn run() -> Result<()> {
    println!("\nreads that nothing explains: what each contender answered");
    println!(
        "  {:<28}{:<9}{:>7}{:>8}{:>7}{:>7}{:>13}{:>7}{:>6}{:>8}",
        "", "", "rounds", "reads", "wrong", "stale", "resurrected", "lost", "hung", "panics"
    );
    CONTENDERS.iter().try_for_each(|contender| (contender.judge)(contender.name))
}

/// Whether this process is a child, whose life is over then.
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

/// Reads, writes and removals; loads as well while nobody closes or kills: a
/// load that begins before a change and is stored after it is stale, too.
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

/// What came of some rounds.
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

/// How a round ended.
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

/// A runtime, for those that need one; each thread drives its own calls.
#[allow(clippy::expect_used, reason = "no comparison without threads")]
fn runtime() -> tokio::runtime::Runtime {
    let builder = &mut tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("threads can be started")
}

#[allow(clippy::expect_used, reason = "no comparison without a directory")]
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Many calls by many threads.
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

/// Used, closed, and opened again, five times. What was acknowledged before it
/// was closed counts as lost where it is missing.
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

/// Killed at random moments. What was acknowledged counts as lost where it is missing.
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

/// The life of a child: reads everything, then uses it until killed.
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
