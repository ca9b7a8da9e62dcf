//! A process-wide table from types to kinds of value.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use once_cell::sync::Lazy;
use parking_lot::RwLock;

use crate::place::Kind;

static KINDS: Lazy<RwLock<HashMap<TypeId, Kind>>> = Lazy::new(|| RwLock::new(known()));

/// The kind of `T`: the registered one, the built-in one, or [`Kind::Other`].
///
/// ```
/// use larder_core::{kinds, place::Kind};
///
/// struct Thumbnail(Vec<u8>);
/// assert_eq!(kinds::of::<Vec<f64>>(), Kind::Array);
/// assert_eq!(kinds::of::<Thumbnail>(), Kind::Other);
///
/// kinds::register::<Thumbnail>(Kind::Image);
/// assert_eq!(kinds::of::<Thumbnail>(), Kind::Image);
/// ```
pub fn of<T: 'static>() -> Kind {
    KINDS.read().get(&TypeId::of::<T>()).copied().unwrap_or(Kind::Other)
}

/// Registers the kind of `T`, for caches built from now on. Process-wide; the last call for a type takes
/// effect.
pub fn register<T: 'static>(kind: Kind) {
    KINDS.write().insert(TypeId::of::<T>(), kind);
}

macro_rules! table {
    ($map:ident: $($kind:ident: $($known:ty),+;)+) => {
        $($($map.insert(TypeId::of::<$known>(), Kind::$kind);)+)+
    };
}

macro_rules! numbers {
    ($map:ident: $($number:ty),+) => {$(
        $map.insert(TypeId::of::<$number>(), Kind::Scalar);
        $map.insert(TypeId::of::<Option<$number>>(), Kind::Scalar);
        $map.insert(TypeId::of::<Vec<$number>>(), Kind::Array);
        $map.insert(TypeId::of::<Arc<[$number]>>(), Kind::Array);
        $map.insert(TypeId::of::<Arc<Vec<$number>>>(), Kind::Array);
    )+};
}

#[cfg(feature = "ndarray")]
fn arrays(map: &mut HashMap<TypeId, Kind>) {
    use ndarray::{ArcArray, Array, Ix0, Ix1, Ix2, Ix3, Ix4, Ix5, Ix6, IxDyn};
    macro_rules! arrays {
        ($($number:ty),+) => {$(
            arrays!(@ $number: Ix0, Ix1, Ix2, Ix3, Ix4, Ix5, Ix6, IxDyn);
        )+};
        (@ $number:ty: $($dimension:ty),+) => {$(
            map.insert(TypeId::of::<Array<$number, $dimension>>(), Kind::Array);
            map.insert(TypeId::of::<ArcArray<$number, $dimension>>(), Kind::Array);
            map.insert(TypeId::of::<Arc<Array<$number, $dimension>>>(), Kind::Array);
        )+};
    }
    arrays!(bool, u8, u16, u32, u64, u128, i8, i16, i32, i64, i128, f32, f64);
}

fn known() -> HashMap<TypeId, Kind> {
    let mut map = HashMap::new();
    numbers!(map: u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64);
    table!(map:
        Scalar: (), bool, char, Option<bool>, Option<char>;
        Text: String, Box<str>, Arc<str>, Arc<String>, Option<String>;
        Bytes: Vec<u8>, Box<[u8]>, Arc<[u8]>, Arc<Vec<u8>>, Bytes;
    );
    #[cfg(feature = "json")]
    table!(map: Json: serde_json::Value, Arc<serde_json::Value>;);
    #[cfg(feature = "image")]
    table!(map: Image: crate::natural::Image;);
    #[cfg(feature = "arrow")]
    table!(map: Frame: crate::natural::Frame;);
    #[cfg(feature = "ndarray")]
    arrays(&mut map);
    map
}
