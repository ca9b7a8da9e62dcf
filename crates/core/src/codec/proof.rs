//! Records which features of a type a codec has restored correctly.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::measure::Measure;

/// Up to this nesting any type decodes in a small part of the stack.
const SHALLOW: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Proofs {
    /// Set once any value was verified: a value without features must be verified too.
    any: AtomicBool,
    features: [AtomicU64; 4],
    /// The greatest nesting that was restored: how much stack a level needs depends on the type.
    depth: AtomicUsize,
}

impl Proofs {
    /// Whether a value with these features must still be verified by decoding it back.
    pub(super) fn lacks(&self, measure: &Measure) -> bool {
        let mut features = self.features.iter().zip(measure.features.0);
        !self.any.load(Ordering::Relaxed)
            || (measure.depth > SHALLOW && measure.depth > self.depth.load(Ordering::Relaxed))
            || features.any(|(proven, here)| here & !proven.load(Ordering::Relaxed) != 0)
    }

    /// Records that a value with these features was restored correctly.
    pub(super) fn add(&self, measure: &Measure) {
        if self.lacks(measure) {
            self.any.store(true, Ordering::Relaxed);
            self.depth.fetch_max(measure.depth, Ordering::Relaxed);
            for (proven, here) in self.features.iter().zip(measure.features.0) {
                proven.fetch_or(here, Ordering::Relaxed);
            }
        }
    }
}
