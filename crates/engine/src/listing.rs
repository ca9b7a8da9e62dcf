//! Lists the keys of a cache.

use std::collections::HashSet;
use std::sync::Arc;

use larder_core::Result;
use larder_core::entry_meta::{EntryMeta, Freshness, Tag};
use larder_core::erased::Key;
use larder_core::frame::{CodecId, Head};
use larder_core::key::EncodedKey;
use larder_exec::runtime::Runtime;

use crate::engine::Engine;
use crate::tier_stack::tier_handle::TierHandle;

/// A key and the tags of its entry.
pub type TaggedKey = (Key, Vec<Tag>);

impl Engine {
    /// Returns the keys of all tiers, each once, in no order.
    pub(crate) async fn keys<W: Runtime>(self: &Arc<Self>, in_memory: Vec<Key>) -> Result<Vec<Key>> {
        let engine = Arc::clone(self);
        W::section(self.has_tiers(), async move { engine.all_keys(in_memory).await }).await?
    }

    pub(crate) async fn all_keys(self: &Arc<Self>, in_memory: Vec<Key>) -> Result<Vec<Key>> {
        let in_memory = in_memory.into_iter().map(|key| (key, Vec::new())).collect();
        let keys = self.collect_keys(in_memory).await?;
        Ok(keys.into_iter().map(|(key, _)| key).collect())
    }

    /// Returns the keys of the entries that have tags, with their tags, each key once, in no order.
    pub(crate) async fn tagged_keys<W: Runtime>(
        self: &Arc<Self>,
        in_memory: Vec<Key>,
    ) -> Result<Vec<TaggedKey>> {
        let engine = Arc::clone(self);
        let with_tags = |key: Key| {
            let terms = self.memory.peek(&key).and_then(|record| record.terms);
            (key, terms.map_or_else(Vec::new, |terms| terms.written().tags.clone()))
        };
        let in_memory = in_memory.into_iter().map(with_tags).collect();
        let mut keys =
            W::section(self.has_tiers(), async move { engine.collect_keys(in_memory).await }).await??;
        keys.retain(|(_, tags)| !tags.is_empty());
        Ok(keys)
    }

    async fn collect_keys(self: &Arc<Self>, in_memory: Vec<TaggedKey>) -> Result<Vec<TaggedKey>> {
        let mut keys = if self.coherence.lists_copies() { in_memory } else { Vec::new() };
        let Some(stack) = self.stack.as_ref().filter(|_| !self.is_closed()) else { return Ok(keys) };
        let mut seen: HashSet<Box<[u8]>> = HashSet::with_capacity(keys.len());
        for (key, _) in &keys {
            seen.insert(stack.encode_key(key)?.as_bytes().into());
        }
        let mut outdated = Vec::new();
        for handle in &stack.tiers {
            let mut visit = |bytes: &[u8]| {
                if let Ok(head) = Head::parse(bytes)
                    && !seen.contains(head.key)
                    && let Some(terms) = self.served_terms(handle, &head)
                    && !(handle.quarantine().is_any()
                        && handle.quarantine().covers(&EncodedKey::new(head.key)))
                    && let Ok(key) = stack.keys.decode(head.key)
                {
                    // No look-up finds this entry: a former build encoded the key differently.
                    if stack.encode_key(&key).is_ok_and(|encoded| encoded.as_bytes() != head.key) {
                        // A shared entry may belong to a build that still uses this encoding.
                        if !handle.takes_preconditions() {
                            outdated.push((key, EncodedKey::new(head.key)));
                        }
                        return;
                    }
                    seen.insert(head.key.into());
                    keys.push((key, terms.tags));
                }
            };
            handle.scan(&mut visit).await?;
        }
        for (key, encoded) in outdated {
            self.drop_outdated_encoding(&key, &encoded).await;
        }
        Ok(keys)
    }

    /// Returns the metadata of an entry of a tier with this head, if it may be served. The type of an entry
    /// that is stored by names is not compared, which would need its payload.
    fn served_terms(&self, handle: &TierHandle, head: &Head<'_>) -> Option<EntryMeta> {
        if head.header.codec == CodecId::Absent
            || self.stack.as_ref().is_some_and(|stack| stack.accepts(&head.header) == Some(false))
        {
            return None;
        }
        let terms = EntryMeta::read(&head.header, head.attributes)?;
        let (header, terms) = handle.capped((head.header, terms));
        (self.freshness_of(handle, &header, &terms) == Freshness::Fresh).then_some(terms)
    }
}
