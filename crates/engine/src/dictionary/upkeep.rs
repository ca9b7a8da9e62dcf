//! The upkeep of dictionaries: trains them, and sees to it that the tiers have them.
//!
//! It runs on a thread of the pool, one at a time, and holds no lock while it asks a tier. A `put` that it makes
//! after the cache was closed fails, because the tier is closed.

use std::sync::{Arc, Weak};

use larder_core::compress::dictionary::Dictionary;
use larder_core::{Error, ErrorKind, Result};
use larder_exec::runtime::block_on;

use super::samples::Samples;
use super::{Dictionaries, Task};
use crate::engine::Engine;
use crate::tier_stack::TierStack;

impl Engine {
    /// Gives the tiers the dictionaries of the cache, and starts their upkeep if the cache writes with them.
    pub(crate) fn start_dictionaries(self: &Arc<Self>) {
        let Some(stack) = &self.stack else { return };
        let dictionaries = &stack.dictionaries;
        stack.tiers.iter().for_each(|handle| handle.set_dictionaries(dictionaries));
        if !dictionaries.is_on() {
            return;
        }
        let (engine, known) = (Arc::downgrade(self), Arc::downgrade(dictionaries));
        let start = move || {
            let (Some(engine), Some(dictionaries)) = (engine.upgrade(), known.upgrade()) else {
                return false;
            };
            let weak = Arc::downgrade(&engine);
            engine.pool.spawn(move || run(&weak, &dictionaries)).is_ok()
        };
        // Only the first call counts.
        let _refused = dictionaries.start.set(Box::new(start));
        dictionaries.cleared();
    }

    /// Puts dictionaries back that the tiers of the directory have evicted. They are read again by the next
    /// process, so they must be younger than the entries that need them.
    pub(crate) async fn leave_dictionaries(&self) {
        let Some(stack) = self.stack.as_ref().filter(|stack| stack.dictionaries.is_on()) else { return };
        let (index, _) = stack.dictionaries.index();
        for handle in stack.tiers.iter().filter(|handle| !handle.is_shared() && handle.takes_dictionaries()) {
            let stored = handle.store_dictionaries(&index, self.timeline.now()).await;
            if let Err(error) = stored {
                tracing::debug!(target: "larder", cache = self.name(), %error, "a tier was left without a dictionary");
            }
        }
    }

    async fn check_dictionaries(&self, stack: &TierStack) -> Result<()> {
        let dictionaries = &stack.dictionaries;
        let (index, is_new) = dictionaries.index();
        if !is_new {
            self.read_indexes(stack, &index).await?;
        }
        dictionaries.opened();
        let (index, _) = dictionaries.index();
        if index.is_empty() {
            return Ok(());
        }
        let writable =
            |handle: &&crate::TierHandle| !handle.is_read_only() && handle.facts().capability.stores;
        for handle in stack.tiers.iter().filter(writable) {
            if !handle.takes_dictionaries() {
                return Err(
                    Error::new(ErrorKind::Unavailable, "the tier missed a change").in_tier(handle.kind())
                );
            }
            handle.store_dictionaries(&index, self.timeline.now()).await?;
        }
        dictionaries.stored();
        Ok(())
    }

    /// Takes over the dictionaries of the first tier that has an index, if another cache has written it.
    async fn read_indexes(&self, stack: &TierStack, own: &[u64]) -> Result<()> {
        for handle in &stack.tiers {
            let found = handle.dictionary_index().await?;
            let Some(first) = found.first() else { continue };
            if own.first() == Some(first) {
                return Ok(());
            }
            if find_anywhere(stack, *first).await? {
                for number in &found {
                    // What a tier has lost is put back from another one. A tier that fails is asked by reads.
                    let _counted = find_anywhere(stack, *number).await;
                }
                stack.dictionaries.take_over(found);
                return Ok(());
            }
        }
        Ok(())
    }

    async fn adopt_dictionary(&self, stack: &TierStack, dictionary: Dictionary) {
        let number = dictionary.number();
        tracing::debug!(target: "larder", cache = self.name(), number, "a dictionary was trained");
        let dropped = stack.dictionaries.adopt(dictionary);
        for handle in stack.tiers.iter().filter(|handle| handle.takes_dictionaries()) {
            for number in &dropped {
                handle.drop_dictionary(*number).await;
            }
        }
    }
}

/// Returns whether the dictionary is in memory now: it was, or a tier has it.
async fn find_anywhere(stack: &TierStack, number: u64) -> Result<bool> {
    for handle in &stack.tiers {
        if handle.find_dictionary(number).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Does what is due, until nothing is.
fn run(engine: &Weak<Engine>, dictionaries: &Arc<Dictionaries>) {
    let stopped = Stopped(dictionaries);
    while let Some(task) = dictionaries.next_task() {
        match task {
            Task::Check => check(engine, dictionaries),
            Task::Train(samples) => train(engine, dictionaries, &samples),
        }
    }
    std::mem::forget(stopped);
}

fn check(engine: &Weak<Engine>, dictionaries: &Dictionaries) {
    let Some(engine) = engine.upgrade().filter(|engine| !engine.is_inactive()) else { return };
    let Some(stack) = &engine.stack else { return };
    if let Err(error) = block_on(engine.check_dictionaries(stack)) {
        tracing::debug!(target: "larder", cache = engine.name(), %error, "the dictionaries are stored later");
        dictionaries.not_stored();
    }
}

fn train(engine: &Weak<Engine>, dictionaries: &Dictionaries, samples: &Samples) {
    // Without the engine, so that the cache can be dropped meanwhile.
    let present = dictionaries.writer.read().clone();
    let Some(trained) = samples.train(dictionaries.level(), present.as_deref()) else {
        return dictionaries.was_not_better();
    };
    let Some(engine) = engine.upgrade().filter(|engine| !engine.is_inactive()) else { return };
    let Some(stack) = &engine.stack else { return };
    block_on(engine.adopt_dictionary(stack, trained));
    check(&Arc::downgrade(&engine), dictionaries);
}

/// Notes the end of an upkeep that panics.
struct Stopped<'a>(&'a Dictionaries);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.stopped();
    }
}
