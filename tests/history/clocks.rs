//! Random histories of several nodes whose clocks jump in both directions. Each call spells its key
//! differently.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use larder::{TierKind, ucache};
use larder_testkit::history::{Act, Answer, Contract, History, Keeps, Report, Verdict};
use larder_testkit::workload::{Weights, Workload};
use larder_testkit::{RedisServer, SkewedClock, block_on};
use parking_lot::Mutex;
use tempfile::TempDir;

use super::spellings::{Spelling, path};
use super::{PATIENCE, number, within};

/// Each history takes some seconds.
const HISTORIES: u64 = 4;
/// The share of `LARDER_HISTORIES` that has clocks that jump.
const SHARE: u64 = 100;
const NODES: usize = 3;
const ROUNDS: usize = 3;
const CALLS: usize = 40;
/// How long a node may serve a copy after another node changed the entry.
const LEASE: Duration = Duration::from_millis(300);
/// The shorter time to live.
const SHORT: Duration = Duration::from_millis(800);

const SECOND: i64 = 1_000;
const HOUR: i64 = 3_600 * SECOND;
const YEAR: i64 = 365 * 24 * HOUR;

/// What the nodes of one history do.
struct Setup {
    server: RedisServer,
    /// Whether the entries expire between the rounds, while the clocks jump all the time. Without it
    /// they live longer than the history. The clocks jump between the calls then: a call during
    /// which its clock jumps forward may take an entry for expired.
    expires: bool,
    /// With it one node works at a time, because the others may serve its copies for a lease.
    /// Without it no call loads: it could join a load that began before a change by another node.
    memory: bool,
}

struct Node {
    subject: Spelling<PathBuf>,
    wall: SkewedClock,
    dir: TempDir,
}

impl Setup {
    fn open(&self, dir: &TempDir, wall: &SkewedClock, rng: &mut Rng) -> Spelling<PathBuf> {
        let ttl = if self.expires { SHORT } else { Duration::from_secs(3_600) };
        let memory = if self.memory { 64 << 10 } else { 0 };
        let builder = ucache("clocks").dir(dir.path()).redis(self.server.url()).namespace("histories");
        let builder = builder.clock(wall.clone()).ttl(ttl).lease(LEASE).memory_bytes(memory);
        // While the server does not answer in time, the other nodes cannot see an entry.
        let (cache, home) = (builder.build().unwrap(), Some(TierKind::Redis));
        Spelling { cache, key: path, rng: Mutex::new(rng.fork()), home }
    }

    fn node(&self, rng: &mut Rng) -> Node {
        let (dir, wall) = (tempfile::tempdir().unwrap(), SkewedClock::ahead(jump(rng)));
        Node { subject: self.open(&dir, &wall, rng), wall, dir }
    }

    /// The nodes that work in a round.
    fn at_work<'a>(&self, nodes: &'a [Node], rng: &mut Rng) -> &'a [Node] {
        let only = rng.usize(..nodes.len());
        if self.memory { &nodes[only..=only] } else { nodes }
    }
}

/// A clock is wrong by some seconds, by hours or by years, in both directions, or right.
fn jump(rng: &mut Rng) -> i64 {
    let size = *rng.choice(&[0, 2 * SECOND, 60 * SECOND, 2 * HOUR, 10 * YEAR]).unwrap();
    if rng.bool() { size } else { -size }
}

/// Makes every clock jump.
fn set(nodes: &[Node], rng: &mut Rng) {
    nodes.iter().for_each(|node| node.wall.set_ahead(jump(rng)));
}

fn history(setup: &Setup, seed: u64) -> Report {
    let mut rng = Rng::with_seed(seed);
    let (history, is_over) = (History::new(), AtomicBool::new(false));
    let mut nodes: Vec<Node> = (0..NODES).map(|_| setup.node(&mut rng)).collect();
    let work = Workload {
        keys: rng.u64(1..6),
        lens: vec![0, 100, 1_000],
        weights: Weights { flush: 0, load: if setup.memory { 15 } else { 0 }, ..Weights::ALL },
        failing_loads: 20,
        given_up: 0,
    };
    let walls: Vec<SkewedClock> = nodes.iter().map(|node| node.wall.clone()).collect();
    let mut jumps = rng.fork();
    thread::scope(|scope| {
        let is_over = &is_over;
        scope.spawn(move || {
            while setup.expires && !is_over.load(Ordering::SeqCst) {
                walls[jumps.usize(..NODES)].set_ahead(jump(&mut jumps));
                thread::park_timeout(Duration::from_millis(jumps.u64(1..20)));
            }
        });
        for _ in 0..ROUNDS {
            set(&nodes, &mut rng);
            round(setup, &history, &work, (setup.at_work(&nodes, &mut rng), &mut rng));
            rest(setup, &history);
            set(&nodes, &mut rng);
            let reader = &nodes[rng.usize(..NODES)].subject;
            block_on(work.read_all(reader, &mut history.recorder()));
            let reopened = &mut nodes[rng.usize(..NODES)];
            reopened.subject.cache.close().unwrap();
            reopened.wall.set_ahead(jump(&mut rng));
            reopened.subject = setup.open(&reopened.dir, &reopened.wall, &mut rng);
        }
        is_over.store(true, Ordering::SeqCst);
    });
    let keeps = if setup.expires { Keeps::Nothing } else { Keeps::Acknowledged };
    history.check(&Contract { keeps, failures_change: false })
}

/// Uses each node at work from two threads.
fn round(setup: &Setup, history: &Arc<History>, work: &Workload, (nodes, rng): (&[Node], &mut Rng)) {
    let calls = if setup.memory { CALLS * 2 } else { CALLS };
    thread::scope(|scope| {
        for node in nodes.iter().chain(nodes) {
            let (mut recorder, mut rng) = (history.recorder(), rng.fork());
            scope.spawn(move || block_on(work.run(&node.subject, &mut recorder, &mut rng, calls)));
        }
    });
}

/// Waits until every node knows of all changes. If the entries expire, waits for that, and records
/// it as a removal of everything.
fn rest(setup: &Setup, history: &Arc<History>) {
    let mut recorder = history.recorder();
    let expiry = setup.expires.then(|| recorder.begin(Act::Clear));
    let end = Instant::now() + if setup.expires { SHORT + LEASE } else { LEASE + LEASE / 2 };
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
    if let Some(expiry) = expiry {
        recorder.end(expiry, Answer::Done);
    }
}

fn over(expires: bool, memory: bool) {
    let Some(server) = RedisServer::start() else { return };
    let setup = Arc::new(Setup { server, expires, memory });
    let once = number("LARDER_SEED");
    let count = match once {
        Some(_) => 1,
        None => number("LARDER_HISTORIES").map_or(HISTORIES, |histories| histories / SHARE).div_ceil(4),
    };
    let first = once.unwrap_or_else(|| Rng::new().u64(..));
    let mut all = Report::default();
    for seed in (0..count).map(|number| first.wrapping_add(number)) {
        setup.server.cli(&["FLUSHALL"]);
        let of = Arc::clone(&setup);
        let report = within(PATIENCE, seed, move || history(&of, seed));
        report.assert_sound(format_args!("LARDER_SEED={seed}, expires: {expires}, memory: {memory}"));
        all.add(report);
    }
    println!("clocks, expires {expires}, memory {memory}, {count} histories: {all}");
    assert!(all.of(Verdict::Explained) > 0, "nothing was tried: {all}");
}

#[test]
fn entries_stay_on_all_nodes_whatever_the_clocks() {
    over(false, false);
}

#[test]
fn copies_in_memory_stay_right_whatever_the_clocks() {
    over(false, true);
}

#[test]
fn entries_expire_on_all_nodes_whatever_the_clocks() {
    over(true, false);
}

#[test]
fn copies_in_memory_expire_whatever_the_clocks() {
    over(true, true);
}
