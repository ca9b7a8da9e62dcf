//! A node process: reads, writes, and answers the questions of the parent.

use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use larder::{Cache, Stats, TierKind, ucache};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::counts::Counts;
use crate::options::Place;
use crate::{ARTICLES, NODES, Outcome, PROBES};

/// How long a process may serve a value that another process has changed.
const LEASE: Duration = Duration::from_secs(1);
/// How long the source takes to return an article.
const SOURCE: Duration = Duration::from_micros(500);
/// How long a load may take, and so how long the other processes wait for a process that was cut off during a
/// load.
const LOAD: Duration = Duration::from_secs(1);
/// The longest time that a call may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Fewer than there are articles, so that some reads go to Redis.
const CAPACITY: u64 = 1_000;

/// A value of the cache.
#[derive(Clone, Serialize, Deserialize)]
struct Article {
    version: u64,
    text: String,
}

impl Article {
    fn new(article: u64, version: u64) -> Self {
        // From 200 bytes to 3 KiB.
        let sentence = format!("article {article} in version {version}; ");
        Self { version, text: sentence.repeat(8 + article as usize % 90) }
    }
}

/// The questions of the parent, one line each; each answer is one line of JSON.
pub(crate) const REPORT: &str = "report";
pub(crate) const READ_PROBES: &str = "read probes";
pub(crate) const WRITE_PROBES: &str = "write probes";
pub(crate) const END: &str = "end";

/// A change that Redis acknowledged: the time, the article and its version.
type Acknowledged = (Instant, u64, u64);

struct Node {
    number: u64,
    cache: Cache<u64, Article>,
    board: Board,
    counts: Mutex<Counts>,
    /// The statistics at the last report.
    told: Mutex<Option<Stats>>,
    /// Serializes reads, so that an unconfirmed read can be identified.
    turn: Mutex<()>,
    ended: AtomicBool,
}

/// Runs until the parent asks it to end, or ends itself.
pub(crate) fn run(place: &Place) -> Outcome<()> {
    let dir = place.dir.join(format!("node-{}", place.number));
    let cache = ucache("articles")
        .capacity(CAPACITY)
        .dir(dir)
        .redis(&place.url)
        .namespace(&place.namespace)
        .lease(LEASE)
        .hard_timeout(LOAD)
        .build()?;
    let node = Node {
        number: place.number,
        cache,
        board: Board::open(&place.dir.join("board"))?,
        counts: Mutex::default(),
        told: Mutex::default(),
        turn: Mutex::default(),
        ended: AtomicBool::new(false),
    };
    let at = &node;
    thread::scope(|scope| {
        let (acknowledge, acknowledged) = mpsc::channel();
        let work = [
            scope.spawn(move || at.read_all_the_time()),
            scope.spawn(move || at.write_all_the_time(acknowledge)),
            scope.spawn(move || at.publish(acknowledged)),
        ];
        let answered = at.answer();
        at.ended.store(true, Ordering::Release);
        for thread in work {
            thread.join().map_err(|_| "a thread of the node panicked")??;
        }
        answered
    })?;
    if place.number == 0 {
        node.cache.destroy()?
    } else {
        node.cache.close()?
    }
    Ok(())
}

impl Node {
    fn read_all_the_time(&self) -> Outcome<()> {
        let mut chance = fastrand::Rng::with_seed(self.number);
        while !self.ended.load(Ordering::Acquire) {
            for _ in 0..8 {
                self.read(skewed(&mut chance, ARTICLES))?;
            }
            thread::park_timeout(Duration::from_micros(500));
        }
        Ok(())
    }

    /// Reads an article and checks its version.
    fn read(&self, article: u64) -> Outcome<u64> {
        let _turn = self.turn.lock();
        let before = self.cache.stats().cache.unconfirmed;
        let owed = self.board.owed(article)?;
        let begun = Instant::now();
        let found = self.cache.try_get_with(article, || self.load(article));
        let took = begun.elapsed();
        let mut counts = self.counts.lock();
        counts.gets += 1;
        counts.times.note(took);
        counts.errors += u64::from(found.is_err() || took > LIMIT);
        let version = found.map_or(0, |found| found.version);
        if version < owed && self.cache.stats().cache.unconfirmed == before {
            counts.stale += 1;
        }
        Ok(version)
    }

    fn load(&self, article: u64) -> Outcome<Article> {
        let version = self.board.source(article)?;
        thread::park_timeout(SOURCE);
        Ok(Article::new(article, version))
    }

    fn write_all_the_time(&self, acknowledge: Sender<Acknowledged>) -> Outcome<()> {
        let mut chance = fastrand::Rng::with_seed(100 + self.number);
        while !self.ended.load(Ordering::Acquire) {
            let article = skewed(&mut chance, ARTICLES / NODES) * NODES + self.number;
            let version = self.board.raise(article)?;
            let is_acknowledged = match chance.u8(..5) {
                0 => self.remove(article),
                _ => self.insert(article, version),
            };
            let mut counts = self.counts.lock();
            counts.changes += 1;
            if is_acknowledged {
                counts.acknowledged += 1;
                acknowledge.send((Instant::now(), article, version))?;
            }
            drop(counts);
            thread::park_timeout(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Returns whether Redis has stored it.
    fn insert(&self, article: u64, version: u64) -> bool {
        let begun = Instant::now();
        let inserted = self.cache.try_insert(article, Article::new(article, version));
        self.counts.lock().errors += u64::from(inserted.is_err() || begun.elapsed() > LIMIT);
        inserted.is_ok_and(|placement| placement.home == TierKind::Redis)
    }

    /// Returns whether it is removed from Redis too.
    fn remove(&self, article: u64) -> bool {
        let failed = || counts_of(&self.cache.stats(), &[TierKind::Redis], |counts| counts.errors);
        let (before, begun) = (failed(), Instant::now());
        self.cache.remove(&article);
        self.counts.lock().errors += u64::from(begun.elapsed() > LIMIT);
        failed() == before
    }

    /// Records a change on the board once it was acknowledged a lease ago.
    fn publish(&self, acknowledged: Receiver<Acknowledged>) -> Outcome<()> {
        for (at, article, version) in acknowledged {
            while let Some(left) = LEASE.checked_sub(at.elapsed()).filter(|left| !left.is_zero()) {
                thread::park_timeout(left);
            }
            self.board.owe(article, version)?;
        }
        Ok(())
    }

    fn answer(&self) -> Outcome<()> {
        self.say(&"ready")?;
        for line in std::io::stdin().lock().lines() {
            match line?.as_str() {
                REPORT => self.say(&self.report())?,
                READ_PROBES => self.say(&self.read_probes()?)?,
                WRITE_PROBES => self.say(&self.write_probes()?)?,
                _ => break,
            }
        }
        Ok(())
    }

    fn say(&self, answer: &impl Serialize) -> Outcome<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(answer)?)?;
        Ok(out.flush()?)
    }

    fn read_probes(&self) -> Outcome<Vec<u64>> {
        (ARTICLES..ARTICLES + PROBES).map(|probe| self.read(probe)).collect()
    }

    /// Writes the probes of this node; returns how many of them Redis acknowledged.
    fn write_probes(&self) -> Outcome<u64> {
        let mut acknowledged = 0;
        for probe in (ARTICLES..ARTICLES + PROBES).filter(|probe| probe % NODES == self.number) {
            let version = self.board.raise(probe)?;
            acknowledged += u64::from(self.insert(probe, version));
        }
        Ok(acknowledged)
    }

    /// The counts since the last call.
    fn report(&self) -> Counts {
        let stats = self.cache.stats();
        let mut told = self.told.lock();
        let since = |of: &dyn Fn(&Stats) -> u64| of(&stats) - told.as_ref().map_or(0, of);
        let hits = |tiers: &'static [TierKind]| {
            since(&|stats: &Stats| counts_of(stats, tiers, |counts| counts.hits))
        };
        let counts = Counts {
            loads: since(&|stats| stats.cache.loads),
            memory: hits(&[TierKind::Memory]),
            redis: hits(&[TierKind::Redis]),
            fallback: hits(&[TierKind::Disk, TierKind::File]),
            unconfirmed: since(&|stats| stats.cache.unconfirmed),
            repaired: since(&|stats| stats.cache.repaired),
            lost: since(&|stats| stats.cache.repairs_lost),
            ..std::mem::take(&mut *self.counts.lock())
        };
        *told = Some(stats);
        counts
    }
}

fn counts_of(stats: &Stats, tiers: &[TierKind], of: impl Fn(&larder::TierCounts) -> u64) -> u64 {
    stats.tiers.iter().filter(|tier| tiers.contains(&tier.kind)).map(|tier| of(&tier.counts)).sum()
}

/// A random number below `end`, small ones far more often than large ones.
fn skewed(chance: &mut fastrand::Rng, end: u64) -> u64 {
    (chance.f64().powi(4) * end as f64) as u64
}
