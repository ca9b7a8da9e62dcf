//! The dictionaries that a tier holds, as entries beside those of the cache.
//!
//! These calls pass the breaker and are not counted among those of callers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use larder_core::clock::Time;
use larder_core::compress::dictionary::{Dictionary, entry_key, index_entry, index_key, read_index};
use larder_core::key::EncodedKey;
use larder_core::tier::{Tier, Usage};
use larder_core::{Bytes, Result};
use larder_exec::uncancellable;

use crate::dictionary::Dictionaries;
use crate::tier_stack::tier_handle::TierHandle;

impl TierHandle {
    /// Gives the tier the dictionaries of its cache.
    pub(crate) fn set_dictionaries(&self, dictionaries: &Arc<Dictionaries>) {
        // Only the first call counts.
        let _refused = self.dictionaries.set(Arc::clone(dictionaries));
    }

    /// Whether dictionaries can be stored in the tier now.
    pub(crate) fn takes_dictionaries(&self) -> bool {
        !self.is_read_only() && self.facts().capability.stores && !self.quarantine.is_whole()
    }

    /// How much the tier holds, without the dictionaries that the cache knows to be there.
    pub(crate) fn usage(&self) -> Usage {
        let usage = self.inner().usage();
        let dictionaries = self.dictionary_entries.load(Ordering::Relaxed);
        Usage { entries: usage.entries.saturating_sub(dictionaries), ..usage }
    }

    /// Reads the dictionary that a frame needs, if it is not in memory.
    ///
    /// # Errors
    /// The error of the tier. A dictionary that it does not have is none: the frame is refused then.
    #[inline]
    pub(crate) async fn prepare(&self, frame: Option<&Bytes>) -> Result<()> {
        match frame.and_then(|frame| self.dictionaries.get()?.missing_for(frame)) {
            Some(number) => Box::pin(self.find_dictionary(number)).await.map(drop),
            None => Ok(()),
        }
    }

    /// Returns `found` with the dictionary that it needs in memory.
    pub(super) async fn prepared(&self, found: Result<Option<Bytes>>) -> Result<Option<Bytes>> {
        let found = found?;
        self.prepare(found.as_ref()).await?;
        Ok(found)
    }

    /// Returns whether the dictionary is in memory, or in the tier and then in memory too.
    pub(crate) async fn find_dictionary(&self, number: u64) -> Result<bool> {
        let Some(dictionaries) = self.dictionaries.get() else { return Ok(false) };
        if dictionaries.find(number).is_some() {
            return Ok(true);
        }
        let found = self.dictionary_entry(&entry_key(number)).await?;
        match found.and_then(|entry| Dictionary::read(&entry, number, dictionaries.level())) {
            Some(dictionary) => {
                dictionaries.keep(dictionary);
                Ok(true)
            }
            None => {
                dictionaries.note_lost(number);
                Ok(false)
            }
        }
    }

    /// The numbers of the dictionaries of the tier, the newest first. A damaged index lists none.
    pub(crate) async fn dictionary_index(&self) -> Result<Vec<u64>> {
        let entry = self.dictionary_entry(&index_key()).await?;
        Ok(entry.and_then(|entry| read_index(&entry)).unwrap_or_default())
    }

    /// Stores the dictionaries of an index that are in memory, and the index, where the tier lacks them.
    pub(crate) async fn store_dictionaries(&self, index: &[u64], now: Time) -> Result<()> {
        let Some(dictionaries) = self.dictionaries.get() else { return Ok(()) };
        let mut entries = 1;
        // The oldest first, so that the newest one is evicted last.
        for dictionary in index.iter().rev().filter_map(|number| dictionaries.find(*number)) {
            let (key, frame) = dictionary.entry(now);
            let stored = self.dictionary_entry(&key).await?;
            let is_there = stored.is_some_and(|stored| Dictionary::is_intact(&stored, dictionary.number()));
            if !is_there {
                self.on_a_thread().await;
                self.guarded().put(&key, &frame).await?;
            }
            entries += 1;
        }
        if self.dictionary_index().await? != index {
            self.on_a_thread().await;
            self.guarded().put(&index_key(), &index_entry(index, now)).await?;
        }
        self.dictionary_entries.store(entries, Ordering::Relaxed);
        Ok(())
    }

    /// Removes a dictionary that the index no longer lists.
    pub(crate) async fn drop_dictionary(&self, number: u64) {
        self.on_a_thread().await;
        // One that stays takes space, and is evicted in its turn.
        let _counted = self.guarded().remove(&entry_key(number)).await;
    }

    /// Notes that the tier was cleared.
    pub(super) fn cleared_dictionaries(&self) {
        self.dictionary_entries.store(0, Ordering::Relaxed);
        if let Some(dictionaries) = self.dictionaries.get() {
            dictionaries.cleared();
        }
    }

    async fn dictionary_entry(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        if self.quarantine.is_whole() {
            return Ok(None);
        }
        self.on_a_thread().await;
        self.guarded().get(key).await
    }

    /// Moves a task to a thread that may block, if the tier blocks.
    async fn on_a_thread(&self) {
        if self.blocks() {
            uncancellable::on_a_thread().await;
        }
    }
}
