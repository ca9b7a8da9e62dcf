//! Operations that read and write an entry in one atomic step.

use std::sync::Arc;

use larder_core::entry_meta::EntryOptions;
use larder_core::erased::{Key, Value};
use larder_core::key::EncodedKey;
use larder_core::{Error, ErrorKind, Result};

use crate::engine::Engine;
use crate::write::prepared_entry::NewValue;
use crate::write::remove::Peeked;
use larder_exec::runtime::Runtime;

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
        self.check_open()?;
        options.check()?;
        let encoded = self.encode_key(&key)?;
        let engine = Arc::clone(self);
        let (turn, _caller) = self.write_turn::<W>(self.key_locks.hash(&key));
        self.drive::<W, _>(false, async move {
            if let (Some(shared), Some(encoded)) = (engine.shared(), &encoded) {
                let guard = engine.lock_for_write(&turn).await?;
                engine.check_on()?;
                let stored = engine.insert_if_absent_shared(shared, encoded, (value, options)).await;
                if matches!(stored, Ok(false)) {
                    guard.changed_nothing();
                }
                return stored;
            }
            engine.leave_if_large(&value).await;
            let prepared = engine.prepare((&key, encoded), NewValue::plain(value, options));
            let guard = engine.lock_for_write(&turn).await?;
            if !engine.lifecycle.is_on() {
                return Err(engine.drop_switched_off(&key, prepared).await);
            }
            let peeked = engine.present(&key, prepared.encoded.as_ref()).await?;
            if peeked.is_some_and(|peeked| peeked.value.is_some()) {
                guard.changed_nothing();
                return Ok(false);
            }
            engine.store_written(turn.hash(), key, prepared).await.map(|_| true)
        })
        .await?
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
        Increment { delta, start, sum }: Increment,
    ) -> Result<Value> {
        self.check_open()?;
        let encoded = self.encode_key(&key)?;
        let engine = Arc::clone(self);
        let (turn, _caller) = self.write_turn::<W>(self.key_locks.hash(&key));
        self.drive::<W, _>(false, async move {
            let _guard = engine.lock_for_write(&turn).await?;
            if let (Some(shared), Some(encoded)) = (engine.shared(), &encoded) {
                engine.check_on()?;
                return engine.increment_shared(shared, encoded, Increment { delta, start, sum }).await;
            }
            if !engine.lifecycle.is_on() {
                let prepared = engine.prepare((&key, encoded), NewValue::plain(start, EntryOptions::new()));
                return Err(engine.drop_switched_off(&key, prepared).await);
            }
            // An invalidation after the former value is read applies to the sum, too.
            let stamp = engine.invalidations.stamp();
            let peeked = engine.present(&key, encoded.as_ref()).await?;
            let (former, terms) = match peeked {
                Some(Peeked { value: Some(value), terms }) => (value, Some(terms)),
                _ => (start, None),
            };
            let sum = sum(&former, &delta).ok_or_else(overflow)?;
            let prepared = match terms {
                Some(terms) => engine.prepare_with(((&key, encoded), Some(sum.clone())), terms, None),
                None => engine.prepare((&key, encoded), NewValue::plain(sum.clone(), EntryOptions::new())),
            };
            engine.store_with_seq(turn.hash(), key, prepared.stamped(stamp)).await.map(|_| sum)
        })
        .await?
    }

    fn check_on(&self) -> Result<()> {
        match self.lifecycle.is_on() {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Unavailable, "the cache is switched off")),
        }
    }

    /// Returns the fresh entry, if there is one. The caller holds the guard.
    async fn present(&self, key: &Key, encoded: Option<&EncodedKey>) -> Result<Option<Peeked>> {
        match encoded {
            Some(encoded) => self.peek(encoded).await,
            None => Ok(self.recall(key).map(Peeked::in_memory)),
        }
    }
}

pub(crate) fn overflow() -> Error {
    Error::new(ErrorKind::Unsupported, "the sum overflows the integer type")
}
