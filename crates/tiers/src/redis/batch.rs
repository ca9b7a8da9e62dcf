//! Batches: many keys in one round trip.

use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::tier::BatchItem;
use larder_core::{Bytes, Result};

use crate::redis::Inner;
use crate::redis::calls::{check_len, count};
use crate::redis::keys::names::EntryNames;
use crate::redis::request::frame;

/// The maximum number of keys in a round trip.
pub(in crate::redis) const KEYS_MAX: usize = 1000;
/// The maximum total size of frames in a round trip, in bytes.
const BYTES_MAX: u64 = 8 << 20;

impl Inner {
    pub(in crate::redis) async fn get_many(&self, keys: &[EncodedKey]) -> Vec<Result<Option<Bytes>>> {
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(KEYS_MAX) {
            let keys: Vec<_> = keys.iter().collect();
            let answers = self.send_for_keys(&keys, true, None).await.into_iter();
            found.extend(answers.map(|answer| answer.map(|answer| frame(answer.value))));
        }
        found
    }

    pub(in crate::redis) async fn put_many(&self, entries: &[(EncodedKey, Frame)]) -> Vec<Result<()>> {
        let mut stored = Vec::with_capacity(entries.len());
        let mut rest = entries;
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(chunk_len(rest));
            rest = later;
            stored.extend(self.put_chunk(chunk).await);
        }
        stored
    }

    async fn put_chunk(&self, entries: &[(EncodedKey, Frame)]) -> Vec<Result<()>> {
        if let [(_, frame)] = entries
            && let Err(error) = check_len(frame)
        {
            return vec![Err(error)];
        }
        let keys: Vec<_> = entries.iter().map(|(key, _)| key).collect();
        let build = |index: usize, entry: &EntryNames| self.replace(entry, &entries[index].1);
        let answers = self.send_for_keys(&keys, false, Some(&build)).await.into_iter();
        let stored = answers.zip(&keys).map(|(answer, key)| answer.map(|_| self.mark_changed(key)));
        stored.collect()
    }

    pub(in crate::redis) async fn remove_many(&self, keys: &[EncodedKey]) -> Vec<Result<bool>> {
        let mut removed = Vec::with_capacity(keys.len());
        for keys in keys.chunks(KEYS_MAX) {
            let keys: Vec<_> = keys.iter().collect();
            let answers =
                self.send_for_keys(&keys, false, Some(&|_, entry| self.unlink(entry))).await.into_iter();
            let counts = answers
                .zip(&keys)
                .map(|(answer, key)| answer.map(|answer| self.subtract_removed(key, count(&answer.command))));
            removed.extend(counts);
        }
        removed
    }
}

/// The number of entries in the next batch. A frame that may be too large goes alone.
pub(in crate::redis) fn chunk_len(entries: &[impl BatchItem]) -> usize {
    let mut bytes = 0;
    let fitting = entries.iter().take(KEYS_MAX).take_while(|entry| {
        bytes += entry.bytes();
        bytes <= BYTES_MAX
    });
    fitting.count().max(1)
}
