//! Records which features of a type a codec has restored correctly.
//!
//! The features of a value are its variants, its skipped fields, and for each field the kinds of data in it: an
//! absent option, a present one, an empty list, a text, and so on. A value with a feature that no verified
//! value had is verified too.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::measure::Measure;

/// Up to this nesting any type decodes in a small part of the stack.
const SHALLOW: usize = 32;

/// The maximum number of remembered features of a type. A value with another one is verified each time.
const FEATURES_MAX: usize = 512;

/// The number of places in which a feature may be.
const PROBES: usize = 16;

/// What one codec has restored correctly of one type.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    /// Set once any value was verified: a value without features must be verified too.
    any: AtomicBool,
    features: OnceLock<Box<Table>>,
    /// The greatest nesting that was restored: how much stack a level needs depends on the type.
    depth: AtomicUsize,
}

/// An open-addressed table of hashes; 0 is a free place.
type Table = [AtomicU64; FEATURES_MAX];

impl Proofs {
    /// Whether this value must still be verified by decoding it back.
    pub(super) fn lacks(&self, measured: &Measured) -> bool {
        let depth = measured.measure.depth;
        !self.any.load(Ordering::Relaxed)
            || !measured.unproven.is_empty()
            || (depth > SHALLOW && depth > self.depth.load(Ordering::Relaxed))
    }

    /// Records that this value was restored correctly.
    pub(super) fn add(&self, measured: &Measured) {
        if !self.lacks(measured) {
            return;
        }
        self.depth.fetch_max(measured.measure.depth, Ordering::Relaxed);
        if !measured.unproven.is_empty() {
            let table = self.features.get_or_init(|| Box::new([const { AtomicU64::new(0) }; FEATURES_MAX]));
            measured.unproven.iter().for_each(|feature| add(table, *feature));
        }
        self.any.store(true, Ordering::Relaxed);
    }

    fn has(&self, feature: u64) -> bool {
        let mut found = self.features.get().into_iter().flat_map(|table| places(table, feature));
        found.any(|place| place.load(Ordering::Relaxed) == feature)
    }
}

fn add(table: &Table, feature: u64) {
    for place in places(table, feature) {
        match place.compare_exchange(0, feature, Ordering::Relaxed, Ordering::Relaxed) {
            Err(other) if other != feature => {}
            _ => return,
        }
    }
}

fn places(table: &Table, feature: u64) -> impl Iterator<Item = &AtomicU64> {
    let first = (feature >> 32) as usize;
    (first..first + PROBES).map(|place| &table[place % FEATURES_MAX])
}

/// A measured value, with its features that the codec has not restored yet.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) measure: Measure,
    pub(super) unproven: BTreeSet<u64>,
}

/// A kind of data in a field.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    None = 1,
    Some,
    Unit,
    Empty,
    Collection,
    Tuple,
    Text,
    Char,
    Bytes,
    Skipped,
    Bool,
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    U128,
    F32,
    F64,
}

/// Collects the features of a value that `proofs` lacks. Without `proofs` it does nothing.
#[derive(Default)]
pub(super) struct Features<'a> {
    proofs: Option<&'a Proofs>,
    unproven: BTreeSet<u64>,
    /// A number for the current field.
    field: u64,
    /// The latest feature: the elements of a list mostly have the same one.
    latest: u64,
}

impl<'a> Features<'a> {
    pub(super) fn of(proofs: &'a Proofs) -> Self {
        Self { proofs: Some(proofs), ..Self::default() }
    }

    pub(super) fn into_unproven(self) -> BTreeSet<u64> {
        self.unproven
    }

    pub(super) fn begin_field(&mut self, name: &'static str) {
        self.field = number_of(name);
    }

    #[inline]
    pub(super) fn note(&mut self, kind: Kind) {
        self.add(self.field, kind as u64);
    }

    /// Records a variant, or the name of a struct.
    pub(super) fn note_name(&mut self, name: &'static str, index: u32) {
        self.add(number_of(name), 1 << 32 | u64::from(index));
    }

    #[inline]
    fn add(&mut self, name: u64, what: u64) {
        let Some(proofs) = self.proofs else { return };
        let feature = mixed(mixed(name) ^ what);
        if feature == self.latest {
            return;
        }
        self.latest = feature;
        if !proofs.has(feature) {
            self.unproven.insert(feature);
        }
    }
}

/// A number for a static name: its address and length. The same name at two addresses counts twice.
fn number_of(name: &'static str) -> u64 {
    name.as_ptr().addr() as u64 ^ (name.len() as u64).rotate_right(16)
}

/// Spreads the bits of a number. No two numbers have the same result, and 0 stays 0.
fn mixed(number: u64) -> u64 {
    let product = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::super::measure::{measure_unproven, tests::Shape};
    use super::{FEATURES_MAX, Kind, Measured, Proofs, mixed};

    #[derive(Serialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u64),
        Address(std::net::Ipv4Addr),
        Flag(bool),
    }

    /// Whether a codec that restored the first value is trusted with the second one.
    fn proves(first: &impl Serialize, second: &impl Serialize) -> bool {
        let proofs = Proofs::default();
        proofs.add(&measure_unproven(first, &proofs).unwrap());
        !proofs.lacks(&measure_unproven(second, &proofs).unwrap())
    }

    #[test]
    fn value_proves_those_with_its_features() {
        assert!(proves(&Shape::Pair(1, "x".into()), &Shape::Pair(7, "other".into())));
        assert!(!proves(&Shape::Pair(1, "x".into()), &Shape::Unit));
        let named = |deep| Shape::Named { deep };
        assert!(!proves(&named(None), &named(Some(vec![]))));
        assert!(!proves(&named(Some(vec![(1, 'a')])), &named(Some(vec![]))));
        assert!(proves(&named(Some(vec![(1, 'a')])), &named(Some(vec![(2, 'b'), (3, 'c')]))));
        assert!(!proves(&Untagged::Number(1), &Untagged::Address([127, 0, 0, 1].into())));
        assert!(!proves(&Untagged::Number(1), &Untagged::Flag(true)));
        assert!(!proves(&(1_u64, 2_u32), &(1_u64, "2")));
    }

    /// Names are addresses, so neighbours in memory with different variants are the hardest case.
    #[test]
    fn features_are_remembered_exactly() {
        let number = |name: u64, what: u64| mixed(mixed(name) ^ what);
        let (proofs, mut unproven) = (Proofs::default(), std::collections::BTreeSet::new());
        for name in 0x5555_0000_u64..0x5555_0020 {
            unproven.extend((0..8).map(|index| number(name, 1 << 32 | index)));
        }
        assert_eq!(unproven.len(), 256);
        proofs.add(&Measured { unproven: unproven.clone(), ..Measured::default() });
        assert!(unproven.iter().all(|feature| proofs.has(*feature)));
        for name in 0x5555_0020_u64..0x5555_4000 {
            assert!((0..8).all(|index| !proofs.has(number(name, 1 << 32 | index))));
            assert!(!proofs.has(number(name, Kind::Some as u64)));
        }
    }

    #[test]
    fn feature_beyond_the_limit_is_verified_each_time() {
        let proofs = Proofs::default();
        let unproven = (1..=4 * FEATURES_MAX as u64).map(mixed).collect();
        proofs.add(&Measured { unproven, ..Measured::default() });
        let remembered = (1..=4 * FEATURES_MAX as u64).filter(|number| proofs.has(mixed(*number))).count();
        assert!(remembered <= FEATURES_MAX, "{remembered}");
        assert!(remembered > FEATURES_MAX / 2, "{remembered}");
    }
}
