//! Prepared entries: measured, placed, encoded and weighed, ready to be stored.

use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_core::clock::Time;
use larder_core::entry_meta::{EntryMeta, EntryOptions};
use larder_core::erased::{Key, Value};
use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::memory::ReloadCost;
use larder_core::place::{Facts, Placement, TierList};
use larder_core::stats::HotCount;
use larder_core::tier::{EntryVersion, TierKind};
use larder_core::{Error, ErrorKind, Result};

use crate::coherence::{CopyTag, identity};
use crate::engine::Engine;
use crate::tier_stack::{EncodedPayload, FrameLabel, TierStack};
use crate::time::expiry::WriteTime;
use crate::write::precondition::Precondition;
use larder_exec::uncancellable;

/// An entry that is ready to be stored under its key.
pub(crate) struct PreparedEntry {
    pub(crate) encoded: Option<EncodedKey>,
    /// What storing the entry requires.
    pub(crate) precondition: Precondition,
    /// `None` for the knowledge that there is no value.
    pub(crate) value: Option<Value>,
    pub(crate) terms: EntryMeta,
    pub(crate) stamp: u64,
    /// Whether a caller wrote the entry. Invalidations that other nodes make before it is stored do
    /// not apply to it.
    pub(crate) is_written: bool,
    pub(crate) created: Time,
    pub(crate) weight: u32,
    /// How long its load took, if it was loaded.
    pub(crate) load_cost: Option<Duration>,
    /// How the entry is stored beyond memory. An error if it cannot be encoded.
    pub(crate) plan: Result<Option<Plan>>,
    /// The write to the shared tier, if it was made together with others.
    pub(crate) early: Option<EarlyWrite>,
}

/// A write to the shared tier that was made together with others.
pub(crate) struct EarlyWrite {
    /// Taken before the write.
    pub(crate) copy_tag: Option<CopyTag>,
    pub(crate) base: Option<EntryVersion>,
    pub(crate) identity: u64,
    pub(crate) has_arrived: bool,
    /// Why the home refused it. It is not asked again.
    pub(crate) failure: Option<Error>,
}

impl EarlyWrite {
    pub(crate) fn new(copy_tag: Option<CopyTag>, base: Option<EntryVersion>, frame: &Frame) -> Self {
        Self { copy_tag, base, identity: identity(frame.head()), has_arrived: false, failure: None }
    }
}

impl PreparedEntry {
    /// Restricts the entry to this home tier. `None` if it is placed elsewhere.
    pub(crate) fn nowhere_but(mut self, home: TierKind) -> Option<Self> {
        if let Ok(Some(plan)) = &mut self.plan {
            plan.placement.alternatives = TierList::default();
            if plan.placement.home != home {
                return None;
            }
        }
        Some(self)
    }

    /// Sets what storing the entry requires.
    pub(crate) fn requiring(self, precondition: Precondition) -> Self {
        Self { precondition, ..self }
    }

    /// Sets the sequence number of the latest invalidation that the entry takes into account.
    pub(crate) fn stamped(self, stamp: u64) -> Self {
        Self { stamp, ..self }
    }

    /// Marks the entry as a caller's write that happens now: only later invalidations apply.
    pub(crate) fn written(self, stamp: u64) -> Self {
        Self { stamp, is_written: true, ..self }
    }

    /// Returns the bytes of the payload, if `home` is the home tier of the entry.
    pub(crate) fn payload_for(&self, home: Option<TierKind>) -> Option<u64> {
        let plan = self.plan.as_ref().ok()?.as_ref()?;
        plan.payload.as_ref().filter(|_| home == Some(plan.placement.home)).map(EncodedPayload::len)
    }

    /// Builds the frame of the entry and gives it the payload, which
    /// [`return_payload`](Self::return_payload) takes back.
    pub(crate) fn take_frame(&mut self, stack: &TierStack) -> Option<Frame> {
        let key = self.encoded.as_ref()?;
        let plan = self.plan.as_mut().ok()?.as_mut()?;
        let label =
            FrameLabel { facts: &plan.facts, terms: &self.terms, stamp: self.stamp, created: self.created };
        let payload = plan.payload.as_mut()?.take();
        Some(stack.frame(key, payload, &label))
    }

    /// Takes the payload back from the frame, so that the entry can be stored elsewhere.
    pub(crate) fn return_payload(&mut self, frame: Frame) {
        if let Ok(Some(Plan { payload: Some(payload), .. })) = &mut self.plan {
            payload.give_back(frame.into_body());
        }
    }

    /// Builds the frame of the entry.
    pub(crate) fn frame(&self, stack: &TierStack, key: &EncodedKey) -> Option<Frame> {
        let plan = self.plan.as_ref().ok()?.as_ref()?;
        let label =
            FrameLabel { facts: &plan.facts, terms: &self.terms, stamp: self.stamp, created: self.created };
        plan.payload.clone().map(|payload| stack.frame(key, payload, &label))
    }

    /// Records that the write to the shared tier has begun.
    pub(crate) fn begun(self, early: EarlyWrite) -> Self {
        Self { early: Some(early), ..self }
    }

    /// Records that the write to the shared tier has succeeded.
    pub(crate) fn arrived(self) -> Self {
        Self { early: self.early.map(|early| EarlyWrite { has_arrived: true, ..early }), ..self }
    }
}

/// The part of a prepared entry that concerns the byte tiers.
pub(crate) struct Plan {
    pub(crate) facts: Facts,
    pub(crate) placement: Placement,
    /// `None` if the home tier is memory.
    pub(crate) payload: Option<EncodedPayload>,
}

/// How long it takes to read an entry again from the tier that is its home, about.
const REREAD_LOCAL: Duration = Duration::from_micros(100);
const REREAD_SHARED: Duration = Duration::from_millis(1);

/// Returns what it costs to have an entry in memory again: a load, or a read of its home tier. A selector that
/// measures knows how long that takes.
pub(crate) fn reload_cost(home: TierKind, placement: &Placement, load_cost: Option<Duration>) -> ReloadCost {
    let load_cost = load_cost.unwrap_or(Duration::ZERO);
    let measured = placement.reckoning.map(|reckoning| reckoning.read).filter(|read| !read.is_zero());
    ReloadCost::of(match (home, measured) {
        (TierKind::Memory | TierKind::Null, _) => load_cost,
        (_, Some(read)) => read,
        (TierKind::Redis, None) => load_cost.min(REREAD_SHARED),
        (_, None) => load_cost.min(REREAD_LOCAL),
    })
}

/// A value before it is prepared, with what is known of it.
pub(crate) struct NewValue {
    pub(crate) value: Option<Value>,
    pub(crate) load_cost: Option<Duration>,
    pub(crate) options: EntryOptions,
}

impl NewValue {
    /// A value that a caller inserts.
    pub(crate) fn plain(value: Value, options: EntryOptions) -> Self {
        Self { value: Some(value), load_cost: None, options }
    }
}

/// A value and the metadata that it is stored with.
pub(crate) struct NewEntry {
    /// `None` for the knowledge that there is no value.
    pub(crate) value: Option<Value>,
    pub(crate) terms: EntryMeta,
    pub(crate) load_cost: Option<Duration>,
}

impl Engine {
    /// Moves to a thread that may block, if the value is large to encode.
    pub(crate) async fn leave_if_large(&self, value: &Value) {
        if let Some(stack) = self.stack.as_ref().filter(|_| !uncancellable::may_block()) {
            uncancellable::if_large(stack.values.measure(value).unwrap_or(0)).await;
        }
    }

    /// Returns whether the value may be encoded on this thread.
    pub(crate) fn is_in_place(&self, value: &Value) -> bool {
        let measure = |stack: &TierStack| stack.values.measure(value).unwrap_or(0);
        uncancellable::may_block() || uncancellable::is_in_place(self.stack.as_ref().map_or(0, measure))
    }

    /// Measures, places, encodes and weighs an entry. Runs code of the user.
    pub(crate) fn prepare(
        &self,
        key: &Key,
        encoded: Option<EncodedKey>,
        NewValue { value, load_cost, options }: NewValue,
    ) -> PreparedEntry {
        let terms = self.expiry.terms(key, value.as_ref(), options, self.write_time());
        self.prepare_with(key, encoded, NewEntry { value, terms, load_cost })
    }

    /// As [`prepare`](Self::prepare), for an entry whose metadata is known.
    pub(crate) fn prepare_with(
        &self,
        key: &Key,
        encoded: Option<EncodedKey>,
        entry: NewEntry,
    ) -> PreparedEntry {
        let key_bytes = encoded.as_ref().map_or(0, |key| key.as_bytes().len() as u64);
        let mut weight = 0;
        let mut weigh = |bytes| {
            weight = self.weight(key, entry.value.as_ref(), bytes + key_bytes);
            weight
        };
        let plan = match &self.stack {
            Some(stack) => self.plan(stack, key, &entry, &mut weigh).map(Some),
            None => {
                weigh(0);
                Ok(None)
            }
        };
        let NewEntry { value, terms, load_cost } = entry;
        if plan.as_ref().is_err_and(|error| error.kind() == ErrorKind::Codec) {
            self.counters.unencodable.increment();
        }
        let created = self.timeline.now();
        let stamp = self.invalidations.stamp();
        if !terms.is_plain() && !self.expires.load(Ordering::Relaxed) {
            self.expires.store(true, Ordering::Relaxed);
        }
        let (precondition, is_written, early) = (Precondition::None, false, None);
        PreparedEntry {
            encoded,
            precondition,
            value,
            terms,
            stamp,
            is_written,
            created,
            weight,
            load_cost,
            plan,
            early,
        }
    }

    /// Decides where an entry goes, and encodes it if that is beyond memory. `weigh` returns its weight in memory,
    /// given the length of the value.
    fn plan(
        &self,
        stack: &TierStack,
        key: &Key,
        entry: &NewEntry,
        weigh: &mut dyn FnMut(u64) -> u32,
    ) -> Result<Plan> {
        let NewEntry { value, terms, load_cost } = entry;
        let value = value.as_ref();
        let bytes = value.map_or(Ok(0), |value| stack.values.measure(value))?;
        let facts = Facts { key: self.fact_key(key), ..self.facts(bytes, *load_cost, terms) };
        let placement = self.place(stack, &facts);
        let placement = if self.fits_memory(weigh(bytes)) { placement } else { placement.beyond_memory() };
        self.teach_request(&facts, None);
        let payload = match placement.home {
            TierKind::Memory => None,
            // A selector that measures admits it nowhere; otherwise the null tier takes a frame.
            TierKind::Null if placement.reckoning.is_some() => None,
            _ => Some(stack.payload(value, facts.kind)?),
        };
        Ok(Plan { facts, placement, payload })
    }

    /// Returns the time of a write that happens now.
    pub(crate) fn write_time(&self) -> WriteTime {
        let now = self.timeline.now();
        let chance = if self.expiry.is_jittered() { self.chance(now) } else { 0 };
        WriteTime { now, chance }
    }

    /// Returns a pseudo-random number that differs from entry to entry.
    pub(crate) fn chance(&self, now: Time) -> u64 {
        let counters = &self.counters;
        let here = counters.hot.of_thread([HotCount::Puts, HotCount::Loads]);
        self.key_locks.hash(&(now, counters.insertions.get(), counters.loads.get(), here))
    }
}
