//! Replays requests against all caches in turn, and takes the times.

use std::hint::black_box;
use std::time::Duration;

use larder::Result;

use crate::contenders::{self, AUTO, Contender, MEASURE};
use larder_simulate::Workload;
use larder_simulate::optimum;

/// Requests that a cache is given before it is the turn of the next one.
const CHUNK: usize = 32_768;

/// A workload at one size of the caches.
pub(crate) struct Row {
    pub(crate) workload: String,
    /// In percent of the distinct keys.
    pub(crate) size: f64,
    /// The bound, in entries or bytes.
    pub(crate) room: u64,
    /// The share of hits that no cache exceeds.
    pub(crate) optimum: f64,
    pub(crate) outcomes: Vec<Outcome>,
}

/// What a cache did with a workload.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    /// The share of hits: the mean of the rounds.
    pub(crate) hits: f64,
    /// Nanoseconds of processor time a request: for each chunk the median of the rounds, then their mean.
    pub(crate) nanos: f64,
}

impl Row {
    /// What the cache of this name did.
    pub(crate) fn outcome(&self, name: &str) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.name == name)
    }

    /// The best of the caches other than `Auto`.
    pub(crate) fn best_single(&self) -> Option<&Outcome> {
        let singles = self.outcomes.iter().filter(|outcome| outcome.name != AUTO);
        singles.max_by(|one, other| one.hits.total_cmp(&other.hits))
    }

    /// By how many points `outcome` is above the best single policy, or below it.
    pub(crate) fn points(&self, outcome: &Outcome) -> f64 {
        (outcome.hits - self.best_single().map_or(0.0, |best| best.hits)) * 100.0
    }

    /// The time of `outcome` as a share of the time of moka.
    pub(crate) fn time_ratio(&self, outcome: &Outcome) -> f64 {
        outcome.nanos / self.outcome(MEASURE).map_or(f64::NAN, |moka| moka.nanos)
    }
}

/// Times and hits of one cache over all rounds.
struct Tally {
    name: &'static str,
    hits: u64,
    /// Nanoseconds by chunk, then by round.
    chunks: Vec<Vec<u64>>,
}

/// Measures caches of `size` percent of the keys.
///
/// # Errors
/// A bound that Larder does not allow.
pub(crate) fn row(workload: &Workload, size: f64, rounds: usize) -> Result<Row> {
    let room = workload.room(size);
    let mut tallies: Vec<Tally> = Vec::new();
    for round in 0..rounds {
        let contenders = contenders::all(workload, room)?;
        if tallies.is_empty() {
            let chunks = vec![Vec::new(); workload.requests.len().div_ceil(CHUNK)];
            let tally = |of: &Contender| Tally { name: of.name, hits: 0, chunks: chunks.clone() };
            tallies = contenders.iter().map(tally).collect();
        }
        replay(workload, &contenders, &mut tallies, round);
    }
    let requests = workload.requests.len() as f64;
    let outcomes = tallies.into_iter().map(|tally| tally.outcome(requests, rounds)).collect();
    let optimum = optimum::share(workload, room);
    Ok(Row { workload: workload.name.clone(), size, room, optimum, outcomes })
}

/// One round: each chunk goes to all caches, each time another one first.
fn replay(workload: &Workload, contenders: &[Contender], tallies: &mut [Tally], round: usize) {
    let count = contenders.len();
    for (place, chunk) in workload.requests.chunks(CHUNK).enumerate() {
        for turn in 0..count {
            let at = (round + place + turn) % count;
            let started = processor_time();
            let hits = contenders[at].replay(black_box(chunk), &workload.weights);
            tallies[at].chunks[place].push(processor_time().saturating_sub(started).as_nanos() as u64);
            tallies[at].hits += hits;
        }
    }
}

impl Tally {
    fn outcome(self, requests: f64, rounds: usize) -> Outcome {
        let nanos: f64 = self.chunks.into_iter().map(median).sum();
        Outcome {
            name: self.name,
            hits: self.hits as f64 / rounds as f64 / requests,
            nanos: nanos / requests,
        }
    }
}

/// The time that this thread was on a processor: other programs do not count. No cache of
/// the comparison has threads of its own.
#[cfg(unix)]
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// The time on the clock, where that of a thread is not known.
#[cfg(not(unix))]
fn processor_time() -> Duration {
    static STARTED: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    STARTED.get_or_init(std::time::Instant::now).elapsed()
}

fn median(mut numbers: Vec<u64>) -> f64 {
    numbers.sort_unstable();
    let half = numbers.len() / 2;
    match numbers.len() % 2 {
        1 => numbers[half] as f64,
        _ if numbers.is_empty() => 0.0,
        _ => (numbers[half - 1] + numbers[half]) as f64 / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_in_the_middle() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![9, 1, 4]), 4.0);
        assert_eq!(median(vec![9, 1, 4, 6]), 5.0);
    }

    #[test]
    fn row_has_each_cache_once_and_all_requests() {
        let requests = (0..1_000).cycle().take(CHUNK + 10_000);
        let row = row(&Workload::new("loop", String::new(), requests), 100.0, 2).unwrap();
        assert_eq!((row.room, row.outcomes.len()), (1_000, 15));
        let most = (CHUNK + 9_000) as f64 / (CHUNK + 10_000) as f64;
        assert!((row.optimum - most).abs() < 1e-9);
        let auto = row.outcome(AUTO).unwrap();
        assert!((auto.hits - most).abs() < 1e-9, "{auto:?}");
        assert!(auto.nanos > 0.0 && row.time_ratio(auto) > 0.0);
        assert_eq!(row.points(row.best_single().unwrap()), 0.0);
    }
}
