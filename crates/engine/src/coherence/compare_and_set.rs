//! Atomic operations among all nodes: compare-and-set loops over the entry in the shared
//! tier. Each reads the entry with its version, stores on that version, and retries if
//! another node came between. They never fall back to a local tier, which would create
//! two entries.

use larder_core::entry_meta::{EntryMeta, Freshness};
use larder_core::erased::{Key, Value};
use larder_core::events::Writer;
use larder_core::frame::{Frame, Head, Header};
use larder_core::key::EncodedKey;
use larder_core::place::Sharing;
use larder_core::tier::{PutOptions, RemovalCause, VersionedFrame};
use larder_core::{Bytes, Error, ErrorKind, Result};

use crate::coherence::identity;
use crate::coherence::local_copies::LocalCopy;
use crate::engine::Engine;
use crate::key_lock::reentrancy;
use crate::read::refusal::note_refusal;
use crate::tier_stack::tier_handle::TierHandle;
use crate::tier_stack::{Decoded, TierStack};
use crate::write::atomic::{Computed, Decide, Decision, decision};
use crate::write::precondition::Precondition;
use crate::write::prepared_entry::PreparedEntry;
use crate::write::remove::{Erased, Peeked};

/// Attempts before the caller gets `ErrorKind::Busy`. Each failed attempt means that
/// another node's change succeeded.
const ATTEMPTS: u32 = 1000;

/// The shared tier, as the atomic operations of one cache use it.
pub(crate) struct Shared<'a> {
    stack: &'a TierStack,
    handle: &'a TierHandle,
}

impl<'a> Shared<'a> {
    pub(crate) fn handle(self) -> &'a TierHandle {
        self.handle
    }
}

impl Clone for Shared<'_> {
    fn clone(&self) -> Self {
        *self
    }
}

impl Copy for Shared<'_> {}

impl Engine {
    /// Returns the shared tier, if the entries of this cache are shared by all nodes.
    pub(crate) fn shared(&self) -> Option<Shared<'_>> {
        let stack = self.stack.as_ref()?;
        let handle = stack.among_nodes()?;
        (self.hints.sharing == Sharing::Distributed).then_some(Shared { stack, handle })
    }

    /// A step on an entry that nodes share, in the shared tier or on this node. The caller
    /// holds the write guard.
    pub(crate) async fn compute_shared(
        &self,
        shared: Shared<'_>,
        key: &Key,
        encoded: &EncodedKey,
        decide: &mut dyn Decide,
    ) -> Result<Computed> {
        for _ in 0..ATTEMPTS {
            let (found, precondition) = self.peek_shared(shared, encoded).await?;
            let found = found.filter(|found| found.value.is_some());
            match decision(decide, found.as_ref())? {
                Decision::Keep => return Ok(Computed::kept(found)),
                Decision::Remove => {
                    if self.remove_shared(shared, encoded, precondition).await? {
                        self.count_removal(self.name_of(key), Erased::live_if(found.is_some()));
                        return Ok(Computed::changed(None));
                    }
                }
                Decision::Put(new) => {
                    let own = shared.stack.keys.decode(encoded.as_bytes())?;
                    let terms = found.map(|found| found.terms);
                    let prepared = self.prepare_computed(&own, Some(encoded.clone()), &new, terms);
                    if self.store_shared(shared, own, prepared.requiring(precondition)).await? {
                        return Ok(Computed::changed(Some(new.value)));
                    }
                }
            }
        }
        Err(contended())
    }

    /// Removes the entry from the shared tier, if it still has the version that was read, and
    /// its copies on this node. Returns false if another node changed the entry.
    async fn remove_shared(
        &self,
        Shared { stack, handle }: Shared<'_>,
        encoded: &EncodedKey,
        precondition: Precondition,
    ) -> Result<bool> {
        let Precondition::Version(version) = precondition else { return Ok(false) };
        if !handle.compare_and_remove(encoded, version, RemovalCause::Requested).await? {
            return Ok(false);
        }
        if let Ok(key) = stack.keys.decode(encoded.as_bytes()) {
            self.discard(&key);
        }
        remove_here(stack, encoded).await.map_or(Ok(true), Err)
    }

    /// Removes the entry and returns its value, to one caller among all nodes. The caller
    /// holds the write guard.
    ///
    /// # Errors
    /// If the shared tier cannot be reached; nothing is removed then, unless only its answer
    /// was lost. If a local tier failed to remove its copy: the entry is not served any more,
    /// and its value is lost.
    pub(crate) async fn take_shared(
        &self,
        shared: Shared<'_>,
        encoded: &EncodedKey,
    ) -> Result<Option<Value>> {
        let Shared { stack, handle } = shared;
        self.drop_conflicts(encoded).await;
        check_trusted(handle, encoded)?;
        let taken = handle.shared()?.take(encoded).await?;
        handle.prepare(taken.as_ref()).await?;
        if let Ok(key) = stack.keys.decode(encoded.as_bytes()) {
            self.discard(&key);
        }
        let local = self.peek_here(stack, encoded).await;
        if let Some(error) = remove_here(stack, encoded).await {
            return Err(error);
        }
        let taken = taken.and_then(|bytes| self.peeked(stack, handle, bytes, encoded));
        Ok(taken.or(local).and_then(|peeked| peeked.value))
    }

    /// Changes the expiry metadata of the shared entry. Returns whether there was an
    /// entry.
    pub(crate) async fn retime_shared(
        &self,
        handle: &TierHandle,
        key: &EncodedKey,
        change: impl Fn(&Bytes) -> Option<(Header, EntryMeta, Bytes)>,
    ) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            let found = handle.get_versioned(key).await?;
            let VersionedFrame { frame: Some(bytes), version, .. } = found else { return Ok(false) };
            let Some((header, terms, payload)) = change(&bytes) else { return Ok(false) };
            let Some(if_version) = version else { continue };
            // A touch does not affect other versions of the program; a shorter lifetime
            // does.
            let all_program_versions = is_shortened(&bytes, &header, &terms);
            let options = PutOptions { if_version, all_program_versions };
            let frame = Frame::new(&header, key, &handle.attributes(key, &terms), payload);
            self.coherence.expect_own_write(key, identity(frame.head()));
            if handle.compare_and_set(key, &frame, options).await? {
                return Ok(true);
            }
        }
        Err(contended())
    }

    /// Returns the entry if it is fresh, and its version in the shared tier.
    async fn peek_shared(
        &self,
        Shared { stack, handle }: Shared<'_>,
        encoded: &EncodedKey,
    ) -> Result<(Option<Peeked>, Precondition)> {
        self.drop_conflicts(encoded).await;
        check_trusted(handle, encoded)?;
        let VersionedFrame { frame, version, .. } = handle.get_versioned(encoded).await?;
        let found = frame.and_then(|bytes| self.peeked(stack, handle, bytes, encoded));
        let found = match found {
            Some(found) => Some(found),
            None => self.peek_here(stack, encoded).await,
        };
        Ok((found, Precondition::of(version)))
    }

    /// Returns the local entry if it is fresh: it may be too large to be shared.
    async fn peek_here(&self, stack: &TierStack, encoded: &EncodedKey) -> Option<Peeked> {
        for handle in stack.local() {
            let Ok(Some(bytes)) = handle.get(encoded).await else { continue };
            if self.is_stale_copy(LocalCopy { stack, handle, key: encoded, head: &bytes }).await {
                continue;
            }
            if let Some(found) = self.peeked(stack, handle, bytes, encoded) {
                return Some(found);
            }
        }
        None
    }

    fn peeked(
        &self,
        stack: &TierStack,
        handle: &TierHandle,
        bytes: Bytes,
        encoded: &EncodedKey,
    ) -> Option<Peeked> {
        match reentrancy::within(|| self.judge(stack, handle, bytes, encoded)) {
            Ok(found) => {
                let Decoded { value, terms, .. } = found.decoded;
                (found.freshness == Freshness::Fresh).then_some(Peeked { value, terms })
            }
            Err(error) => {
                note_refusal(handle, encoded, &error);
                self.emit_refusal(encoded, handle.kind(), &error);
                None
            }
        }
    }

    /// Stores a prepared entry in the shared tier or nowhere. Returns false if another
    /// node changed the entry.
    async fn store_shared(&self, shared: Shared<'_>, key: Key, prepared: PreparedEntry) -> Result<bool> {
        let home = shared.handle.kind();
        let prepared = prepared.nowhere_but(home).ok_or_else(|| match shared.handle.inner().healthy() {
            true => Error::new(ErrorKind::TooLarge, "the entry is too large for the shared tier"),
            false => Error::new(ErrorKind::Unavailable, "the shared tier is unavailable"),
        })?;
        let stored = self.store(key, prepared.stamped(self.invalidations.stamp()), Writer::Caller).await?;
        if stored.is_some() {
            self.counters.insertions.increment();
        }
        Ok(stored.is_some())
    }
}

/// Removes the entry from the local tiers. Returns the last failure.
async fn remove_here(stack: &TierStack, encoded: &EncodedKey) -> Option<Error> {
    let mut failure = None;
    for other in stack.local() {
        failure = other.remove(encoded).await.err().or(failure);
    }
    failure
}

/// Whether the new metadata shortens the lifetime that the frame has.
fn is_shortened(frame: &[u8], header: &Header, terms: &EntryMeta) -> bool {
    let Ok(Head { header: former, .. }) = Head::parse(frame) else { return true };
    terms.until().since(header.created) < former.deadline.since(former.created)
}

/// Fails while an earlier change of the entry is pending: the operation would ignore it.
fn check_trusted(handle: &TierHandle, encoded: &EncodedKey) -> Result<()> {
    if handle.quarantine().covers(encoded) {
        let message = "an earlier change of the entry is still pending";
        return Err(Error::new(ErrorKind::Unavailable, message).in_tier(handle.kind()));
    }
    Ok(())
}

fn contended() -> Error {
    Error::new(ErrorKind::Busy, format!("other callers changed the entry during each of {ATTEMPTS} attempts"))
}
