//! Measures a value: how long its encoding will be, and whether bincode can represent it.
//!
//! A serializer that writes nothing. It counts the bytes that bincode 1.3 with fixed-width integers would
//! write, and detects data that a codec loses: for bincode, skipped fields and collections of unknown length;
//! for MessagePack and JSON, the difference between `Some(None)` and `None`; for JSON, numbers that are not
//! finite. It also finds the features of a value that a codec has not restored yet, so that the codec is
//! verified for each of them and not only for the first value, see `proof`.
//!
//! It also limits the depth of a value. Writing and reading recurse once per level, so a deeply nested value
//! would overflow the stack, which aborts the process.

use std::fmt;

use serde::ser::{self, Serialize};

use super::proof::{Features, Kind, Measured, Proofs};

/// The maximum nesting of a value: structs, tuples, sequences, maps, variants with contents (those with
/// several count twice), `Some` and newtypes within one another. This many levels of a type with derived
/// implementations fit the default 2 MiB stack of a thread, even in builds without optimization.
pub const DEPTH_MAX: usize = 256;

/// The maximum nesting of objects and arrays in JSON: the limit of `serde_json` for reading.
pub const JSON_DEPTH_MAX: usize = 127;

/// The result of measuring one value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    /// Length of the bincode encoding in bytes, if bincode can represent the value.
    pub bytes: u64,
    /// Whether the value needs names: it skipped a field, or has a collection of unknown length.
    pub needs_names: bool,
    /// Whether it contains a `Some` of nothing (`Some(None)`, `Some(())`), which MessagePack and JSON read
    /// back as `None`.
    pub some_of_nothing: bool,
    /// Whether it contains a float that is not finite, which JSON reads back as null.
    pub not_finite: bool,
    /// How deep the value is nested.
    pub depth: usize,
    /// How deep its JSON is nested.
    pub json_depth: usize,
}

/// Measures `value`. Costs about as much as writing it into a sufficiently large buffer, without the buffer.
///
/// # Errors
/// The error of the value's own `Serialize`, or of a value that is nested deeper than [`DEPTH_MAX`].
///
/// ```
/// use larder_core::codec::measure::measure;
///
/// let pair = measure(&(7_u64, "four")).unwrap();
/// assert_eq!((pair.bytes, pair.needs_names), (8 + 8 + 4, false));
/// ```
pub fn measure<T: Serialize + ?Sized>(value: &T) -> Result<Measure, Refused> {
    let mut counter = Counter::default();
    value.serialize(&mut counter)?;
    Ok(counter.measure)
}

/// Measures `value`, and finds its features that `proofs` lacks.
pub(super) fn measure_unproven<T: Serialize + ?Sized>(
    value: &T,
    proofs: &Proofs,
) -> Result<Measured, Refused> {
    let mut counter = Counter { features: Features::of(proofs), ..Counter::default() };
    value.serialize(&mut counter)?;
    Ok(Measured { measure: counter.measure, unproven: counter.features.into_unproven() })
}

/// The error of a value's `Serialize`, or of too deep nesting.
#[derive(Debug)]
pub struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl ser::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

#[derive(Default)]
struct Counter<'a> {
    measure: Measure,
    /// Whether the next value is directly in a `Some`.
    in_some: bool,
    /// Levels around the next value.
    depth: usize,
    /// JSON objects and arrays around the next value.
    json_depth: usize,
    features: Features<'a>,
}

impl Counter<'_> {
    fn add(&mut self, bytes: usize) -> Result<(), Refused> {
        self.measure.bytes = self.measure.bytes.saturating_add(bytes as u64);
        self.in_some = false;
        Ok(())
    }

    /// Adds a value without content.
    fn nothing(&mut self, kind: Kind, bytes: usize) -> Result<(), Refused> {
        self.features.note(kind);
        self.measure.some_of_nothing |= self.in_some;
        self.add(bytes)
    }

    /// Adds data of a primitive type.
    #[inline]
    fn primitive(&mut self, kind: Kind, bytes: usize) -> Result<(), Refused> {
        self.features.note(kind);
        self.add(bytes)
    }

    fn composite(&mut self, bytes: usize) -> Result<&mut Self, Refused> {
        self.add(bytes)?;
        self.enter(1)?;
        Ok(self)
    }

    /// Begins a variant with several contents: in JSON an object in an object, or an array.
    fn variant(&mut self) -> Result<&mut Self, Refused> {
        self.add(VARIANT)?;
        self.enter(2)?;
        Ok(self)
    }

    /// Begins a level that has `in_json` nested objects and arrays in JSON.
    fn enter(&mut self, in_json: usize) -> Result<(), Refused> {
        self.depth += in_json.max(1);
        self.json_depth += in_json;
        self.measure.depth = self.measure.depth.max(self.depth);
        self.measure.json_depth = self.measure.json_depth.max(self.json_depth);
        if self.depth <= DEPTH_MAX {
            return Ok(());
        }
        Err(Refused(format!("it is nested deeper than {DEPTH_MAX} levels, which would overflow the stack")))
    }

    fn leave(&mut self, in_json: usize) -> Result<(), Refused> {
        self.depth = self.depth.saturating_sub(in_json.max(1));
        self.json_depth = self.json_depth.saturating_sub(in_json);
        Ok(())
    }

    /// Measures a value in a wrapper level that adds no bytes.
    fn wrapped<T: Serialize + ?Sized>(&mut self, value: &T, in_json: usize) -> Result<(), Refused> {
        self.enter(in_json)?;
        value.serialize(&mut *self)?;
        self.leave(in_json)
    }

    fn collection(&mut self, len: Option<usize>) -> Result<&mut Self, Refused> {
        self.measure.needs_names |= len.is_none();
        self.features.note(if len == Some(0) { Kind::Empty } else { Kind::Collection });
        self.composite(LENGTH)
    }
}

const LENGTH: usize = size_of::<u64>();
const VARIANT: usize = size_of::<u32>();

macro_rules! fixed {
    ($($method:ident: $type:ty, $kind:ident);+) => {$(
        fn $method(self, _: $type) -> Result<(), Refused> {
            self.primitive(Kind::$kind, size_of::<$type>())
        }
    )+};
}

impl ser::Serializer for &mut Counter<'_> {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fixed!(
        serialize_bool: bool, Bool;
        serialize_i8: i8, I8;
        serialize_i16: i16, I16;
        serialize_i32: i32, I32;
        serialize_i64: i64, I64;
        serialize_i128: i128, I128;
        serialize_u8: u8, U8;
        serialize_u16: u16, U16;
        serialize_u32: u32, U32;
        serialize_u64: u64, U64;
        serialize_u128: u128, U128
    );

    fn serialize_f32(self, number: f32) -> Result<(), Refused> {
        self.measure.not_finite |= !number.is_finite();
        self.primitive(Kind::F32, size_of::<f32>())
    }

    fn serialize_f64(self, number: f64) -> Result<(), Refused> {
        self.measure.not_finite |= !number.is_finite();
        self.primitive(Kind::F64, size_of::<f64>())
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_char(self, c: char) -> Result<(), Refused> {
        self.primitive(Kind::Char, c.len_utf8())
    }

    fn serialize_str(self, text: &str) -> Result<(), Refused> {
        self.primitive(Kind::Text, LENGTH + text.len())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Refused> {
        self.primitive(Kind::Bytes, LENGTH + bytes.len())
    }

    fn serialize_none(self) -> Result<(), Refused> {
        self.nothing(Kind::None, 1)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refused> {
        self.primitive(Kind::Some, 1)?;
        self.in_some = true;
        self.wrapped(value, 0)
    }

    fn serialize_unit(self) -> Result<(), Refused> {
        self.nothing(Kind::Unit, 0)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Refused> {
        self.nothing(Kind::Unit, 0)
    }

    fn serialize_unit_variant(self, name: &'static str, index: u32, _: &'static str) -> Result<(), Refused> {
        self.features.note_name(name, index);
        self.add(VARIANT)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        self.wrapped(value, 0)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        self.features.note_name(name, index);
        self.add(VARIANT)?;
        self.wrapped(value, 1)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self, Refused> {
        self.collection(len)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Refused> {
        self.features.note(Kind::Tuple);
        self.composite(0)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Refused> {
        self.features.note(Kind::Tuple);
        self.composite(0)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Refused> {
        self.features.note_name(name, index);
        self.variant()
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self, Refused> {
        self.collection(len)
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Self, Refused> {
        self.features.note_name(name, 0);
        self.composite(0)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Refused> {
        self.features.note_name(name, index);
        self.variant()
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), Refused> {
        let mut len = Len(0);
        fmt::Write::write_fmt(&mut len, format_args!("{value}")).map_err(ser::Error::custom)?;
        self.primitive(Kind::Text, LENGTH + len.0)
    }
}

struct Len(usize);

impl fmt::Write for Len {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

macro_rules! elements {
    ($($trait:ident: $method:ident, $in_json:literal);+) => {$(
        impl ser::$trait for &mut Counter<'_> {
            type Ok = ();
            type Error = Refused;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), Refused> {
                self.leave($in_json)
            }
        }
    )+};
}

elements!(
    SerializeSeq: serialize_element, 1;
    SerializeTuple: serialize_element, 1;
    SerializeTupleStruct: serialize_field, 1;
    SerializeTupleVariant: serialize_field, 2
);

impl ser::SerializeMap for &mut Counter<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        key.serialize(&mut **self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Refused> {
        self.leave(1)
    }
}

macro_rules! fields {
    ($($trait:ident: $in_json:literal),+) => {$(
        impl ser::$trait for &mut Counter<'_> {
            type Ok = ();
            type Error = Refused;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Refused> {
                self.features.begin_field(name);
                value.serialize(&mut **self)
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), Refused> {
                self.features.begin_field(name);
                self.features.note(Kind::Skipped);
                self.measure.needs_names = true;
                Ok(())
            }

            fn end(self) -> Result<(), Refused> {
                self.leave($in_json)
            }
        }
    )+};
}

fields!(SerializeStruct: 1, SerializeStructVariant: 2);

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use serde::Serialize;

    use super::measure;

    #[derive(Serialize)]
    pub(in crate::codec) enum Shape {
        Unit,
        Pair(u8, String),
        Named { deep: Option<Vec<(i16, char)>> },
    }

    #[derive(Serialize, Default)]
    struct Skips {
        #[serde(skip_serializing_if = "Option::is_none")]
        maybe: Option<u8>,
        always: u8,
    }

    #[derive(Serialize)]
    struct Flat {
        #[serde(flatten)]
        inner: BTreeMap<String, u8>,
    }

    fn check(value: &impl Serialize) {
        assert_eq!(measure(value).unwrap().bytes, bincode::serialized_size(value).unwrap());
    }

    #[test]
    fn measured_length_is_that_of_bincode() {
        check(&());
        check(&(1_u8, -2_i64, 3.5_f32, 'ß', true, u128::MAX));
        check(&"text");
        check(&Some(String::from("text")));
        check(&vec![Some(1_u16), None]);
        check(&BTreeMap::from([("a", [1, 2, 3]), ("b", [4, 5, 6])]));
        check(&Shape::Unit);
        check(&Shape::Pair(1, "x".into()));
        check(&Shape::Named { deep: Some(vec![(1, 'a'), (2, '€')]) });
        check(&std::net::IpAddr::from([127, 0, 0, 1]));
    }

    #[test]
    fn value_nested_too_deep_is_rejected() {
        fn nested(levels: usize) -> serde_json::Value {
            (0..levels).fold(serde_json::Value::Null, |inner, _| serde_json::Value::Array(vec![inner]))
        }
        let depth = |value: &serde_json::Value| measure(value).map(|measured| measured.json_depth);
        assert_eq!(depth(&nested(super::DEPTH_MAX)).unwrap(), super::DEPTH_MAX);
        let refused = depth(&nested(super::DEPTH_MAX + 1)).unwrap_err();
        assert!(refused.to_string().contains("256 levels"), "{refused}");
        let siblings = serde_json::Value::Array(vec![nested(200), nested(200)]);
        assert_eq!(depth(&siblings).unwrap(), 201, "levels end");
        let measured = measure(&Shape::Named { deep: Some(vec![(1, 'a')]) }).unwrap();
        assert_eq!((measured.json_depth, measured.depth), (4, 5));
    }

    #[test]
    fn some_of_nothing_is_detected() {
        fn noticed(value: &impl Serialize) -> bool {
            measure(value).unwrap().some_of_nothing
        }
        assert!(noticed(&Some(None::<u8>)));
        assert!(noticed(&Some(())));
        assert!(noticed(&(1, vec![Some(Some(None::<u8>))])));
        for fine in [None, Some(Vec::new()), Some(vec![None]), Some(vec![Some(1_u8)])] {
            assert!(!noticed(&fine), "{fine:?}");
        }
        assert!(!noticed(&((), None::<u8>, Some((None::<u8>, ())))));
    }

    #[test]
    fn data_lost_by_bincode_is_detected() {
        assert!(measure(&Skips::default()).unwrap().needs_names);
        assert!(!measure(&Skips { maybe: Some(1), always: 2 }).unwrap().needs_names);
        assert!(measure(&Flat { inner: BTreeMap::from([("a".into(), 1)]) }).unwrap().needs_names);
    }
}
