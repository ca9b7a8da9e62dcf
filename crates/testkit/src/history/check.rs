//! The checker: finds reads that no order of the calls explains.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::call::{Act, Answer, Call, NEVER};
use super::report::{Offence, Report, Verdict};
use super::stamp::{Seen, Stamp};
use super::timeline::{Change, Flushes, Timeline};

/// Which values a cache may not lose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keeps {
    /// None: a cache may drop any entry, so a miss is always explained.
    #[default]
    Nothing,
    /// Values acknowledged before a `Flush` began must be there after it is done.
    Flushed,
    /// Every acknowledged value must be there.
    Acknowledged,
}

/// The guarantees to the callers of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contract {
    /// Which misses count as losses.
    pub keeps: Keeps,
    /// Whether a failed change has at least made the former value unreachable. If not, a
    /// failed call may or may not have taken effect.
    pub failures_change: bool,
}

impl Contract {
    /// The contract of a cache that may drop any entry.
    pub const CACHE: Self = Self { keeps: Keeps::Nothing, failures_change: false };
}

/// Gives every read of `calls` a verdict.
///
/// A read is explained by a write of its key that began before the read ended, and that
/// was not certainly replaced or removed before the read began. A change has certainly
/// taken effect when it was acknowledged, or when its value was read. A loaded value
/// counts as written when its loader began, so a change that begins later wins over it.
///
/// A value of another schema must not be found. Writing one replaces the values of all schemas.
pub(super) fn check(calls: &[Call], crashes: &[u64], contract: &Contract) -> Report {
    let checker = Checker::new(calls, crashes, contract);
    let mut report = Report::default();
    let mut taken = HashSet::new();
    for call in calls {
        let Some(mut verdict) = checker.judge(call) else { continue };
        if let (Act::Take(_), Some(Answer::Found(Seen::Stamp(stamp)))) = (call.act, &call.answer)
            && !taken.insert(*stamp)
        {
            verdict = Verdict::Twice;
        }
        report.count(verdict, || checker.offence(verdict, call));
    }
    report
}

struct Checker<'a> {
    calls: &'a [Call],
    /// The changes of each key, as callers of each schema see them.
    keys: HashMap<(u64, u32), Timeline>,
    /// When each value was written, and its schema.
    writes: HashMap<Stamp, (u64, u32)>,
    keeps: Keeps,
}

impl<'a> Checker<'a> {
    fn new(calls: &'a [Call], crashes: &[u64], contract: &Contract) -> Self {
        let mut checker = Self { calls, keys: HashMap::new(), writes: HashMap::new(), keeps: contract.keeps };
        let first_seen = first_seen(calls);
        let flushes = Flushes::new(calls, crashes);
        let mut changes: HashMap<u64, Vec<Change>> = HashMap::new();
        let mut clears = Vec::new();
        for call in calls {
            let Some(change) = Change::of(call, contract, &first_seen, &flushes) else { continue };
            if let Some(stamp) = change.stamp {
                checker.writes.insert(stamp, (change.begun, change.schema));
            }
            match change.key {
                Some(key) => changes.entry(key).or_default().push(change),
                None => clears.push(change),
            }
        }
        let schemas: BTreeSet<u32> = calls.iter().map(|call| call.schema).collect();
        for (key, changes) in changes {
            for schema in &schemas {
                let seen = changes.iter().chain(&clears).map(|change| change.seen_by(*schema));
                checker.keys.insert((key, *schema), Timeline::new(seen.collect()));
            }
        }
        checker
    }

    /// Returns the verdict on a call; `None` if it read nothing.
    fn judge(&self, call: &Call) -> Option<Verdict> {
        let answer = call.answer.as_ref()?;
        let key = call.act.key()?;
        match (call.act, answer) {
            // A call may return the value of its own loader, whether or not that was
            // stored.
            (Act::Load(_), Answer::Found(Seen::Stamp(stamp)))
                if call.ran.is_some_and(|ran| ran.stamp == *stamp) =>
            {
                Some(Verdict::Explained)
            }
            (_, Answer::Found(Seen::Torn(_))) => Some(Verdict::Torn),
            (_, Answer::Found(Seen::Stamp(stamp))) => Some(self.judge_found(call, key, *stamp)),
            (Act::Contains(_), Answer::Held) => Some(self.judge_held(call, key)),
            (Act::Get(_) | Act::Take(_) | Act::Contains(_), Answer::Missing) => {
                Some(self.judge_miss(call, key))
            }
            _ => None,
        }
    }

    /// The changes of a key, as the caller sees them.
    fn line(&self, call: &Call, key: u64) -> Option<&Timeline> {
        self.keys.get(&(key, call.schema))
    }

    fn judge_found(&self, call: &Call, key: u64, stamp: Stamp) -> Verdict {
        if stamp.key != key {
            return Verdict::Wrong;
        }
        match (self.writes.get(&stamp), self.line(call, key)) {
            (Some((_, schema)), _) if *schema != call.schema => Verdict::Foreign,
            (Some((begun, _)), Some(line)) if *begun <= call.ended => line.judge(stamp, call.begun),
            _ => Verdict::Unwritten,
        }
    }

    fn judge_held(&self, call: &Call, key: u64) -> Verdict {
        match self.line(call, key) {
            Some(line) if line.may_hold(call.begun, call.ended) => Verdict::Explained,
            _ => Verdict::Resurrected,
        }
    }

    fn judge_miss(&self, call: &Call, key: u64) -> Verdict {
        match self.line(call, key) {
            Some(line) if self.keeps != Keeps::Nothing && line.must_hold(call.begun, call.ended) => {
                Verdict::Lost
            }
            _ => Verdict::Missed,
        }
    }

    /// Returns the calls that matter for a read: those on its key, from the write of the
    /// value it found (or the last writes before it) to its end.
    fn offence(&self, verdict: Verdict, read: &Call) -> Offence {
        let key = read.act.key();
        let from = match &read.answer {
            Some(Answer::Found(Seen::Stamp(stamp))) => self.writes.get(stamp).map_or(0, |(begun, _)| *begun),
            _ => 0,
        };
        let mut around: Vec<&Call> = self
            .calls
            .iter()
            .filter(|call| call.act.key().is_none_or(|of| Some(of) == key))
            .filter(|call| call.begun <= read.ended && call.ended >= from)
            .filter(|call| call.act != Act::Flush || self.keeps == Keeps::Flushed)
            .collect();
        around.sort_by_key(|call| call.begun);
        Offence::new(verdict, read, &around)
    }
}

/// When each value was first read from the cache: from then on its write has certainly
/// taken effect. The value of a `Load` does not count, because it may come from a flight
/// that was never stored.
fn first_seen(calls: &[Call]) -> HashMap<Stamp, u64> {
    let mut seen = HashMap::new();
    for call in calls {
        if let (Act::Get(_) | Act::Take(_), Some(Answer::Found(Seen::Stamp(stamp)))) =
            (call.act, &call.answer)
        {
            let first = seen.entry(*stamp).or_insert(NEVER);
            *first = call.ended.min(*first);
        }
    }
    seen
}
