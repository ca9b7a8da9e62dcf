//! Verbs that are one step among all nodes: read with a stamp, store by it, and
//! again where another node came between. They never fall back to a tier of
//! this node alone: that would be two entries.

use larder_core::erased::{Key, Value};
use larder_core::events::Writer;
use larder_core::frame::{Frame, Head, Header};
use larder_core::key::EncodedKey;
use larder_core::place::Sharing;
use larder_core::terms::{EntryOptions, Freshness, Terms};
use larder_core::tier::Stamp;
use larder_core::{Bytes, Error, ErrorKind, Result};

use crate::draft::{Draft, Said};
use crate::engine::Engine;
use crate::nodes::identity;
use crate::read::note_refusal;
use crate::remove::Peeked;
use crate::shield;
use crate::slot::Slot;
use crate::verbs::Increment;
use crate::wire::{Decoded, Wire};

/// Attempts before a caller is told that the entry changes all the time. Each
/// that fails is a success of somebody else.
const ATTEMPTS: u32 = 1000;

/// The tier that others share, as the verbs of one cache use it.
pub(crate) struct Shared<'a> {
    wire: &'a Wire,
    slot: &'a Slot,
}

impl<'a> Shared<'a> {
    pub(crate) fn wire(self) -> &'a Wire {
        self.wire
    }

    pub(crate) fn slot(self) -> &'a Slot {
        self.slot
    }
}

impl Clone for Shared<'_> {
    fn clone(&self) -> Self {
        *self
    }
}

impl Copy for Shared<'_> {}

impl Engine {
    /// Where entries are for all nodes, if they are.
    pub(crate) fn shared(&self) -> Option<Shared<'_>> {
        let wire = self.wire.as_ref()?;
        let slot = wire.among_nodes()?;
        (self.hints.sharing == Sharing::Distributed).then_some(Shared { wire, slot })
    }

    /// Stores `value` unless some node has an entry; for who holds the ticket.
    pub(crate) async fn insert_if_absent_shared(
        &self,
        shared: Shared<'_>,
        encoded: &EncodedKey,
        (value, options): (Value, EntryOptions),
    ) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            let (found, stamp) = self.peek_shared(shared, encoded).await?;
            if found.is_some_and(|peeked| peeked.value.is_some()) {
                return Ok(false);
            }
            let said = Said::plain(value.clone(), options.clone());
            let based = encoded.clone().based_on(stamp);
            let (key, draft) =
                self.drafted(shared, based, |key, based| self.draft((key, Some(based)), said))?;
            if self.store_shared(shared, key, draft).await? {
                return Ok(true);
            }
        }
        Err(contended())
    }

    /// As [`increment`](Self::increment), for who holds the ticket.
    pub(crate) async fn increment_shared(
        &self,
        shared: Shared<'_>,
        encoded: &EncodedKey,
        Increment { delta, start, sum }: Increment,
    ) -> Result<Value> {
        for _ in 0..ATTEMPTS {
            let (found, stamp) = self.peek_shared(shared, encoded).await?;
            let (former, terms) = match found {
                Some(Peeked { value: Some(value), terms }) => (value, Some(terms)),
                _ => (start.clone(), None),
            };
            let sum = sum(&former, &delta).ok_or_else(crate::verbs::overflow)?;
            let based = encoded.clone().based_on(stamp);
            let (key, draft) = self.drafted(shared, based, |key, based| match terms {
                Some(terms) => self.draft_with(((key, Some(based)), Some(sum.clone())), terms, None),
                None => self.draft((key, Some(based)), Said::plain(sum.clone(), EntryOptions::new())),
            })?;
            if self.store_shared(shared, key, draft).await? {
                return Ok(sum);
            }
        }
        Err(contended())
    }

    /// Removes the entry and returns its value, once among all nodes; for who
    /// holds the ticket.
    pub(crate) async fn take_shared(
        &self,
        shared: Shared<'_>,
        encoded: &EncodedKey,
    ) -> Result<Option<Value>> {
        let Shared { wire, slot } = shared;
        self.drop_conflicts(encoded).await;
        check_trusted(slot, encoded)?;
        let taken = slot.tier().take(encoded).await?;
        if let Ok(key) = wire.keys.decode(encoded.as_bytes()) {
            self.discard(&key);
        }
        let local = self.peek_here(wire, encoded).await;
        for other in wire.local() {
            other.remove(encoded).await?;
        }
        let taken = taken.and_then(|bytes| self.peeked(wire, slot, bytes, encoded));
        Ok(taken.or(local).and_then(|peeked| peeked.value))
    }

    /// Changes the terms of the entry that all nodes see; whether it was there.
    pub(crate) async fn retime_shared(
        &self,
        slot: &Slot,
        key: &EncodedKey,
        change: impl Fn(&Bytes) -> Option<(Header, Terms, Bytes)>,
    ) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            let (Some(bytes), stamp) = slot.get_stamped(key).await? else { return Ok(false) };
            let Some((header, terms, payload)) = change(&bytes) else { return Ok(false) };
            let mut based = key.clone().based_on(stamp.unwrap_or(Stamp::NONE));
            // A touch is of no concern to other versions of the program.
            if is_shortened(&bytes, &header, &terms) {
                based = based.replacing();
            }
            let frame = Frame::new(&header, key, &slot.attributes(key, &terms), payload);
            self.expect_echo(key, identity(frame.head()));
            if slot.put_if_unchanged(&based, &frame).await? {
                return Ok(true);
            }
        }
        Err(contended())
    }

    /// What is fresh of the entry, and the stamp it has.
    async fn peek_shared(
        &self,
        Shared { wire, slot }: Shared<'_>,
        encoded: &EncodedKey,
    ) -> Result<(Option<Peeked>, Stamp)> {
        self.drop_conflicts(encoded).await;
        check_trusted(slot, encoded)?;
        let (bytes, stamp) = slot.get_stamped(encoded).await?;
        let found = bytes.and_then(|bytes| self.peeked(wire, slot, bytes, encoded));
        let found = match found {
            Some(found) => Some(found),
            None => self.peek_here(wire, encoded).await,
        };
        Ok((found, stamp.unwrap_or(Stamp::NONE)))
    }

    /// What is fresh of an entry that is too large to be shared.
    async fn peek_here(&self, wire: &Wire, encoded: &EncodedKey) -> Option<Peeked> {
        for slot in wire.local() {
            let Ok(Some(bytes)) = slot.get(encoded).await else { continue };
            if self.is_worthless((wire, slot), encoded, &bytes).await {
                continue;
            }
            if let Some(found) = self.peeked(wire, slot, bytes, encoded) {
                return Some(found);
            }
        }
        None
    }

    fn peeked(&self, wire: &Wire, slot: &Slot, bytes: Bytes, encoded: &EncodedKey) -> Option<Peeked> {
        match shield::within(|| self.judge(wire, slot, bytes, encoded)) {
            Ok(found) => {
                let Decoded { value, terms, .. } = found.decoded;
                (found.freshness == Freshness::Fresh).then_some(Peeked { value, terms })
            }
            Err(error) => {
                note_refusal(slot, encoded, &error);
                self.tell_refused(encoded, slot.kind());
                None
            }
        }
    }

    fn drafted(
        &self,
        shared: Shared<'_>,
        based: EncodedKey,
        draft: impl FnOnce(&Key, EncodedKey) -> Draft,
    ) -> Result<(Key, Draft)> {
        let key = shared.wire.keys.decode(based.as_bytes())?;
        let draft = shield::within(|| draft(&key, based));
        Ok((key, draft))
    }

    /// Stores a draft in the shared tier, or nowhere; false where another node
    /// changed the entry.
    async fn store_shared(&self, shared: Shared<'_>, key: Key, draft: Draft) -> Result<bool> {
        let home = shared.slot.kind();
        let draft = draft.nowhere_but(home).ok_or_else(|| match shared.slot.tier().healthy() {
            true => Error::new(ErrorKind::TooLarge, "the entry is too large to be shared by all nodes"),
            false => Error::new(ErrorKind::Unavailable, "the tier that all nodes share is away"),
        })?;
        let stored = self.store(key, draft.stamped(self.marks.stamp()), Writer::Caller).await?;
        if stored.is_some() {
            self.counters.insertions.increment();
        }
        Ok(stored.is_some())
    }
}

/// Whether an entry is to live for a shorter time than its frame says.
fn is_shortened(frame: &[u8], header: &Header, terms: &Terms) -> bool {
    let Ok(Head { header: former, .. }) = Head::parse(frame) else { return true };
    terms.until().since(header.created) < former.deadline.since(former.created)
}

/// A change that the tier did not get yet would be passed over.
fn check_trusted(slot: &Slot, encoded: &EncodedKey) -> Result<()> {
    if slot.distrust().covers(encoded) {
        let message = "an earlier change of the entry is not made up for yet";
        return Err(Error::new(ErrorKind::Unavailable, message).in_tier(slot.kind()));
    }
    Ok(())
}

fn contended() -> Error {
    Error::new(ErrorKind::Busy, format!("others changed the entry in each of {ATTEMPTS} attempts"))
}
