//! Floats as keys.

use std::fmt;
use std::hash::{Hash, Hasher};

#[cfg(feature = "_codec")]
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A float that is compared and hashed by its bits, as `total_cmp` does: `NaN` equals itself, and `0.0`
/// differs from `-0.0`.
///
/// It is encoded as its bits.
pub struct Total<F: Float>(F::Bits);

// Written by hand: derives would require floats to be `Eq` and `Hash`.
impl<F: Float> Copy for Total<F> {}

impl<F: Float> Clone for Total<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Float> PartialEq for Total<F> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<F: Float> Eq for Total<F> {}

impl<F: Float> Hash for Total<F> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// `f32` and `f64`.
pub trait Float: Copy + fmt::Debug {
    /// An integer of the same size.
    type Bits: Copy + Eq + Hash + fmt::Debug + Send + Sync + 'static;

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

    /// Returns the float.
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
