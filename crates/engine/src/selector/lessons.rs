//! What the engine tells a selector that learns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use larder_core::Result;
use larder_core::erased::AnyForm;
use larder_core::place::{Facts, LearnedFile, Lesson, Selector};
use larder_core::tier::TierKind;

use crate::engine::Engine;
use crate::tier_stack::TierStack;

/// A selector that learns, and how much it was told.
pub(crate) struct Pupil {
    selector: Arc<dyn Selector>,
    file: Option<Box<dyn LearnedFile>>,
    /// Requests that went beyond memory.
    requests: AtomicU64,
}

/// The largest frame that the disk tier takes, whatever its budget.
const DISK_FRAME_MAX: u64 = 1 << 30;
/// After this many requests beyond memory a selector learns how full the tiers are.
const FILLED_EVERY: u64 = 256;

impl Pupil {
    /// `None` if the selector does not learn. Takes over what the file has, and lets the tiers tell of their
    /// times.
    pub(crate) fn new(stack: &TierStack, file: Option<Box<dyn LearnedFile>>) -> Option<Self> {
        let selector = &stack.selector;
        if !selector.learns() {
            return None;
        }
        if let Some(snapshot) = file.as_ref().map(|file| file.read()).filter(|bytes| !bytes.is_empty())
            && !selector.restore(&snapshot)
        {
            tracing::info!(target: "larder", "what the selector had learned cannot be used; it begins anew");
        }
        stack.tiers.iter().for_each(|handle| handle.teach(selector));
        Some(Self { selector: Arc::clone(selector), file, requests: AtomicU64::new(0) })
    }

    /// Writes what was learned, if it is kept.
    pub(crate) fn write(&self) -> Result<()> {
        match (&self.file, self.selector.snapshot()) {
            (Some(file), Some(snapshot)) => file.write(&snapshot),
            _ => Ok(()),
        }
    }
}

impl Engine {
    /// The hash of a key for the facts, if the selector learns.
    pub(crate) fn fact_key(&self, key: &dyn AnyForm) -> Option<u64> {
        self.pupil.as_ref().map(|_| self.key_locks.hash(&ByForm(key)))
    }

    /// Tells the selector of a request that memory did not answer.
    pub(crate) fn teach_request(&self, facts: &Facts, found: Option<TierKind>) {
        let Some(pupil) = &self.pupil else { return };
        pupil.selector.learn(Lesson::Requested { facts, found });
        if pupil.requests.fetch_add(1, Relaxed) % FILLED_EVERY == FILLED_EVERY - 1 {
            self.teach_usage(pupil);
        }
    }

    fn teach_usage(&self, pupil: &Pupil) {
        let (usage, capacity) = (self.memory.usage(), self.memory.bounds().bytes);
        pupil.selector.learn(Lesson::Filled { tier: TierKind::Memory, usage, capacity });
        for handle in self.tiers() {
            let (tier, usage) = (handle.kind(), handle.inner().usage());
            let frame_max = handle.facts().capability.frame_bytes_max;
            // Files take a frame of the whole budget on disk, the disk tier one of a quarter, up to 1 GiB.
            let capacity = match tier {
                TierKind::File => Some(frame_max),
                TierKind::Disk if frame_max < DISK_FRAME_MAX => Some(frame_max.saturating_mul(4)),
                _ => None,
            };
            pupil.selector.learn(Lesson::Filled { tier, usage, capacity });
        }
    }
}

struct ByForm<'a>(&'a dyn AnyForm);

impl std::hash::Hash for ByForm<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.feed(state);
    }
}
