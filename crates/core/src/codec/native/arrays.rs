//! Arrays of the crate `ndarray`: the axes, then the elements in logical order, little-endian.
//! `docs/format.md` specifies every byte.

use bytes::Bytes;
use ndarray::{ArrayBase, Data, DataOwned, Dimension, OwnedArcRepr, OwnedRepr};
use ndarray::{Ix0, Ix1, Ix2, Ix3, Ix4, Ix5, Ix6, IxDyn};

use super::{Native, Offer};
use crate::frame::CodecId;
use crate::{Error, ErrorKind, Result};

/// Bytes of the number of axes; `AXIS` is the bytes of an axis.
const COUNT: usize = size_of::<u32>();
const AXIS: usize = size_of::<u64>();

/// An array element of fixed width.
trait Element: Copy + 'static {
    /// Its number in the field `shape` of a frame.
    const SHAPE: u64;
    const WIDTH: usize = size_of::<Self>();

    fn put(self, bytes: &mut Vec<u8>);

    /// Decodes a whole number of elements; `None` if one of them is invalid.
    fn take_all(bytes: &[u8]) -> Option<Vec<Self>>;
}

macro_rules! elements {
    ($($number:ident = $shape:literal),+) => {
        $(impl Element for $number {
            const SHAPE: u64 = $shape;

            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn take_all(bytes: &[u8]) -> Option<Vec<Self>> {
                Some(bytes.as_chunks().0.iter().map(|number| Self::from_le_bytes(*number)).collect())
            }
        })+

        pub(super) fn offer(offer: Offer<'_>) {
            $(dimensions::<$number>(offer);)+
            dimensions::<bool>(offer);
        }
    };
}

with_numbers!(elements, u8 = 12);

impl Element for bool {
    const SHAPE: u64 = 13;

    fn put(self, bytes: &mut Vec<u8>) {
        bytes.push(self.into());
    }

    fn take_all(bytes: &[u8]) -> Option<Vec<Self>> {
        bytes.iter().all(|byte| *byte <= 1).then(|| bytes.iter().map(|byte| *byte == 1).collect())
    }
}

fn dimensions<A: Element>(offer: Offer<'_>) {
    macro_rules! dimensions {
        ($($dimension:ty),+) => {$(
            offer(&mut Some(native::<OwnedRepr<A>, $dimension>()));
            offer(&mut Some(native::<OwnedArcRepr<A>, $dimension>()));
        )+};
    }
    dimensions!(Ix0, Ix1, Ix2, Ix3, Ix4, Ix5, Ix6, IxDyn);
}

fn native<S, D>() -> Native<ArrayBase<S, D>>
where
    S: DataOwned<Elem: Element>,
    D: Dimension,
{
    Native {
        codec: CodecId::Array,
        shape: S::Elem::SHAPE,
        yields: false,
        len: |array| Ok(encoded_len(array) as u64),
        encode: |array| Ok(encode(array)),
        bytes: None,
        decode: |bytes| decode(&bytes),
    }
}

fn encoded_len<S: Data<Elem: Element>, D: Dimension>(array: &ArrayBase<S, D>) -> usize {
    COUNT + array.ndim() * AXIS + array.len() * S::Elem::WIDTH
}

fn encode<S: Data<Elem: Element>, D: Dimension>(array: &ArrayBase<S, D>) -> Bytes {
    let mut bytes = Vec::with_capacity(encoded_len(array));
    bytes.extend_from_slice(&u32::try_from(array.ndim()).unwrap_or(u32::MAX).to_le_bytes());
    array.shape().iter().for_each(|axis| bytes.extend_from_slice(&(*axis as u64).to_le_bytes()));
    match array.as_slice() {
        Some(elements) => elements.iter().for_each(|element| element.put(&mut bytes)),
        // Other layouts are written element by element, in the order of the standard layout.
        None => array.iter().for_each(|element| element.put(&mut bytes)),
    }
    bytes.into()
}

/// Decodes an array. The number of elements must match the axes, so no claimed axis leads to an allocation.
fn decode<S: DataOwned<Elem: Element>, D: Dimension>(bytes: &[u8]) -> Result<ArrayBase<S, D>> {
    let (axes, rest) = axes(bytes).ok_or_else(|| damaged("the axes are truncated"))?;
    let len = axes.iter().try_fold(S::Elem::WIDTH, |len, axis| len.checked_mul(*axis));
    if len != Some(rest.len()) {
        return Err(damaged("the axes do not match the number of elements"));
    }
    let dimension = D::from_dimension(&IxDyn(&axes)).ok_or_else(|| damaged("the number of axes differs"))?;
    let elements = S::Elem::take_all(rest).ok_or_else(|| damaged("an element is invalid"))?;
    ArrayBase::from_shape_vec(dimension, elements).map_err(|error| damaged(&error.to_string()))
}

fn axes(bytes: &[u8]) -> Option<(Vec<usize>, &[u8])> {
    let (count, rest) = bytes.split_at_checked(COUNT)?;
    let count = usize::try_from(u32::from_le_bytes(count.try_into().ok()?)).ok()?;
    let (axes, rest) = rest.split_at_checked(count.checked_mul(AXIS)?)?;
    let axis = |bytes: &[u8]| usize::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok();
    Some((axes.chunks_exact(AXIS).map(axis).collect::<Option<_>>()?, rest))
}

fn damaged(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the payload is not an array of this type: {why}"))
}
