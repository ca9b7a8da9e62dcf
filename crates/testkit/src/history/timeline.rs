//! The timeline of a key: its changes, in order.

use std::collections::HashMap;

use super::call::{Act, Answer, Call, NEVER, Ran};
use super::check::{Contract, Keeps};
use super::report::Verdict;
use super::stamp::Stamp;

/// A change of one key, or of all keys.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// The changed key; `None` for all keys.
    pub(super) key: Option<u64>,
    /// The value that was written; `None` for a removal.
    pub(super) stamp: Option<Stamp>,
    /// The schema of the value.
    pub(super) schema: u32,
    pub(super) begun: u64,
    /// The change took effect by then, or never.
    ended: u64,
    /// From then on the change has certainly taken effect.
    certain: u64,
    /// From then on the value must be kept.
    kept: u64,
}

impl Change {
    /// Returns the change that a call made, if any. For a load, that is the value of its
    /// loader.
    pub(super) fn of(
        call: &Call,
        contract: &Contract,
        first_seen: &HashMap<Stamp, u64>,
        flushes: &Flushes,
    ) -> Option<Self> {
        let schema = call.schema;
        if let (Act::Load(key), Some(Ran { at, stamp })) = (call.act, call.ran) {
            let certain = first_seen.get(&stamp).copied().unwrap_or(NEVER);
            let (key, stamp) = (Some(key), Some(stamp));
            return Some(Self { key, stamp, schema, begun: at, ended: at, certain, kept: NEVER });
        }
        if !call.act.changes() {
            return None;
        }
        let certain = match &call.answer {
            None => NEVER,
            Some(Answer::Failed) if !contract.failures_change => NEVER,
            Some(_) => call.ended,
        };
        let stamp = match call.act {
            Act::Insert(stamp) => Some(stamp),
            _ => None,
        };
        let seen = stamp.and_then(|stamp| first_seen.get(&stamp)).copied().unwrap_or(NEVER);
        let is_done = stamp.is_some() && call.answer == Some(Answer::Done);
        let kept = if is_done { kept_from(call.ended, contract.keeps, flushes) } else { NEVER };
        let key = call.act.key();
        let certain = certain.min(seen);
        Some(Self { key, stamp, schema, begun: call.begun, ended: call.ended, certain, kept })
    }

    /// The change as callers of `schema` see it: a value of another schema is none.
    pub(super) fn seen_by(&self, schema: u32) -> Self {
        let mut seen = self.clone();
        if seen.schema != schema {
            (seen.stamp, seen.kept) = (None, NEVER);
        }
        seen
    }
}

fn kept_from(ended: u64, keeps: Keeps, flushes: &Flushes) -> u64 {
    match keeps {
        Keeps::Nothing => NEVER,
        Keeps::Acknowledged => ended,
        Keeps::Flushed => flushes.after(ended),
    }
}

/// The successful flushes, and the crashes between them.
pub(super) struct Flushes {
    /// Beginnings and ends, ordered by beginning. Each has the earliest end among those
    /// that begin no earlier.
    done: Vec<(u64, u64)>,
    crashes: Vec<u64>,
}

impl Flushes {
    pub(super) fn new(calls: &[Call], crashes: &[u64]) -> Self {
        let is_done = |call: &&Call| call.act == Act::Flush && call.answer == Some(Answer::Done);
        let mut done: Vec<_> = calls.iter().filter(is_done).map(|call| (call.begun, call.ended)).collect();
        done.sort_unstable();
        for at in (1..done.len()).rev() {
            done[at - 1].1 = done[at - 1].1.min(done[at].1);
        }
        Self { done, crashes: crashes.to_vec() }
    }

    /// Returns when a flush was done that began after `ended`, in the same life.
    fn after(&self, ended: u64) -> u64 {
        let later = self.done.partition_point(|(begun, _)| *begun < ended);
        let done = self.done.get(later).map_or(NEVER, |(_, done)| *done);
        let crash = self.crashes.get(self.crashes.partition_point(|crash| *crash < ended));
        if crash.is_some_and(|crash| *crash < done) { NEVER } else { done }
    }
}

/// The changes of one key, ordered by their beginning, with precomputed answers for
/// reads. So a history of many calls is checked in little more than one pass.
pub(super) struct Timeline {
    changes: Vec<Change>,
    ended: HashMap<Stamp, u64>,
    /// From each change on, the earliest moment at which one of the rest is certain.
    certain_from: Vec<u64>,
    /// Up to each change, the latest end.
    ended_to: Vec<u64>,
    /// Up to each change, the end of the longest-lived value.
    lives_to: Vec<u64>,
}

impl Timeline {
    pub(super) fn new(mut changes: Vec<Change>) -> Self {
        changes.sort_by_key(|change| change.begun);
        let certain_from = suffix_min(changes.iter().map(|change| change.certain));
        let ended_to = prefix_max(changes.iter().map(|change| change.ended));
        let written = changes.iter().filter_map(|change| Some((change.stamp?, change.ended)));
        let ended = written.collect();
        let mut line = Self { changes, ended, certain_from, ended_to, lives_to: Vec::new() };
        let lives = |change: &Change| if change.stamp.is_some() { line.gone(change.ended) } else { 0 };
        line.lives_to = prefix_max(line.changes.iter().map(lives).collect::<Vec<_>>().into_iter());
        line
    }

    /// Returns when a change that began after `ended` was certain.
    fn gone(&self, ended: u64) -> u64 {
        let later = self.changes.partition_point(|change| change.begun <= ended);
        self.certain_from.get(later).copied().unwrap_or(NEVER)
    }

    /// Returns whether a read that began at `begun` may have found `stamp`, and the
    /// verdict if not.
    pub(super) fn judge(&self, stamp: Stamp, begun: u64) -> Verdict {
        let Some(ended) = self.ended.get(&stamp).copied() else { return Verdict::Unwritten };
        if self.gone(ended) >= begun {
            return Verdict::Explained;
        }
        let certainly_between = |change: &&Change| change.begun > ended && change.certain < begun;
        match self.changes.iter().rev().find(certainly_between) {
            Some(Change { stamp: None, .. }) => Verdict::Resurrected,
            _ => Verdict::Stale,
        }
    }

    /// Whether any value can have been there at some time of a call.
    pub(super) fn may_hold(&self, begun: u64, ended: u64) -> bool {
        let before_end = self.changes.partition_point(|change| change.begun <= ended);
        before_end > 0 && self.lives_to[before_end - 1] >= begun
    }

    /// Whether a value must have been there during a call: the last change must be kept
    /// by then, and so must every change that overlapped it.
    pub(super) fn must_hold(&self, begun: u64, ended: u64) -> bool {
        let before_end = self.changes.partition_point(|change| change.begun <= ended);
        let Some((last, earlier)) = self.changes[..before_end].split_last() else { return false };
        let may_come_after = |at: &usize| self.ended_to[*at] >= last.begun;
        let overlapping = (0..earlier.len()).rev().take_while(may_come_after).map(|at| &earlier[at]);
        let mut overlapping = overlapping.filter(|change| change.ended >= last.begun);
        last.kept < begun && overlapping.all(|change| change.kept < begun)
    }
}

fn suffix_min(values: impl DoubleEndedIterator<Item = u64>) -> Vec<u64> {
    let mut least = NEVER;
    let mut all: Vec<u64> = values
        .rev()
        .map(|value| {
            least = least.min(value);
            least
        })
        .collect();
    all.reverse();
    all
}

fn prefix_max(values: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut most = 0;
    let grow = |value: u64| {
        most = most.max(value);
        most
    };
    values.map(grow).collect()
}
