//! The port through which the engine stays coherent with other processes, and its null twin.
//!
//! The read, write and load paths ask the port for a verdict. They do not know whether other
//! processes change the entries, nor how this one learns of it. There are three answers:
//!
//! - [`SingleProcess`], the null twin: no other process changes the entries. Every method has the body
//!   that it needs.
//! - [`VersionCoherence`](super::validated_copies::VersionCoherence): processes of one machine share a
//!   tier whose versions cost no I/O.
//! - [`NodeCoherence`](super::nodes::NodeCoherence): nodes share a tier that reports changes.
//!
//! A hit of the null twin does not come here: the engine asks [`confirms_copies`] once, when it is
//! built.
//!
//! [`confirms_copies`]: CoherencePort::confirms_copies

use std::sync::Arc;

use event_listener::Event;
use larder_core::Result;
use larder_core::invalidation::Invalidation;
use larder_core::key::EncodedKey;
use larder_core::memory::Record;
use larder_core::tier::{BoxFuture, EntryVersion, TierKind};

use crate::coherence::copy_tag::CopyTag;
use crate::coherence::local_copies::{Confirmation, LocalCopy, SharedView};
use crate::coherence::local_fallback::{LocalWrite, Stay};
use crate::engine::Engine;
use crate::key_lock::flight::Flight;
use crate::read::Found;
use crate::tier_stack::TierStack;
use crate::tier_stack::tier_handle::TierHandle;
use crate::write::precondition::Precondition;

/// The reply of a port: at once, or after I/O.
pub(crate) enum PortReply<'a, T> {
    /// Known at once, without an allocation.
    Now(T),
    /// Known after I/O.
    Later(BoxFuture<'a, T>),
}

impl<T> PortReply<'_, T> {
    /// Waits for the reply.
    pub(crate) async fn get(self) -> T {
        match self {
            Self::Now(reply) => reply,
            Self::Later(reply) => reply.await,
        }
    }
}

/// How a cache stays coherent with other processes that change its entries.
///
/// The default of each method is the answer for a cache whose entries no other process changes.
pub(crate) trait CoherencePort: Send + Sync + 'static {
    /// Starts to listen to other processes. Called once, when the engine is built.
    fn start(self: Arc<Self>, engine: &Arc<Engine>) {
        let _alone = engine;
    }

    /// Stops listening, and waits for its threads.
    fn end(&self) {}

    // Copies in memory.

    /// Whether copies in memory must be confirmed before they serve. Constant.
    fn confirms_copies(&self) -> bool {
        false
    }

    /// Begins to confirm a copy that is not looked up yet. `None` if copies cannot be confirmed without
    /// asking a tier; otherwise whether this process is in contact with the others.
    fn contact(&self) -> Option<bool> {
        None
    }

    /// Whether a copy with this version was made since the last missed window.
    fn is_current(&self, version: Option<EntryVersion>) -> bool {
        let _alone = version;
        false
    }

    /// Returns what will validate a copy of `key` that is read from now on.
    fn begin_copy(&self, engine: &Engine, key: &EncodedKey) -> Option<EntryVersion> {
        let _alone = (engine, key);
        None
    }

    /// Returns what validates the copy, once the identity of its entry is known.
    fn finish_copy(&self, begun: EntryVersion, identity: u64) -> Option<EntryVersion> {
        let _same = identity;
        Some(begun)
    }

    /// Returns the tag for a copy of an entry that is written from now on.
    fn copy_tag(&self) -> Option<CopyTag> {
        None
    }

    /// Notes that memory may hold a copy of this entry, with a tag that was taken before this call.
    fn note_copy(&self, key: &EncodedKey) {
        let _alone = key;
    }

    /// Returns what validates a copy whose metadata this process changed in its home.
    fn touched_copy(&self, version: Option<EntryVersion>, home: TierKind) -> Option<EntryVersion> {
        let _alone = home;
        version
    }

    /// Returns the copy of `key` in memory, if it is validated by this version and fresh.
    fn validated_copy(
        &self,
        engine: &Engine,
        stack: &TierStack,
        key: &EncodedKey,
        version: Option<EntryVersion>,
    ) -> Option<Found> {
        let _alone = (engine, stack, key, version);
        None
    }

    /// Whether the copies in memory are listed as entries.
    fn lists_copies(&self) -> bool {
        true
    }

    // Reads.

    /// Whether copies serve while it is unknown whether another node changed the entry.
    fn serves_unconfirmed(&self) -> bool {
        true
    }

    /// Whether the copy that a tier of this node alone has may be served.
    fn confirm_local<'a>(
        &'a self,
        engine: &'a Engine,
        copy: LocalCopy<'a>,
        view: &SharedView,
    ) -> PortReply<'a, Confirmation> {
        let _alone = (engine, copy, view);
        PortReply::Now(Confirmation::Confirmed)
    }

    /// Whether the head of an entry of this tier must be confirmed before its frame is opened.
    fn confirms_heads(&self, handle: &TierHandle) -> bool {
        let _alone = handle;
        false
    }

    /// Whether each key of a batch is read by itself, because each needs a version first.
    fn reads_one_by_one(&self) -> bool {
        false
    }

    // Loads.

    /// Returns the precondition for storing what a load that begins now returns.
    fn precondition_now(&self, engine: &Engine, key: &EncodedKey) -> Precondition {
        let _alone = (engine, key);
        Precondition::None
    }

    /// Returns the precondition of a load by what [`begin_copy`](Self::begin_copy) returned, before any tier
    /// is read.
    fn precondition_at_read(&self, begun: Option<EntryVersion>) -> Precondition {
        let _alone = begun;
        Precondition::None
    }

    /// Returns the precondition for storing what a finished load returned. `load` is the one from when it
    /// began.
    fn precondition_after(&self, load: Precondition, flight: &Flight) -> Precondition {
        let _alone = flight;
        load
    }

    /// Notified when another node ends a load, if loads are leased among nodes.
    fn lease_changes(&self) -> Option<&Event> {
        None
    }

    // Writes.

    /// Decides whether an entry may be stored on this node alone.
    fn stay<'a>(&'a self, engine: &'a Engine, write: LocalWrite<'a>) -> PortReply<'a, Stay> {
        let _alone = (engine, write);
        PortReply::Now(Stay::Local)
    }

    /// Notes that this node stored the entry locally on purpose, and the version that the shared tier
    /// reported for its key.
    fn note_local(&self, key: &EncodedKey, version: Option<EntryVersion>) {
        let _alone = (key, version);
    }

    /// Announces an own write that the bus will report back to this node.
    fn expect_own_write(&self, key: &EncodedKey, identity: u64) {
        let _alone = (key, identity);
    }

    // Invalidations.

    /// Records invalidations, for all processes.
    fn invalidate<'a>(
        &'a self,
        engine: &'a Engine,
        invalidations: Vec<Invalidation>,
    ) -> PortReply<'a, Result<()>> {
        PortReply::Now(engine.invalidations.make(invalidations, engine.timeline.now()))
    }

    /// Whether a clear is recorded as an invalidation too.
    fn records_clears(&self) -> bool {
        true
    }

    /// Sends pending invalidations a last time, before the cache closes. Counts those that are lost.
    fn send_pending<'a>(&'a self, engine: &'a Engine) -> PortReply<'a, ()> {
        let _alone = engine;
        PortReply::Now(())
    }
}

impl dyn CoherencePort {
    /// Returns the record that `find` returns, and whether it may answer without asking a tier. `None`
    /// if no copy may.
    ///
    /// The contact is checked before `find` runs: every notice up to then was applied to the record that
    /// `find` returns. In the other order `find` could return an outdated copy, which a later contact
    /// would then confirm.
    pub(crate) fn confirm<V>(&self, find: impl FnOnce() -> Option<Record<V>>) -> Option<(Record<V>, bool)> {
        let in_contact = self.contact()?;
        let record = find()?;
        let is_current = self.is_current(record.checked);
        Some((record, in_contact && is_current))
    }
}

/// The null twin: no other process changes the entries.
pub(crate) struct SingleProcess;

impl CoherencePort for SingleProcess {}
