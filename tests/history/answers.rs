//! Random histories of a node whose server applies its requests while the answers are lost.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use larder_core::tier::Tier;
use larder_exec::runtime::Blocking;
use larder_testkit::history::{Contract, History, Keeps, Report, Verdict};
use larder_testkit::workload::{Weights, Workload};
use larder_testkit::{HashMapTier, MapStorage, Proxy, RedisServer, block_on};

use super::subject::Under;
use super::{PATIENCE, within};
use crate::fixtures::{Plan, TestEngine};
use crate::nodes::shared_tier;

/// Each history takes some seconds: calls wait for a silent server.
const HISTORIES: u64 = 4;
const CALLS: usize = 60;
const THREADS: usize = 3;

fn node(line: &Proxy, memory: bool) -> Arc<TestEngine> {
    let (tier, nodes) = shared_tier(line.url(), "answers");
    let own = Arc::new(HashMapTier::on(&MapStorage::default())) as Arc<dyn Tier>;
    Plan { memory, nodes: Some(nodes), ..Plan::over(vec![tier as Arc<dyn Tier>, own]) }.build()
}

/// Runs threads over few keys, while answers are lost from time to time.
fn history(port: u16, seed: u64) -> Report {
    let mut rng = Rng::with_seed(seed);
    let line = Proxy::to(port);
    let (rig, history) = (node(&line, rng.bool()), History::new());
    let work = Workload {
        keys: rng.u64(1..5),
        lens: vec![0, 100, 250],
        weights: Weights::ALL,
        failing_loads: 20,
        given_up: 0,
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|_| {
                let (mut recorder, mut rng) = (history.recorder(), rng.fork());
                let (rig, work) = (&rig, &work);
                scope.spawn(move || {
                    block_on(work.run(&Under::<Blocking>::new(rig), &mut recorder, &mut rng, CALLS));
                })
            })
            .collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            line.swallow_answers(true);
            thread::park_timeout(Duration::from_millis(rng.u64(1..400)));
            line.swallow_answers(false);
            if rng.bool() {
                line.cut();
            }
            thread::park_timeout(Duration::from_millis(rng.u64(1..300)));
        }
    });
    block_on(work.read_all(&Under::<Blocking>::new(&rig), &mut history.recorder()));
    block_on(rig.close::<Blocking>()).unwrap();
    // A failed atomic operation across nodes, such as `take`, leaves the entry unchanged.
    history.check(&Contract { keeps: Keeps::Nothing, failures_change: false })
}

#[test]
fn history_with_lost_answers_is_sound() {
    let Some(server) = RedisServer::start() else { return };
    let (port, first) = (server.port(), Rng::new().u64(..));
    let mut all = Report::default();
    for seed in (0..HISTORIES).map(|number| first.wrapping_add(number)) {
        server.cli(&["FLUSHALL"]);
        let report = within(PATIENCE, seed, move || history(port, seed));
        report.assert_sound(format_args!("seed {seed}"));
        all.add(report);
    }
    println!("{HISTORIES} histories: {all}");
    assert!(all.of(Verdict::Explained) > 0, "nothing was tried: {all}");
}
