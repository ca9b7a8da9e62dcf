//! The fingerprint of earlier builds, for the types that it covers.
//!
//! A type with enums is walked once for each variant of the widest enum, at most [`VARIANTS_MAX`] times; walk
//! *n* takes variant *n* modulo the number of variants. This misses variants if enums of different widths are
//! nested, and everything behind a rejected sample. If it misses nothing, entries of earlier builds have this
//! fingerprint, and the type keeps it.

use std::collections::HashSet;

use xxhash_rust::xxh3::xxh3_64;

use super::Walk;
use super::graph::{NodeId, Place, note};
use super::probe::Stop;
use super::survey::Survey;

/// The maximum number of variants that are walked into.
const VARIANTS_MAX: u32 = 32;
/// The maximum number of questions in one walk.
const QUESTIONS_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Frozen {
    notes: Vec<u8>,
    walk: u32,
    /// The largest number of variants seen.
    variants: u32,
    /// Questions in this walk.
    asked: usize,
    edges: HashSet<(Place, NodeId)>,
    visited: HashSet<(NodeId, u32)>,
}

impl Frozen {
    /// Records one node, which may be two questions.
    pub(super) fn tell(&mut self, notes: &[u8], count: usize) -> Result<(), Stop> {
        self.asked += count;
        if self.asked > QUESTIONS_MAX {
            return Err(Stop);
        }
        self.notes.extend_from_slice(notes);
        Ok(())
    }

    pub(super) fn connect(&mut self, place: Place, node: NodeId) {
        self.edges.insert((place, node));
    }

    pub(super) fn choose(&mut self, node: NodeId, variants: u32, is_deep: bool) -> u32 {
        self.variants = self.variants.max(variants);
        let chosen = if is_deep { 0 } else { self.walk % variants.max(1) };
        self.visited.insert((node, chosen));
        chosen
    }
}

impl Survey {
    /// The fingerprint of earlier builds, if their walks cover everything that was explored.
    pub(super) fn frozen_fingerprint(&mut self, walk: Walk<'_>) -> Option<u64> {
        self.frozen = Some(Frozen::default());
        let mut is_last = false;
        while !is_last {
            self.begin_walk();
            let whole = walk(self);
            let frozen = self.frozen.as_mut().filter(|_| whole)?;
            frozen.asked = 0;
            frozen.walk += 1;
            is_last = frozen.walk >= frozen.variants.min(VARIANTS_MAX);
            if !is_last {
                frozen.notes.extend(note("next walk", &[]));
            }
        }
        let frozen = self.frozen.take()?;
        let is_covered = self.graph.edges().all(|edge| frozen.edges.contains(&edge))
            && self.graph.variants().all(|variant| frozen.visited.contains(&variant));
        is_covered.then(|| xxh3_64(&frozen.notes).max(1))
    }
}
