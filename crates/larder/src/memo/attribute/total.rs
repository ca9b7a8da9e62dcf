//! Floats as keys.

use std::fmt;

#[cfg(feature = "_codec")]
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A float that is compared as `total_cmp` does: equal where the bits are
/// equal. So `NaN` equals itself, and `0.0` differs from `-0.0`.
///
/// It is encoded as its bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Total<F: Float>(F::Bits);

/// `f32` and `f64`.
pub trait Float: Copy + fmt::Debug {
    /// An integer of the same size.
    type Bits: Copy + Eq + std::hash::Hash + fmt::Debug + Send + Sync + 'static;

    #[doc(hidden)]
    fn bits(self) -> Self::Bits;
    #[doc(hidden)]
    fn of_bits(bits: Self::Bits) -> Self;
}

macro_rules! floats {
    ($($float:ty: $bits:ty,)+) => {$(
        impl Float for $float {
            type Bits = $bits;

            fn bits(self) -> $bits {
                self.to_bits()
            }

            fn of_bits(bits: $bits) -> Self {
                Self::from_bits(bits)
            }
        }
    )+};
}

floats! {
    f32: u32,
    f64: u64,
}

impl<F: Float> Total<F> {
    /// Wraps a float.
    pub fn of(float: F) -> Self {
        Self(float.bits())
    }

    /// The float.
    pub fn get(self) -> F {
        F::of_bits(self.0)
    }
}

impl<F: Float> fmt::Debug for Total<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(feature = "_codec")]
impl<F: Float<Bits: Serialize>> Serialize for Total<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

#[cfg(feature = "_codec")]
impl<'de, F: Float<Bits: Deserialize<'de>>> Deserialize<'de> for Total<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        F::Bits::deserialize(deserializer).map(Self)
    }
}
