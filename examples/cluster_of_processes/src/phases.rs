//! The sequence of faults, and the checks during each.

use std::time::{Duration, Instant};

use crate::board::Board;
use crate::counts::Counts;
use crate::node::{END, READ_PROBES, REPORT, WRITE_PROBES};
use crate::options::{Options, Place};
use crate::peer::Peer;
use crate::plugs::Plugs;
use crate::table::Table;
use crate::{ARTICLES, NODES, Outcome, PROBES};

/// The time between two lines of the table.
const TICK: Duration = Duration::from_secs(1);
/// How long a healing may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// One phase: a fault begins, or is healed.
struct Phase {
    name: &'static str,
    /// Whether the fault is healed from here on.
    heals: bool,
    begin: fn(&mut Plugs),
}

const PHASES: [Phase; 7] = [
    Phase { name: "calm", heals: true, begin: |_| {} },
    Phase { name: "server killed", heals: false, begin: Plugs::kill },
    Phase { name: "server is back", heals: true, begin: Plugs::restart },
    Phase { name: "server stopped", heals: false, begin: Plugs::stop },
    Phase { name: "server goes on", heals: true, begin: Plugs::go_on },
    Phase { name: "node 4 cut off", heals: false, begin: |plugs| plugs.cut_off(3..4) },
    Phase { name: "node 4 let in", heals: true, begin: |plugs| plugs.let_in(3..4) },
];

/// The run in the parent. The processes are dropped before the server.
struct Run {
    peers: Vec<Peer>,
    board: Board,
    plugs: Plugs,
    table: Table,
}

/// Runs all phases; an error unless all of them succeed.
pub(crate) fn run(options: &Options) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let mut run = Run::start(options, folder.path())?;
    for phase in &PHASES {
        (phase.begin)(&mut run.plugs);
        if phase.heals {
            run.heal(phase)?;
        }
        run.watch(phase.name, options.phase)?;
        if !phase.heals {
            run.write_probes()?;
        }
    }
    let Run { mut peers, table, plugs, .. } = run;
    peers.iter_mut().try_for_each(|peer| peer.ask(END))?;
    peers.into_iter().try_for_each(Peer::ended)?;
    // Dropped after the processes that use them: the server and its proxies.
    drop(plugs);
    table.conclude()
}

impl Run {
    fn start(options: &Options, folder: &std::path::Path) -> Outcome<Self> {
        let plugs = Plugs::new(options.server)?;
        let board = Board::create(&folder.join("board"))?;
        let namespace = format!("cluster-of-processes-{}", std::process::id());
        let places = (0..NODES).zip(plugs.urls()).map(|(number, url)| Place {
            number,
            url,
            namespace: namespace.clone(),
            dir: folder.to_path_buf(),
        });
        let peers = places.map(|place| Peer::start(&place)).collect::<Outcome<_>>()?;
        Ok(Self { peers, board, table: Table::begin(plugs.has_own_server()), plugs })
    }

    /// Waits until all processes read the newest version of every probe.
    fn heal(&mut self, phase: &Phase) -> Outcome<()> {
        let healed = Instant::now();
        let newest = self.newest_probes()?;
        while self.ask_all::<Vec<u64>>(READ_PROBES)?.iter().any(|probes| *probes != newest) {
            if healed.elapsed() > PATIENCE {
                return Err(format!("{}: not coherent within {PATIENCE:?}", phase.name).into());
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        self.table.coherent(phase.name, healed.elapsed());
        Ok(())
    }

    fn newest_probes(&self) -> Outcome<Vec<u64>> {
        (ARTICLES..ARTICLES + PROBES).map(|probe| self.board.source(probe)).collect()
    }

    /// Asks every process to write its probes.
    fn write_probes(&mut self) -> Outcome<()> {
        let acknowledged: u64 = self.ask_all::<u64>(WRITE_PROBES)?.iter().sum();
        self.table.probes_written(acknowledged);
        Ok(())
    }

    /// Prints a line of the table each second.
    fn watch(&mut self, name: &'static str, time: Duration) -> Outcome<()> {
        let begun = Instant::now();
        let mut due = begun;
        while begun.elapsed() < time {
            due += TICK;
            while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                std::thread::park_timeout(left);
            }
            let mut sum = Counts::default();
            self.ask_all::<Counts>(REPORT)?.iter().for_each(|counts| sum.add(counts));
            self.table.line(name, &sum);
        }
        Ok(())
    }

    /// Asks all processes at the same time, and waits for all answers.
    fn ask_all<T: serde::de::DeserializeOwned>(&mut self, question: &str) -> Outcome<Vec<T>> {
        self.peers.iter_mut().try_for_each(|peer| peer.ask(question))?;
        self.peers.iter_mut().map(Peer::answer).collect()
    }
}
