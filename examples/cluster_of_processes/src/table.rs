//! The printed table.

use std::time::{Duration, Instant};

use crate::counts::Counts;
use crate::{ARTICLES, NODES, Outcome, PROBES};

/// A table that is printed line by line.
pub(crate) struct Table {
    since: Instant,
    sum: Counts,
    healings: Vec<(&'static str, Duration)>,
}

impl Table {
    /// Prints the header.
    pub(crate) fn begin(has_own_server: bool) -> Self {
        let server = match has_own_server {
            true => "a Redis of their own",
            false => "the Redis that was given; it is not touched, the lines to it are broken",
        };
        println!("{NODES} processes share a cache of {ARTICLES} articles over {server}\n");
        println!(
            "{:>3} {:<14} {:>6} {:>5} {:>6} {:>6} {:>8} {:>7} {:>7} {:>5} {:>5} {:>6} {:>7} {:>7} {:>7}",
            "s",
            "phase",
            "gets",
            "loads",
            "memory",
            "redis",
            "fallback",
            "unconf.",
            "changes",
            "acked",
            "stale",
            "errors",
            "p50",
            "p99",
            "slowest"
        );
        Self { since: Instant::now(), sum: Counts::default(), healings: Vec::new() }
    }

    /// Prints the counts of one second.
    pub(crate) fn line(&mut self, phase: &str, counts: &Counts) {
        self.print(phase, counts);
        self.sum.add(counts);
    }

    fn print(&self, phase: &str, counts: &Counts) {
        let Counts { gets, loads, memory, redis, fallback, unconfirmed, .. } = counts;
        let Counts { changes, acknowledged, stale, errors, times, .. } = counts;
        let [p50, p99, slowest] = [times.quantile(0.5), times.quantile(0.99), times.slowest()].map(shown);
        println!(
            "{:>3.0} {phase:<14} {gets:>6} {loads:>5} {memory:>6} {redis:>6} {fallback:>8} {unconfirmed:>7} \
             {changes:>7} {acknowledged:>5} {stale:>5} {errors:>6} {p50:>7} {p99:>7} {slowest:>7}",
            self.since.elapsed().as_secs_f64()
        );
    }

    /// Prints how long after healing all processes agree.
    pub(crate) fn coherent(&mut self, phase: &'static str, after: Duration) {
        println!("    {phase}: all {NODES} agree on {PROBES} probes after {}", shown(after));
        self.healings.push((phase, after));
    }

    pub(crate) fn probes_written(&self, acknowledged: u64) {
        println!("    {PROBES} probes written, {acknowledged} of them acknowledged by Redis");
    }

    /// Prints the sums; an error unless the counts that must be zero are.
    pub(crate) fn conclude(self) -> Outcome<()> {
        self.print("in all", &self.sum);
        let Counts { changes, acknowledged, repaired, lost, stale, errors, .. } = self.sum;
        println!(
            "\nof {changes} changes Redis got {acknowledged} at once; of those and of loads that it was owed \
             it got {repaired} later,\nand {lost} never: it came back empty, or others had gone on"
        );
        for (phase, after) in self.healings.iter().skip(1) {
            println!("coherent {} after «{phase}»", shown(*after));
        }
        println!("stale beyond the lease: {stale}; errors seen by callers: {errors}");
        match stale + errors {
            0 => Ok(()),
            _ => Err("neither may be".into()),
        }
    }
}

fn shown(time: Duration) -> String {
    format!("{time:.1?}")
}
