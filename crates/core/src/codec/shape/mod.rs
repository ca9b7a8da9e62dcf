//! The shape of a type: what it asks of its decoder, everywhere.
//!
//! bincode bytes do not say what they are: eight bytes of a `u64` decode as an
//! `f64`, or as two `u32`. So a frame carries a fingerprint of the type that
//! wrote it. The fingerprint comes from a probe: a deserializer that answers
//! every question of the type with a sample and writes the question down
//! (names of structs, fields and variants, and the primitive types). The
//! technique is that of serde-reflection (Novi Research, 2020).
//!
//! A shape is *complete* when every variant was visited at every place, every
//! place accepted one of the samples, and other numbers led to no other
//! questions. Only a complete shape vouches for bytes that are read by
//! position; every other type is stored by names. A type is not complete when
//! it asks "what comes next?" (untagged enums, flattened fields,
//! `serde_json::Value`), when it accepts none of the samples (a validating type
//! with a format of its own), or when it is too large for the budget.
//!
//! The fingerprint depends on the serde form of the type alone: not on the
//! compiler, the platform or the path of a module. The [visitor's type
//! name](std::any::type_name) only tells within one survey that two places have
//! the same type, which ends recursion.

mod frozen;
mod graph;
mod probe;
mod samples;
mod survey;
#[cfg(test)]
mod tests;

use std::any::TypeId;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use probe::Probe;
use survey::Survey;

/// What the walks over a type found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// XXH3 over all that is asked, never zero. Where the shape is not complete it
    /// is over what was seen: two types may share it.
    pub fingerprint: u64,
    /// Whether every variant was visited at every place, and every probe accepted:
    /// whether the fingerprint vouches for bytes that are read by position.
    pub is_complete: bool,
    /// Whether it asks what comes next, so only a codec that describes itself
    /// can carry it. Such a shape is not complete.
    pub asks_what_comes: bool,
}

impl Shape {
    /// What is said of a type that has no shape of its own.
    pub(super) const NONE: Self = Self { fingerprint: 0, is_complete: false, asks_what_comes: false };
}

/// The shape of `T`.
///
/// Costs some microseconds for a type of ten fields and at most some
/// milliseconds for one that accepts no sample or reaches the budget (1,000
/// walks, 100,000 questions). `Values` asks once a type, not once a cache.
///
/// ```
/// use larder_core::codec::shape;
///
/// assert_ne!(shape::of::<u64>(), shape::of::<f64>());
/// assert_eq!(shape::of::<Vec<String>>(), shape::of::<Box<[String]>>());
/// assert!(shape::of::<(u64, String)>().is_complete);
/// assert!(!shape::of::<serde_json::Value>().is_complete);
/// ```
pub fn of<T: DeserializeOwned>() -> Shape {
    // A decoder that panics on a sample refuses it.
    survey(&mut |survey| {
        catch_unwind(AssertUnwindSafe(|| T::deserialize(Probe::root(survey)).is_ok())).unwrap_or(false)
    })
}

/// As [`of`], remembered for the rest of the process.
pub(super) fn remembered<T: DeserializeOwned + 'static>() -> Shape {
    static SHAPES: Mutex<Option<HashMap<TypeId, Shape>>> = Mutex::new(None);
    let known = SHAPES.lock().as_ref().and_then(|shapes| shapes.get(&TypeId::of::<T>()).copied());
    known.unwrap_or_else(|| {
        // Outside of the lock: it runs code of the type.
        let shape = of::<T>();
        SHAPES.lock().get_or_insert_default().insert(TypeId::of::<T>(), shape);
        shape
    })
}

/// One walk over the type; whether it came to its end.
type Walk<'a> = &'a mut dyn FnMut(&mut Survey) -> bool;

fn survey(walk: Walk<'_>) -> Shape {
    let mut survey = Survey::default();
    let is_complete = survey.explore(walk);
    let frozen = if is_complete { survey.frozen_fingerprint(walk) } else { None };
    let fingerprint = frozen.unwrap_or_else(|| survey.fingerprint());
    Shape { fingerprint, is_complete, asks_what_comes: survey.asks_what_comes() }
}
