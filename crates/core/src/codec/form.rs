//! The form of a value: a digest of all data that it gives its encoder.
//!
//! A serializer that writes nothing and digests everything: primitives with their type, and the names of
//! structs, newtypes, fields and variants, which MessagePack and JSON write only in part. Two values have the
//! same form if they give serde the same data. So a decoded value is compared with the encoded one without
//! `PartialEq`, also across versions of a program. The order of sequence elements and map entries does not
//! count, because sets and maps have none.
//!
//! The digest is stored in frames (`docs/format.md`), so it is part of the format: it depends only on the
//! value.

use serde::ser::{self, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::measure::Refused;

/// The form of the whole value: an odd number.
///
/// # Errors
/// If the `Serialize` of the value fails.
pub(super) fn whole<T: Serialize + ?Sized>(value: &T) -> Result<u64, Refused> {
    let mut form = Form { state: 0, is_noted: true, tuples: 0 };
    value.serialize(&mut form)?;
    Ok(form.state | 1)
}

/// The form of the data that is written by position even by a codec with names: the tuples and arrays in the
/// value. An even number; zero if there are none.
///
/// # Errors
/// If the `Serialize` of the value fails.
pub(super) fn positions<T: Serialize + ?Sized>(value: &T) -> Result<u64, Refused> {
    let mut form = Form { state: 0, is_noted: false, tuples: 0 };
    value.serialize(&mut form)?;
    Ok(form.tuples << 1)
}

struct Form {
    state: u64,
    /// Whether the following data counts.
    is_noted: bool,
    /// The sum of the forms of the outermost tuples.
    tuples: u64,
}

/// The kind of noted data. Primitives are noted with their width.
#[derive(Clone, Copy)]
enum Sort {
    Bool = 1,
    Signed,
    Unsigned,
    Float,
    Char,
    Text,
    Bytes,
    None,
    Some,
    Unit,
    Newtype,
    Variant,
    Sequence,
    Map,
    Tuple,
    Struct,
    Field,
    Skipped,
}

fn mix(state: u64, word: u64) -> u64 {
    // The odd constant of splitmix64, then a step of xorshift to spread the bits.
    let mixed = (state.rotate_left(23) ^ word).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

impl Form {
    fn note(&mut self, sort: Sort, word: u64) {
        if self.is_noted {
            self.state = mix(mix(self.state, sort as u64), word);
        }
    }

    fn name(&mut self, sort: Sort, name: &str) {
        if self.is_noted {
            self.note(sort, xxh3_64(name.as_bytes()));
        }
    }

    fn variant(&mut self, name: &str, index: u32, variant: &str) {
        self.name(Sort::Variant, name);
        self.note(Sort::Variant, index.into());
        self.name(Sort::Variant, variant);
    }

    /// Parts whose order counts.
    fn ordered(&mut self) -> Parts<'_> {
        Parts { outer: None, sum: 0, is_outermost: false, form: self }
    }

    /// Parts whose order does not count.
    fn unordered(&mut self, sort: Sort, len: Option<usize>) -> Parts<'_> {
        // The parts account for the length; some serializers give none.
        self.note(sort, u64::from(len == Some(0)));
        Parts { outer: Some(self.state), sum: 0, is_outermost: false, form: self }
    }

    /// Parts that are written by position.
    fn tuple(&mut self, name: &str, len: usize) -> Parts<'_> {
        let is_outermost = !self.is_noted;
        if is_outermost {
            *self = Self { state: 0, is_noted: true, ..*self };
        }
        self.name(Sort::Tuple, name);
        self.note(Sort::Tuple, len as u64);
        Parts { outer: None, sum: 0, is_outermost, form: self }
    }
}

macro_rules! primitives {
    ($($method:ident($type:ty): $sort:ident),+) => {$(
        fn $method(self, value: $type) -> Result<(), Refused> {
            self.note(Sort::$sort, size_of::<$type>() as u64);
            self.note(Sort::$sort, value as u64);
            Ok(())
        }
    )+};
}

macro_rules! wide {
    ($($method:ident($type:ty): $sort:ident),+) => {$(
        fn $method(self, value: $type) -> Result<(), Refused> {
            self.note(Sort::$sort, size_of::<$type>() as u64);
            self.note(Sort::$sort, value as u64);
            self.note(Sort::$sort, (value >> 64) as u64);
            Ok(())
        }
    )+};
}

impl<'a> ser::Serializer for &'a mut Form {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    primitives!(
        serialize_bool(bool): Bool, serialize_char(char): Char,
        serialize_i8(i8): Signed, serialize_i16(i16): Signed, serialize_i32(i32): Signed,
        serialize_i64(i64): Signed, serialize_u8(u8): Unsigned, serialize_u16(u16): Unsigned,
        serialize_u32(u32): Unsigned, serialize_u64(u64): Unsigned
    );

    wide!(serialize_i128(i128): Signed, serialize_u128(u128): Unsigned);

    fn serialize_f32(self, number: f32) -> Result<(), Refused> {
        self.note(Sort::Float, size_of::<f32>() as u64);
        self.note(Sort::Float, number.to_bits().into());
        Ok(())
    }

    fn serialize_f64(self, number: f64) -> Result<(), Refused> {
        self.note(Sort::Float, size_of::<f64>() as u64);
        self.note(Sort::Float, number.to_bits());
        Ok(())
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_str(self, text: &str) -> Result<(), Refused> {
        self.name(Sort::Text, text);
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Refused> {
        if self.is_noted {
            self.note(Sort::Bytes, xxh3_64(bytes));
        }
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Refused> {
        self.note(Sort::None, 0);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refused> {
        self.note(Sort::Some, 0);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Refused> {
        self.note(Sort::Unit, 0);
        Ok(())
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<(), Refused> {
        self.name(Sort::Unit, name);
        Ok(())
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<(), Refused> {
        self.variant(name, index, variant);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        self.name(Sort::Newtype, name);
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        self.variant(name, index, variant);
        value.serialize(self)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Parts<'a>, Refused> {
        Ok(self.unordered(Sort::Sequence, len))
    }

    fn serialize_tuple(self, len: usize) -> Result<Parts<'a>, Refused> {
        Ok(self.tuple("", len))
    }

    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Parts<'a>, Refused> {
        Ok(self.tuple(name, len))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Parts<'a>, Refused> {
        self.variant(name, index, variant);
        Ok(self.tuple(variant, len))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Parts<'a>, Refused> {
        Ok(self.unordered(Sort::Map, len))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Parts<'a>, Refused> {
        self.name(Sort::Struct, name);
        Ok(self.ordered())
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Refused> {
        self.variant(name, index, variant);
        Ok(self.ordered())
    }
}

/// The parts of a composite value.
struct Parts<'a> {
    form: &'a mut Form,
    /// The state before the parts, if their order does not count.
    outer: Option<u64>,
    /// The sum of the forms of the parts, if their order does not count.
    sum: u64,
    /// Whether the data around it does not count.
    is_outermost: bool,
}

impl Parts<'_> {
    fn begin(&mut self) {
        if self.outer.is_some() && self.form.is_noted {
            self.form.state = 0;
        }
    }

    fn finish(&mut self) {
        if self.outer.is_some() && self.form.is_noted {
            self.sum = self.sum.wrapping_add(mix(self.form.state, 1));
        }
    }

    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.begin();
        value.serialize(&mut *self.form)?;
        self.finish();
        Ok(())
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Refused> {
        self.form.name(Sort::Field, name);
        value.serialize(&mut *self.form)
    }

    fn over(self) -> Result<(), Refused> {
        if let Some(outer) = self.outer
            && self.form.is_noted
        {
            self.form.state = mix(outer, self.sum);
        }
        if self.is_outermost {
            self.form.tuples = self.form.tuples.wrapping_add(mix(self.form.state, 2));
            self.form.is_noted = false;
        }
        Ok(())
    }
}

macro_rules! elements {
    ($($trait:ident: $method:ident),+) => {$(
        impl ser::$trait for Parts<'_> {
            type Ok = ();
            type Error = Refused;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
                self.part(value)
            }

            fn end(self) -> Result<(), Refused> {
                self.over()
            }
        }
    )+};
}

elements!(
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field
);

impl ser::SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        self.begin();
        key.serialize(&mut *self.form)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        value.serialize(&mut *self.form)?;
        self.finish();
        Ok(())
    }

    fn end(self) -> Result<(), Refused> {
        self.over()
    }
}

macro_rules! fields {
    ($($trait:ident),+) => {$(
        impl ser::$trait for Parts<'_> {
            type Ok = ();
            type Error = Refused;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Refused> {
                self.field(name, value)
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), Refused> {
                self.form.name(Sort::Skipped, name);
                Ok(())
            }

            fn end(self) -> Result<(), Refused> {
                self.over()
            }
        }
    )+};
}

fields!(SerializeStruct, SerializeStructVariant);

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap, HashSet};

    use serde::Serialize;

    use super::{positions, whole};

    #[derive(Serialize)]
    struct Celsius(f64);
    #[derive(Serialize)]
    struct Fahrenheit(f64);
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Either<T> {
        Number(T),
        Text(String),
    }
    #[derive(Serialize)]
    struct Named<T> {
        value: T,
    }

    fn of(value: &impl Serialize) -> u64 {
        whole(value).unwrap()
    }

    #[test]
    fn different_types_or_contents_have_different_forms() {
        let forms = [
            of(&1_u32),
            of(&2_u32),
            of(&1_u64),
            of(&1_i32),
            of(&1.0_f32),
            of(&1.0_f64),
            of(&u128::MAX),
            of(&u128::from(u64::MAX)),
            of(&"a"),
            of(&'a'),
            of(&Some("a")),
            of(&None::<u8>),
            of(&Some(None::<u8>)),
            of(&()),
            of(&Celsius(1.0)),
            of(&Fahrenheit(1.0)),
            of(&(Celsius(1.0), Fahrenheit(1.0))),
            of(&(Fahrenheit(1.0), Celsius(1.0))),
            of(&Either::Number(1_u32)),
            of(&Named { value: 1_u32 }),
            of(&vec![1_u32]),
            of(&vec![1_u32, 1]),
            of(&Vec::<u32>::new()),
            of(&[1_u32, 2]),
            of(&[2_u32, 1]),
            of(&BTreeMap::from([(1_u32, 2_u32)])),
            of(&BTreeMap::from([(2_u32, 1_u32)])),
        ];
        // To serde an untagged number is a number.
        let distinct: HashSet<u64> = forms.into_iter().collect();
        assert_eq!(distinct.len(), forms.len() - 1);
        assert_eq!(of(&Either::<u8>::Text("a".into())), of(&"a"));
    }

    #[test]
    fn sets_and_maps_have_one_form_in_any_order() {
        let entries = || (0..100_u32).map(|number| (number, vec![number; 2]));
        let one: HashMap<u32, Vec<u32>> = entries().collect();
        let other: HashMap<u32, Vec<u32>> = entries().collect();
        assert_eq!(of(&one), of(&other));
        assert_eq!(of(&(0..100).collect::<HashSet<u32>>()), of(&(0..100).rev().collect::<Vec<u32>>()));
        assert_eq!(of(&one), of(&entries().collect::<BTreeMap<_, _>>()));
    }

    #[test]
    fn only_tuples_count_by_position() {
        assert_eq!(positions(&Named { value: vec![Some(1_u8)] }).unwrap(), 0);
        let swapped = |one, other| positions(&Named { value: vec![(one, other)] }).unwrap();
        assert_ne!(swapped(1_u8, 2_u8), 0);
        assert_ne!(swapped(1_u8, 2_u8), swapped(2, 1));
        let reading = positions(&vec![(Celsius(1.0), Fahrenheit(1.0))]).unwrap();
        assert_ne!(reading, positions(&vec![(Fahrenheit(1.0), Celsius(1.0))]).unwrap());
        // The data around tuples does not count.
        assert_eq!(swapped(1_u8, 2_u8), positions(&(1_u8, 2_u8)).unwrap());
        assert!(swapped(1, 2).is_multiple_of(2) && !of(&(1, 2)).is_multiple_of(2));
    }

    #[test]
    fn forms_are_part_of_the_format() {
        let named = Named { value: (1_u8, "a", Some(vec![1.5_f64])) };
        assert_eq!([of(&named), positions(&named).unwrap()], [1763295290102162509, 3350744532075172802]);
    }
}
