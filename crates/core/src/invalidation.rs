//! Marks: what was invalidated, written down so that a restart forgets none of it.

use std::ops::ControlFlow;

use xxhash_rust::xxh3::xxh3_64;

use crate::Result;
use crate::clock::Time;
use crate::tier::BoxFuture;

/// What a invalidation says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Invalidation {
    /// Everything was removed.
    Cleared,
    /// Everything expired.
    All,
    /// The entries with this tag expired.
    Tag(Box<str>),
    /// This was the time.
    Time,
}

/// A invalidation: what, when, and the how-manieth invalidation it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidationRecord {
    /// What it says.
    pub invalidation: Invalidation,
    /// Entries stamped below this are meant.
    pub stamp: u64,
    /// When.
    pub at: Time,
}

/// Where invalidations are kept: an append-only log.
///
/// # Behavior
/// - What `append` acknowledged is there after the process was killed.
/// - A log that lost a invalidation says so when it is opened.
pub trait InvalidationLog: Send + Sync + 'static {
    /// Adds an encoded invalidation at the end.
    fn append(&self, bytes: &[u8]) -> Result<()>;

    /// Puts these encoded invalidations in place of all there are.
    fn rewrite(&self, bytes: &[u8]) -> Result<()>;

    /// Lets go of what is open; nothing is added afterwards.
    fn close(&self) {}
}

/// What a node knows of the invalidations of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The highest stamp that came from where they are kept; zero for none.
    pub heard: u64,
    /// The highest stamp of all, those that this node gave by itself among them.
    pub count: u64,
}

/// The invalidations of all nodes, kept where they share their entries.
///
/// # Behavior
/// - Stamps only ever rise, for all nodes together.
/// - What is lost invalidates: where the invalidations are gone, or are fewer than some
///   node knows of, everything stamped so far counts as removed.
/// - Only so many tags are kept; those that were not used for longest are
///   folded into one invalidation that removes everything stamped as early.
pub trait SharedInvalidations: Send + Sync + 'static {
    /// The present time by the clock that the times of invalidations are of in
    /// [`exchange`](Self::exchange), both ways; told without I/O. `None` where the
    /// nodes' own clocks are taken to agree.
    fn time(&self) -> Option<Time> {
        None
    }

    /// Adds invalidations, each with its time, all with one stamp above every other and
    /// above what this node knows; then says which invalidations there are beyond what
    /// it has heard, lowest first. One step among all nodes, one round trip.
    fn exchange<'a>(
        &'a self,
        made: &'a [(Invalidation, Time)],
        known: Known,
    ) -> BoxFuture<'a, Result<Vec<InvalidationRecord>>>;
}

const HEAD_LEN: usize = 2 + 1 + 8 + 8;
const SUM_LEN: usize = 8;

impl InvalidationRecord {
    /// The encoding: the length of the rest (2 bytes), a kind, stamp and time
    /// (8 bytes each), the text of a tag, and the XXH3-64 of all before it.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, text): (u8, &str) = match &self.invalidation {
            Invalidation::Cleared => (1, ""),
            Invalidation::All => (2, ""),
            Invalidation::Tag(tag) => (3, tag),
            Invalidation::Time => (4, ""),
        };
        let mut bytes = Vec::with_capacity(HEAD_LEN + text.len() + SUM_LEN);
        let len = u16::try_from(HEAD_LEN - 2 + text.len() + SUM_LEN).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(&self.stamp.to_le_bytes());
        bytes.extend_from_slice(&self.at.as_millis().to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
        let sum = xxh3_64(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Hands the invalidations of a log to `visit`; whether the log is whole to its end.
    pub fn decode_all(mut bytes: &[u8], mut visit: impl FnMut(Self)) -> bool {
        loop {
            match Self::decode(bytes) {
                ControlFlow::Continue((marked, rest)) => {
                    visit(marked);
                    bytes = rest;
                }
                ControlFlow::Break(whole) => return whole,
            }
        }
    }

    fn decode(bytes: &[u8]) -> ControlFlow<bool, (Self, &[u8])> {
        if bytes.is_empty() {
            return ControlFlow::Break(true);
        }
        match Self::first(bytes) {
            Some(found) => ControlFlow::Continue(found),
            None => ControlFlow::Break(false),
        }
    }

    fn first(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let len = usize::from(u16::from_le_bytes(*bytes.first_chunk()?));
        let (record, rest) = bytes.split_at_checked(2 + len)?;
        let (content, sum) = record.split_last_chunk::<SUM_LEN>()?;
        if content.len() < HEAD_LEN || xxh3_64(content) != u64::from_le_bytes(*sum) {
            return None;
        }
        let word = |at: usize| Some(u64::from_le_bytes(content.get(at..at + 8)?.try_into().ok()?));
        let text = std::str::from_utf8(&content[HEAD_LEN..]).ok()?;
        let invalidation = match content[2] {
            1 => Invalidation::Cleared,
            2 => Invalidation::All,
            3 => Invalidation::Tag(text.into()),
            4 => Invalidation::Time,
            _ => return None,
        };
        Some((Self { invalidation, stamp: word(3)?, at: Time::from_millis(word(11)?) }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> (Vec<InvalidationRecord>, Vec<u8>) {
        let invalidations = [
            Invalidation::Cleared,
            Invalidation::All,
            Invalidation::Tag("a tag".into()),
            Invalidation::Tag("".into()),
            Invalidation::Time,
        ];
        let marked = |(at, invalidation)| InvalidationRecord {
            invalidation,
            stamp: at,
            at: Time::from_millis(7 * at),
        };
        let all: Vec<InvalidationRecord> = (1..).zip(invalidations).map(marked).collect();
        let bytes = all.iter().flat_map(InvalidationRecord::encode).collect();
        (all, bytes)
    }

    fn read(bytes: &[u8]) -> (Vec<InvalidationRecord>, bool) {
        let mut invalidations = Vec::new();
        let whole = InvalidationRecord::decode_all(bytes, |marked| invalidations.push(marked));
        (invalidations, whole)
    }

    #[test]
    fn marks_come_back() {
        let (all, bytes) = log();
        assert_eq!(read(&bytes), (all, true));
    }

    #[test]
    fn every_damage_is_noticed() {
        let (_, bytes) = log();
        let whole_at: Vec<usize> = (0..=bytes.len()).filter(|len| read(&bytes[..*len]).1).collect();
        assert_eq!(whole_at.len(), 6, "whole at the ends of invalidations alone");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!read(&flipped).1, "bit {bit}");
        }
    }
}
