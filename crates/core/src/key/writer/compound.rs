//! Serializes structs, tuples and collections of a key.

use serde::ser::{self, Serialize};

use super::{Refusal, Writer};
use crate::key::moment;
use crate::key::rewrites::{Rewrite, Step};
use crate::key::sink::{Buffer, Int, Item, Sink};

/// Numbers of a [`Rewrite::Moment`].
pub(super) const MOMENT: usize = 9;

/// A part that consists of parts.
pub(in crate::key) struct Compound<'w, 'a> {
    writer: &'w mut Writer<'a>,
    next: u64,
    kind: Kind,
}

pub(super) enum Kind {
    /// Fields of a struct, or elements of a tuple.
    Fields,
    /// Fields or elements of a variant.
    FieldsOf(u32),
    /// Elements of a collection, written immediately.
    Listed,
    /// A collection that is left empty.
    LeftOut,
    /// A collection whose elements are written at its end.
    Held { parts: Vec<Held>, is_map: bool, sorts: bool },
    /// A tuple that may be a moment in numbers.
    Moment(Vec<(Buffer, Option<Int>)>),
}

/// An element, or a pair, that is not written yet.
pub(super) struct Held {
    order: Buffer,
    bytes: Buffer,
}

impl<'w, 'a> Compound<'w, 'a> {
    pub(super) fn new(writer: &'w mut Writer<'a>, kind: Kind) -> Self {
        Self { writer, next: 0, kind }
    }

    fn field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refusal> {
        let mut step = Step::Field(self.next);
        self.next += 1;
        let writer = &mut *self.writer;
        match &mut self.kind {
            Kind::Moment(parts) => {
                writer.last = None;
                let bytes = writer.apart(writer.sink.part(), step, value)?;
                parts.push((bytes, writer.last.take()));
                return Ok(());
            }
            Kind::FieldsOf(index) => step = Step::Field(u64::from(*index) << 32 | self.next),
            _ => {}
        }
        writer.part(step, value)
    }

    fn element<T: Serialize + ?Sized>(&mut self, step: Step, value: &T) -> Result<(), Refusal> {
        let writer = &mut *self.writer;
        let is_first = !matches!(step, Step::MapValue);
        match &mut self.kind {
            Kind::LeftOut => Ok(()),
            Kind::Held { parts, sorts, .. } => {
                if is_first {
                    parts.push(Held { order: Buffer::new(), bytes: Buffer::new() });
                }
                let Some(held) = parts.last_mut() else { return Ok(()) };
                let bytes = writer.apart(writer.sink.part(), step, value)?;
                held.bytes.extend_from_slice(&bytes);
                if *sorts {
                    let notes = writer.notes.take();
                    let order = writer.apart(Sink::Ordered(Buffer::new()), step, value)?;
                    writer.notes = notes;
                    held.order.extend_from_slice(&order);
                }
                Ok(())
            }
            _ => {
                if is_first {
                    writer.sink.put(Item::Element);
                }
                writer.part(step, value)
            }
        }
    }

    fn finish(self) -> Result<(), Refusal> {
        let writer = self.writer;
        match self.kind {
            Kind::Fields | Kind::FieldsOf(_) => {}
            Kind::Listed | Kind::LeftOut => writer.sink.put(Item::End),
            Kind::Held { mut parts, is_map, sorts } => {
                if sorts {
                    parts.sort_by(|one, other| one.order.cmp(&other.order));
                }
                writer.sink.put(if is_map { Item::Map(parts.len()) } else { Item::Seq(parts.len()) });
                for held in parts {
                    writer.sink.put(Item::Element);
                    writer.sink.append(&held.bytes);
                }
                writer.sink.put(Item::End);
            }
            Kind::Moment(parts) => finish_moment(writer, &parts),
        }
        Ok(())
    }
}

fn finish_moment(writer: &mut Writer<'_>, parts: &[(Buffer, Option<Int>)]) {
    let int = |at: usize| parts.get(at).and_then(|(_, int)| *int);
    let value = |at: usize| int(at).and_then(|int| i64::try_from(int.bits as i128).ok());
    let in_utc = || {
        let mut numbers = [0; MOMENT];
        for (at, number) in numbers.iter_mut().enumerate() {
            *number = value(at)?;
        }
        moment::in_numbers(numbers)
    };
    let in_utc = in_utc();
    if in_utc.is_some() {
        writer.note(Rewrite::Moment);
    }
    writer.sink.put(Item::Tuple(parts.len()));
    match in_utc.filter(|_| writer.plans(Rewrite::Moment)) {
        Some(numbers) => {
            for (at, number) in numbers.into_iter().enumerate() {
                if let Some(int) = int(at) {
                    writer.sink.put(Item::Int(Int { bits: i128::from(number) as u128, ..int }));
                }
            }
        }
        None => parts.iter().for_each(|(bytes, _)| writer.sink.append(bytes)),
    }
}

macro_rules! compounds {
    ($($kind:ident::$method:ident),+) => {$(
        impl ser::$kind for Compound<'_, '_> {
            type Ok = ();
            type Error = Refusal;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refusal> {
                self.field(value)
            }

            fn end(self) -> Result<(), Refusal> {
                self.finish()
            }
        }
    )+};
}

compounds!(
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

macro_rules! structs {
    ($($kind:ident),+) => {$(
        impl ser::$kind for Compound<'_, '_> {
            type Ok = ();
            type Error = Refusal;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Refusal> {
                self.writer.sink.put(Item::Field(name));
                self.field(value)
            }

            fn end(self) -> Result<(), Refusal> {
                self.finish()
            }
        }
    )+};
}

structs!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeSeq for Compound<'_, '_> {
    type Ok = ();
    type Error = Refusal;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refusal> {
        self.element(Step::Element, value)
    }

    fn end(self) -> Result<(), Refusal> {
        self.finish()
    }
}

impl ser::SerializeMap for Compound<'_, '_> {
    type Ok = ();
    type Error = Refusal;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refusal> {
        self.element(Step::MapKey, key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refusal> {
        self.element(Step::MapValue, value)
    }

    fn end(self) -> Result<(), Refusal> {
        self.finish()
    }
}
