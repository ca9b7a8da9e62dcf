//! Invalidations: records of what was invalidated, logged so that they survive a restart.

use std::ops::ControlFlow;

use xxhash_rust::xxh3::xxh3_64;

use crate::Result;
use crate::clock::Time;
use crate::tier::BoxFuture;

/// The extent of an invalidation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Invalidation {
    /// Everything was removed.
    Cleared,
    /// Everything expired.
    All,
    /// The entries with this tag expired.
    Tag(Box<str>),
    /// Nothing is invalidated; the record only stores a time.
    Time,
}

/// An invalidation with its sequence number and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidationRecord {
    /// The extent.
    pub invalidation: Invalidation,
    /// The sequence number of this invalidation. It applies to entries stamped with a lower number.
    pub stamp: u64,
    /// The time of the invalidation.
    pub at: Time,
}

/// An append-only log of invalidations.
///
/// # Behavior
/// - An acknowledged `append` survives the killing of the process.
/// - A log that lost an invalidation reports this when it is opened.
pub trait InvalidationLog: Send + Sync + 'static {
    /// Appends an encoded invalidation.
    fn append(&self, bytes: &[u8]) -> Result<()>;

    /// Replaces the whole log by these encoded invalidations.
    fn rewrite(&self, bytes: &[u8]) -> Result<()>;

    /// Closes the log; nothing is appended afterwards.
    fn close(&self) {}
}

/// How far a node knows the invalidations of all nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The highest sequence number received from the shared log; zero for none.
    pub heard: u64,
    /// The highest sequence number of all, including those that this node assigned itself.
    pub count: u64,
}

/// The invalidations of all nodes, stored where the nodes share their entries.
///
/// # Behavior
/// - Sequence numbers only rise, across all nodes.
/// - A loss invalidates: if the log is gone, or has fewer invalidations than some node knows of, every entry
///   stamped so far counts as removed.
/// - The number of stored tags is limited. The least recently used tags are merged into one invalidation,
///   which removes every entry stamped up to their number.
pub trait SharedInvalidations: Send + Sync + 'static {
    /// The present time of the clock that [`exchange`](Self::exchange) uses for the times of invalidations,
    /// in both directions. Without I/O. `None` if the clocks of the nodes are assumed to agree.
    fn time(&self) -> Option<Time> {
        None
    }

    /// Appends the invalidations in `made`, each with its time, all under one sequence number above every
    /// stored one and above those in `known`. Returns the invalidations that this node has not received yet,
    /// lowest number first. Atomic among all nodes, one round trip.
    fn exchange<'a>(
        &'a self,
        made: &'a [(Invalidation, Time)],
        known: Known,
    ) -> BoxFuture<'a, Result<Vec<InvalidationRecord>>>;
}

const HEAD_LEN: usize = 2 + 1 + 8 + 8;
const SUM_LEN: usize = 8;

impl InvalidationRecord {
    /// Encodes the record: the length of the rest (2 bytes), a kind (1 byte), sequence number and time (8
    /// bytes each), the text of a tag, and the XXH3-64 of all bytes before it.
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

    /// Calls `visit` with each record of a log; returns whether the log is undamaged to its end.
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
    fn decoded_log_equals_encoded_records() {
        let (all, bytes) = log();
        assert_eq!(read(&bytes), (all, true));
    }

    #[test]
    fn any_damage_to_a_log_is_detected() {
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
