//! Simulations over a sample of the accesses, which tune [`Policy::Auto`].

use larder_core::memory::Bounds;
use parking_lot::Mutex;

use crate::memory::Policy;
use crate::memory::order::{Sample, Shadows, Tuning};

/// The assumed size of an entry where only bytes are bounded, for the size of the sample.
const BYTES_PER_ENTRY: u64 = 1024;

/// The simulations, and the sample of keys whose accesses they see.
pub(super) struct Sampler {
    sample: Sample,
    /// `None` for other policies.
    sampled: Option<Box<Mutex<Sampled>>>,
}

/// The simulations of the policy, and the last access that they saw.
struct Sampled {
    shadows: Shadows,
    last: u64,
}

impl Sampler {
    pub(super) fn new(policy: Policy, bounds: Bounds) -> Self {
        if policy != Policy::Auto {
            return Self { sample: Sample::NONE, sampled: None };
        }
        let entries = bounds.entries.or(bounds.bytes.map(|bytes| bytes / BYTES_PER_ENTRY)).unwrap_or(0);
        let sample = Sample::of(entries);
        let sampled = Sampled { shadows: Shadows::new(sample), last: 0 };
        Self { sample, sampled: Some(Box::new(Mutex::new(sampled))) }
    }

    /// Whether the simulations see the accesses to a key.
    #[inline]
    pub(super) fn takes(&self, hash: u64) -> bool {
        self.sample.takes(hash)
    }

    /// Passes an access to the simulations, and whether it was a hit; returns a tuning that they found better.
    pub(super) fn access(&self, hash: u64, capacity: u64, is_hit: bool) -> Option<Tuning> {
        // Skips an access while another thread samples: a sample need not be complete.
        let mut sampled = self.sampled.as_ref()?.try_lock()?;
        // One miss looks up its key more than once.
        if std::mem::replace(&mut sampled.last, hash) == hash {
            return None;
        }
        sampled.shadows.access(hash, capacity, is_hit)
    }
}
