//! Operations that read an entry and change it in one atomic step.
//!
//! All are cases of [`Engine::compute`]: a function gets what is there and says what is to be there. It
//! runs under the write guard of the key, and among nodes again for each attempt.

use std::sync::Arc;

use larder_core::entry_meta::{EntryMeta, EntryOptions};
use larder_core::erased::{Key, Value};
use larder_core::key::EncodedKey;
use larder_core::tier::BoxFuture;
use larder_core::{Error, ErrorKind, Result};

use crate::engine::Engine;
use crate::key_lock::WriteTurn;
use crate::key_lock::reentrancy;
use crate::write::precondition::Precondition;
use crate::write::prepared_entry::{NewEntry, NewValue, PreparedEntry};
use crate::write::remove::Peeked;
use larder_exec::runtime::Runtime;

/// What the function of a `compute` decides.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Compute<V> {
    /// Leave what is there, or its absence.
    Keep,
    /// Store this value. An entry that is there keeps its deadline, tags and hints; a new one gets the
    /// options of the cache.
    Put(V),
    /// Store this value with options of its own, as `insert_with` does.
    PutWith(V, EntryOptions),
    /// Remove the entry.
    Remove,
}

impl<V: Send + Sync + 'static> Compute<V> {
    /// Converts the value to one of any type.
    pub fn erased(self) -> Compute<Value> {
        match self {
            Self::Keep => Compute::Keep,
            Self::Put(value) => Compute::Put(Value::new(value)),
            Self::PutWith(value, options) => Compute::PutWith(Value::new(value), options),
            Self::Remove => Compute::Remove,
        }
    }
}

/// Decides from the value that is there.
pub trait Decide: Send {
    /// Returns what is to be there.
    ///
    /// # Errors
    /// Ends the step, and nothing changes.
    fn decide(&mut self, found: Option<&Value>) -> Result<Compute<Value>>;
}

impl<F: FnMut(Option<&Value>) -> Result<Compute<Value>> + Send> Decide for F {
    fn decide(&mut self, found: Option<&Value>) -> Result<Compute<Value>> {
        self(found)
    }
}

/// A function that decides, of any type.
pub struct AnyDecide(Box<dyn Decide>);

impl AnyDecide {
    /// Erases the type of a function.
    pub fn new(decide: impl FnMut(Option<&Value>) -> Result<Compute<Value>> + Send + 'static) -> Self {
        Self(Box::new(decide))
    }
}

impl Decide for AnyDecide {
    fn decide(&mut self, found: Option<&Value>) -> Result<Compute<Value>> {
        self.0.decide(found)
    }
}

/// The value of an entry that is to be stored if there is none.
struct IfAbsent {
    value: Value,
    options: EntryOptions,
}

impl Decide for IfAbsent {
    fn decide(&mut self, found: Option<&Value>) -> Result<Compute<Value>> {
        Ok(match found {
            Some(_) => Compute::Keep,
            None => Compute::PutWith(self.value.clone(), self.options.clone()),
        })
    }
}

impl Decide for Increment {
    fn decide(&mut self, found: Option<&Value>) -> Result<Compute<Value>> {
        let sum = (self.sum)(found.unwrap_or(&self.start), &self.delta);
        sum.map(Compute::Put).ok_or_else(overflow)
    }
}

/// What there is after a step.
pub(crate) struct Computed {
    pub(crate) value: Option<Value>,
    pub(crate) is_changed: bool,
}

impl Computed {
    pub(crate) fn kept(found: Option<Peeked>) -> Self {
        Self { value: found.and_then(|found| found.value), is_changed: false }
    }

    pub(crate) fn changed(value: Option<Value>) -> Self {
        Self { value, is_changed: true }
    }
}

/// A value that a step stores. Without options the entry keeps the metadata that it has.
pub(crate) struct ComputedValue {
    pub(crate) value: Value,
    options: Option<EntryOptions>,
}

/// A decision with its options checked.
pub(crate) enum Decision {
    Keep,
    Put(ComputedValue),
    Remove,
}

/// An integer type that `increment` can count with.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a counter",
    label = "not an integer type",
    note = "`increment` adds to the integers from `i8` to `u128`, `isize` and `usize`; other types need `get` and `insert`"
)]
pub trait Counter: Copy + Send + Sync + 'static {
    /// Returns the sum. `None` if it overflows.
    fn checked_sum(self, delta: Self) -> Option<Self>;
}

macro_rules! counters {
    ($($integer:ty),+) => {$(
        impl Counter for $integer {
            fn checked_sum(self, delta: Self) -> Option<Self> {
                self.checked_add(delta)
            }
        }
    )+};
}

counters!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);

/// The arguments of an increment.
pub struct Increment {
    /// The number to add.
    pub delta: Value,
    /// The value of an absent entry.
    pub start: Value,
    /// Adds two numbers. `None` if the sum overflows.
    pub sum: fn(&Value, &Value) -> Option<Value>,
}

impl Increment {
    /// Adds `delta` to the entry, or to `start` if there is none.
    pub fn new<V: Counter>(delta: V, start: V) -> Self {
        let sum = |one: &Value, other: &Value| {
            Some(Value::new(one.downcast_ref::<V>()?.checked_sum(*other.downcast_ref()?)?))
        };
        Self { delta: Value::new(delta), start: Value::new(start), sum }
    }
}

impl Engine {
    /// Stores `value` unless there is an entry. Returns whether it was stored. An expired entry
    /// counts as none.
    ///
    /// # Errors
    /// If a tier that may have an entry failed; nothing is stored then. Also the errors of
    /// [`insert`](Self::insert).
    pub(crate) async fn insert_if_absent<W: Runtime>(
        self: &Arc<Self>,
        key: Key,
        value: Value,
        options: EntryOptions,
    ) -> Result<bool> {
        self.step::<W>(key, IfAbsent { value, options }).await.map(|computed| computed.is_changed)
    }

    /// Adds `delta` to the entry of `key`, or to `start` if there is none. Returns the sum. An
    /// existing entry keeps its metadata.
    ///
    /// # Errors
    /// If the sum overflows, or a tier that may have the entry failed; nothing changes then. Also
    /// the errors of [`insert`](Self::insert).
    pub(crate) async fn increment<W: Runtime>(
        self: &Arc<Self>,
        key: Key,
        increment: Increment,
    ) -> Result<Value> {
        self.step::<W>(key, increment).await?.value.ok_or_else(overflow)
    }

    /// Lets `decide` change the entry of `key`, in one step. Returns the value after it.
    ///
    /// # Errors
    /// The error of `decide`, or of a tier that may have the entry; nothing changes then. Also the
    /// errors of [`insert`](Self::insert) and [`remove`](Self::remove).
    pub(crate) async fn compute<W: Runtime>(
        self: &Arc<Self>,
        key: Key,
        decide: AnyDecide,
    ) -> Result<Option<Value>> {
        self.step::<W>(key, decide).await.map(|computed| computed.value)
    }

    async fn step<W: Runtime>(
        self: &Arc<Self>,
        key: Key,
        mut decide: impl Decide + 'static,
    ) -> Result<Computed> {
        let (turn, _caller) = self.write_turn::<W>(self.key_locks.hash(&key));
        let engine = Arc::clone(self);
        let step = async move { engine.step_in(&turn, key, &mut decide).await };
        self.drive::<W, _>(false, step).await?
    }

    /// As [`compute`](Self::compute), for a thread that stays with the step: `decide` may borrow.
    pub(crate) async fn compute_borrowed(
        self: &Arc<Self>,
        key: Key,
        decide: &mut dyn Decide,
    ) -> Result<Option<Value>> {
        let turn = WriteTurn::of_thread(self.key_locks.hash(&key));
        self.step_in(&turn, key, decide).await.map(|computed| computed.value)
    }

    fn step_in<'a>(
        self: &'a Arc<Self>,
        turn: &'a WriteTurn,
        key: Key,
        decide: &'a mut dyn Decide,
    ) -> BoxFuture<'a, Result<Computed>> {
        Box::pin(async move {
            self.check_open()?;
            let encoded = self.encode_key(&key)?;
            let guard = self.lock_for_write(turn).await?;
            if !self.lifecycle.is_on() {
                return Err(self.drop_switched_off(&key, encoded.as_ref(), Precondition::None).await);
            }
            let computed = match (self.shared(), &encoded) {
                (Some(shared), Some(encoded)) => self.compute_shared(shared, &key, encoded, decide).await,
                _ => self.compute_alone(turn.hash(), key, encoded, decide).await,
            };
            if computed.as_ref().is_ok_and(|computed| !computed.is_changed) {
                guard.changed_nothing();
            }
            computed
        })
    }

    /// A step on an entry that no other node changes. The caller holds the guard.
    async fn compute_alone(
        &self,
        hash: u64,
        key: Key,
        encoded: Option<EncodedKey>,
        decide: &mut dyn Decide,
    ) -> Result<Computed> {
        // An invalidation after the former value is read applies to the new one, too.
        let stamp = self.invalidations.stamp();
        let found = self.present(&key, encoded.as_ref()).await?.filter(|found| found.value.is_some());
        match decision(decide, found.as_ref())? {
            Decision::Keep => Ok(Computed::kept(found)),
            Decision::Remove => {
                let name = self.name_of(&key);
                let (erased, failure) = match &encoded {
                    Some(encoded) => self.erase(encoded).await,
                    None => (self.erased(self.discard(&key).as_ref()), None),
                };
                self.count_removal(name, erased);
                failure.map_or(Ok(Computed::changed(None)), Err)
            }
            Decision::Put(new) => {
                self.leave_if_large(&new.value).await;
                let terms = found.map(|found| found.terms);
                let prepared = self.prepare_computed(&key, encoded, &new, terms);
                self.store_with_seq(hash, key, prepared.stamped(stamp)).await?;
                Ok(Computed::changed(Some(new.value)))
            }
        }
    }

    /// Prepares the value of a step, for an entry with the metadata `former`.
    pub(crate) fn prepare_computed(
        &self,
        key: &Key,
        encoded: Option<EncodedKey>,
        new: &ComputedValue,
        former: Option<EntryMeta>,
    ) -> PreparedEntry {
        let value = new.value.clone();
        reentrancy::within(|| match (&new.options, former) {
            (None, Some(terms)) => {
                self.prepare_with(key, encoded, NewEntry { value: Some(value), terms, load_cost: None })
            }
            (options, _) => {
                self.prepare(key, encoded, NewValue::plain(value, options.clone().unwrap_or_default()))
            }
        })
    }

    /// Returns the fresh entry, if there is one. The caller holds the guard.
    async fn present(&self, key: &Key, encoded: Option<&EncodedKey>) -> Result<Option<Peeked>> {
        match encoded {
            Some(encoded) => self.peek(encoded).await,
            None => Ok(self.recall(key).map(Peeked::in_memory)),
        }
    }
}

/// Lets the function of a step decide. Calls of a cache inside it do not wait.
pub(crate) fn decision(decide: &mut dyn Decide, found: Option<&Peeked>) -> Result<Decision> {
    Ok(match reentrancy::within(|| decide.decide(found.and_then(|found| found.value.as_ref())))? {
        Compute::Keep => Decision::Keep,
        Compute::Put(value) => Decision::Put(ComputedValue { value, options: None }),
        Compute::PutWith(value, options) => {
            options.check()?;
            Decision::Put(ComputedValue { value, options: Some(options) })
        }
        Compute::Remove => Decision::Remove,
    })
}

fn overflow() -> Error {
    Error::new(ErrorKind::Unsupported, "the sum overflows the integer type")
}
