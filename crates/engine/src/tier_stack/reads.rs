//! What a [`TierHandle`] reads. A frame that needs a dictionary comes with it in memory.

use std::io::Cursor;

use larder_core::compress::dictionary::is_entry;
use larder_core::key::EncodedKey;
use larder_core::stream::Stored;
use larder_core::tier::Tier;
use larder_core::{Bytes, Result};

use crate::tier_stack::tier_handle::TierHandle;

impl TierHandle {
    /// Reads the frame of `key`; `None` while the key is quarantined.
    pub(crate) async fn get(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        if self.quarantine.covers(key) {
            return Ok(None);
        }
        let found = match self.on_this_thread() {
            Some(tier) => tier.get_blocking(key),
            None => self.tier.get(key).await,
        };
        let found = self.prepared(found).await?;
        self.heeded(found).await
    }

    /// Reads the frames of `keys`, in order, with as few round trips as the tier needs.
    pub(crate) async fn get_many(&self, keys: &[EncodedKey]) -> Vec<Result<Option<Bytes>>> {
        if keys.is_empty() {
            return Vec::new();
        }
        // A write that replaces an outdated frame during the read releases its key.
        let were_covered = self.quarantine.cover_each(keys);
        let mut frames = self.tier.get_many(keys).await;
        self.prepare_all(&mut frames).await;
        let any = frames.iter().any(|frame| matches!(frame, Ok(Some(_))));
        self.ensure_all_current(any, &mut frames).await;
        let frames = frames.into_iter().zip(keys.iter().zip(were_covered));
        let withheld = |(frame, (key, was_covered))| match was_covered || self.quarantine.covers(key) {
            true => Ok(None),
            false => frame,
        };
        frames.map(withheld).collect()
    }

    /// Reads at least the head of the frame of `key`; `None` while the key is
    /// quarantined.
    pub(crate) async fn head(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        if self.quarantine.covers(key) {
            return Ok(None);
        }
        self.heeded(self.tier.head(key).await?).await
    }

    /// Scans the entries of the cache, without dictionaries, as [`Tier::scan`] does. Visits nothing while the whole tier is
    /// quarantined. A head of a single quarantined key is still visited: `visit` finds
    /// the key in the head.
    pub(crate) async fn scan(&self, visit: &mut (dyn FnMut(&[u8]) + Send)) -> Result<()> {
        if self.quarantine.is_whole() {
            return Ok(());
        }
        self.tier
            .scan(&mut |head| {
                if !is_entry(head) {
                    visit(head);
                }
            })
            .await
    }

    /// Opens the frame of `key` for reading in parts; `None` while the key is
    /// quarantined.
    pub(crate) async fn open(&self, key: &EncodedKey) -> Result<Option<Stored>> {
        if self.quarantine.covers(key) {
            return Ok(None);
        }
        let opened = match self.tier.streaming() {
            Some(streaming) => streaming.open(key).await?,
            None => self
                .tier
                .get(key)
                .await?
                .map(|whole| Stored { len: whole.len() as u64, medium: Box::new(Cursor::new(whole)) }),
        };
        self.heeded(opened).await
    }

    /// Reads the dictionaries that frames of a batch need. The frames of one that cannot be read become that
    /// failure.
    async fn prepare_all(&self, frames: &mut [Result<Option<Bytes>>]) {
        for frame in frames {
            if let Ok(found) = frame
                && let Err(error) = self.prepare(found.as_ref()).await
            {
                *frame = Err(error);
            }
        }
    }
}
