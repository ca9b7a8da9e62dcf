//! Changing the metadata of an existing entry: touch, and new deadlines.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_core::clock::Time;
use larder_core::entry_meta::{EntryMeta, Freshness, read_offset};
use larder_core::erased::Key;
use larder_core::frame::{self, CodecId, Frame, Header};
use larder_core::key::EncodedKey;
use larder_core::{Bytes, Result};

use crate::engine::Engine;
use crate::tier_stack::tier_handle::TierHandle;
use larder_exec::runtime::Runtime;

impl Engine {
    /// Restarts the time to live and the idle time of an entry. Returns whether it exists.
    ///
    /// # Errors
    /// If a tier failed: there the entry keeps its former deadline, or is gone.
    pub(crate) async fn touch<W: Runtime>(self: &Arc<Self>, key: &Key) -> Result<bool> {
        self.retime::<W, _>(key, false, |terms, now| {
            terms.deadline = terms.ttl.map_or(terms.deadline, |ttl| now.after(ttl));
            terms.idle_deadline = terms.idle.map_or(Time::NEVER, |idle| now.after(idle));
        })
        .await
    }

    /// Sets an entry to expire after `span`, or never if that is `Duration::MAX`. Returns whether
    /// it exists.
    ///
    /// # Errors
    /// See [`touch`](Self::touch).
    pub(crate) async fn expire_in<W: Runtime>(self: &Arc<Self>, key: &Key, span: Duration) -> Result<bool> {
        self.retime::<W, _>(key, false, move |terms, now| {
            terms.ttl = (span != Duration::MAX).then_some(span);
            terms.deadline = now.after(span);
        })
        .await
    }

    /// Sets an entry to expire when the wall clock shows `time`. Returns whether it exists.
    ///
    /// # Errors
    /// See [`touch`](Self::touch).
    pub(crate) async fn expire_at<W: Runtime>(self: &Arc<Self>, key: &Key, time: Time) -> Result<bool> {
        let deadline = self.time_of(time);
        self.retime::<W, _>(key, false, move |terms, now| {
            terms.ttl = (deadline != Time::NEVER).then(|| deadline.since(now));
            terms.deadline = deadline;
        })
        .await
    }

    /// Changes the metadata of a fresh entry in every tier that has it. Returns whether it exists.
    /// A change that `ends` the entry counts as a write even if there is none: neither an abandoned earlier
    /// write nor a load in progress may be stored after it. It applies to a remembered absence as well, which is
    /// no entry for the other changes.
    pub(crate) async fn retime<W, F>(self: &Arc<Self>, key: &Key, ends: bool, change: F) -> Result<bool>
    where
        W: Runtime,
        F: Fn(&mut EntryMeta, Time) + Send + Sync + 'static,
    {
        self.check_open()?;
        self.expires.store(true, Ordering::Relaxed);
        let encoded = self.encode_key(key)?;
        let own = match (&self.stack, &encoded) {
            // Memory takes a key by value, and this one may be shared with the caller.
            (Some(stack), Some(encoded)) if !key.is_cloneable() => stack.keys.decode(encoded.as_bytes())?,
            _ => key.clone(),
        };
        let (turn, _caller) = self.write_turn::<W>(self.key_locks.hash(key));
        let Some(encoded) = encoded else {
            let guard = self.lock_for_write(&turn).await?;
            let found = self.retime_in_memory(own, ends, &change);
            if !found && !ends {
                guard.found_nothing();
            }
            return Ok(found);
        };
        let engine = Arc::clone(self);
        W::section(true, async move {
            let guard = engine.lock_for_write(&turn).await?;
            engine.drop_conflicts(&encoded).await;
            let mut found = false;
            for handle in engine.tiers() {
                found |= match handle.is_read_only() {
                    // It cannot be changed, but it can be hidden.
                    true => ends && handle.remove(&encoded).await?,
                    false => engine.retime_in(handle, &encoded, (ends, &change)).await?,
                };
            }
            // Memory last: if a tier fails, the copy in memory still says which entry a later
            // change replaces.
            found |= engine.retime_in_memory(own, ends, &change);
            if !found && !ends {
                guard.found_nothing();
            }
            Ok(found)
        })
        .await?
    }

    fn retime_in_memory(&self, key: Key, ends: bool, change: &impl Fn(&mut EntryMeta, Time)) -> bool {
        let Some(mut record) = self.recall(&key) else { return false };
        if !ends && record.value.is_none() {
            return false;
        }
        let mut terms = record.terms.as_ref().map_or(EntryMeta::PLAIN, |terms| terms.current());
        change(&mut terms, self.timeline.now());
        record.terms = self.expiry.live(&terms);
        record.checked = self.coherence.touched_copy(record.checked, record.home);
        let _kept = self.keep(key, record);
        true
    }

    async fn retime_in(
        &self,
        handle: &TierHandle,
        key: &EncodedKey,
        change: (bool, &impl Fn(&mut EntryMeta, Time)),
    ) -> Result<bool> {
        if handle.is_among_nodes() {
            return self.retime_shared(handle, key, |bytes| self.retimed(handle, bytes, key, change)).await;
        }
        let Some(bytes) = handle.get(key).await? else { return Ok(false) };
        let Some((header, terms, payload)) = self.retimed(handle, &bytes, key, change) else {
            return Ok(false);
        };
        handle
            .put(key, &Frame::new(&header, key, &handle.attributes(key, &terms), payload))
            .await
            .map(|()| true)
    }

    fn retimed(
        &self,
        handle: &TierHandle,
        bytes: &Bytes,
        key: &EncodedKey,
        (ends, change): (bool, &impl Fn(&mut EntryMeta, Time)),
    ) -> Option<(Header, EntryMeta, Bytes)> {
        let (header, mut terms, payload) = self.fresh_parts(handle, bytes, key)?;
        if !ends && header.codec == CodecId::Absent {
            return None;
        }
        change(&mut terms, self.timeline.now());
        let header = Header { deadline: terms.until(), stale_deadline: terms.stale_until(), ..header };
        Some((header, terms, payload))
    }

    /// Returns the parts of a frame if it may be served. A frame that may not is left for the next
    /// read to remove.
    pub(crate) fn fresh_parts(
        &self,
        handle: &TierHandle,
        bytes: &Bytes,
        key: &EncodedKey,
    ) -> Option<(Header, EntryMeta, Bytes)> {
        let (header, attributes, payload) = frame::open_with_attributes(bytes, key).ok()?;
        let terms = EntryMeta::read(&header, attributes)?;
        let (header, terms) = handle.by_own_time(key, (header, terms), read_offset(attributes));
        (self.freshness_of(handle, &header, &terms) == Freshness::Fresh).then_some((header, terms, payload))
    }
}
