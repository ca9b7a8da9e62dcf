//! Which features of a type came back whole from a codec.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::measure::Measure;

#[derive(Debug, Default)]
pub(super) struct Proofs {
    /// Values without any feature have to be proven, too.
    any: AtomicBool,
    features: [AtomicU64; 4],
}

impl Proofs {
    /// Whether a value with these features is to be decoded back.
    pub(super) fn lacks(&self, measure: &Measure) -> bool {
        let mut features = self.features.iter().zip(measure.features.0);
        !self.any.load(Ordering::Relaxed)
            || features.any(|(proven, here)| here & !proven.load(Ordering::Relaxed) != 0)
    }

    /// A value with these features came back whole.
    pub(super) fn add(&self, measure: &Measure) {
        if self.lacks(measure) {
            self.any.store(true, Ordering::Relaxed);
            for (proven, here) in self.features.iter().zip(measure.features.0) {
                proven.fetch_or(here, Ordering::Relaxed);
            }
        }
    }
}
