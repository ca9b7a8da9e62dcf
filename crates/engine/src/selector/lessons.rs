//! What the engine tells a selector that learns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use larder_core::Result;
use larder_core::erased::AnyForm;
use larder_core::memory::Watch;
use larder_core::place::{Facts, LearnedFile, Lesson, Selector};
use larder_core::tier::TierKind;

use crate::engine::Engine;

/// A selector that learns, and how much it was told.
pub(crate) struct Pupil {
    selector: Arc<dyn Selector>,
    file: Option<Box<dyn LearnedFile>>,
    /// Requests that went beyond memory.
    requests: AtomicU64,
}

/// After this many requests beyond memory a selector learns how full the tiers are.
const FILLED_EVERY: u64 = 256;

impl Pupil {
    /// `None` if the selector does not learn. Takes over what the file has.
    pub(crate) fn new(selector: &Arc<dyn Selector>, file: Option<Box<dyn LearnedFile>>) -> Option<Self> {
        if !selector.learns() {
            return None;
        }
        if let Some(snapshot) = file.as_ref().map(|file| file.read()).filter(|bytes| !bytes.is_empty())
            && !selector.restore(&snapshot)
        {
            tracing::info!(target: "larder", "what the selector had learned cannot be used; it begins anew");
        }
        Some(Self { selector: Arc::clone(selector), file, requests: AtomicU64::new(0) })
    }

    pub(crate) fn selector(&self) -> &Arc<dyn Selector> {
        &self.selector
    }

    /// Tells the selector of the requests that a memory store samples.
    pub(crate) fn watch(&self) -> Arc<dyn Watch> {
        Arc::new(Watching(Arc::clone(&self.selector)))
    }

    /// Writes what was learned, if it is kept.
    pub(crate) fn write(&self) -> Result<()> {
        match (&self.file, self.selector.snapshot()) {
            (Some(file), Some(snapshot)) => file.write(&snapshot),
            _ => Ok(()),
        }
    }
}

struct Watching(Arc<dyn Selector>);

impl Watch for Watching {
    fn looked_up(&self, hash: u64, one_in: u32) {
        self.0.learn(Lesson::LookedUp { key: hash, one_in });
    }
}

impl Engine {
    /// The hash of a key for the facts, if the selector learns.
    pub(crate) fn fact_key(&self, key: &dyn AnyForm) -> Option<u64> {
        self.pupil.as_ref()?;
        self.memory.hash_of(key).or_else(|| Some(self.key_locks.hash(&ByForm(key))))
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
        if self.memory_weight_max > 0 {
            let usage = self.memory.usage();
            pupil.selector.learn(Lesson::Filled { tier: TierKind::Memory, usage });
        }
        for handle in self.tiers() {
            let usage = handle.inner().usage();
            pupil.selector.learn(Lesson::Filled { tier: handle.kind(), usage });
        }
    }
}

struct ByForm<'a>(&'a dyn AnyForm);

impl std::hash::Hash for ByForm<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.feed(state);
    }
}
