//! The shape of a type: all data that it requests from its decoder.
//!
//! bincode bytes do not describe themselves: the eight bytes of a `u64` also decode as an `f64`, or as two
//! `u32`. So a frame carries a fingerprint of the type that wrote it. The fingerprint comes from a probe: a
//! deserializer that answers every request of the type with a sample and records the request (names of
//! structs, fields and variants, and the primitive types). The technique is that of serde-reflection (Novi
//! Research, 2020).
//!
//! A shape is *complete* if every variant was visited at every place, every place accepted one of the
//! samples, and other numbers led to no other requests. Only a complete shape guarantees that bytes are read
//! correctly by position; every other type is stored by names. A type is not complete if it requests "any"
//! value (untagged enums, flattened fields, `serde_json::Value`), if it accepts none of the samples (a
//! validating type with its own format), or if it is too large for the budget.
//!
//! The fingerprint depends only on the serde form of the type: not on the compiler, the platform or the path
//! of a module. The [visitor's type name](std::any::type_name) is only used within one survey, to find that
//! two places have the same type, which ends recursion.

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

/// The result of surveying a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// XXH3 over all requests, never zero. If the shape is not complete, it covers only the requests seen:
    /// two types may share it.
    pub fingerprint: u64,
    /// Whether every variant was visited at every place and every probe was accepted: then the fingerprint
    /// guarantees that bytes are read correctly by position.
    pub is_complete: bool,
    /// Whether the type requests "any" value, so only a self-describing codec can represent it. Such a shape
    /// is not complete.
    pub asks_what_comes: bool,
}

impl Shape {
    /// The shape of a type with a native format.
    pub(super) const NONE: Self = Self { fingerprint: 0, is_complete: false, asks_what_comes: false };
}

/// Surveys the shape of `T`.
///
/// Costs some microseconds for a type of ten fields, and at most some milliseconds for a type that accepts no
/// sample or reaches the budget (1,000 walks, 100,000 questions). `Values` surveys once per type, not once
/// per cache.
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
    // A panic of a decoder counts as a rejected sample.
    survey(&mut |survey| {
        catch_unwind(AssertUnwindSafe(|| T::deserialize(Probe::root(survey)).is_ok())).unwrap_or(false)
    })
}

/// Like [`of`], cached for the rest of the process.
pub(super) fn remembered<T: DeserializeOwned + 'static>() -> Shape {
    static SHAPES: Mutex<Option<HashMap<TypeId, Shape>>> = Mutex::new(None);
    let known = SHAPES.lock().as_ref().and_then(|shapes| shapes.get(&TypeId::of::<T>()).copied());
    known.unwrap_or_else(|| {
        // Outside the lock, since it runs code of the type.
        let shape = of::<T>();
        SHAPES.lock().get_or_insert_default().insert(TypeId::of::<T>(), shape);
        shape
    })
}

/// One walk over the type; returns whether it reached the end.
type Walk<'a> = &'a mut dyn FnMut(&mut Survey) -> bool;

fn survey(walk: Walk<'_>) -> Shape {
    let mut survey = Survey::default();
    let is_complete = survey.explore(walk);
    let frozen = if is_complete { survey.frozen_fingerprint(walk) } else { None };
    let fingerprint = frozen.unwrap_or_else(|| survey.fingerprint());
    Shape { fingerprint, is_complete, asks_what_comes: survey.asks_what_comes() }
}
