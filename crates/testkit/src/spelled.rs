//! Keys that are equal and encoded differently.

use std::hash::{Hash, Hasher};

use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// A number with one of several spellings, which equality ignores. A codec can detect
/// that and leave the spelling out.
///
/// ```
/// use larder_testkit::Spelled;
///
/// let mut rng = fastrand::Rng::with_seed(1);
/// assert_eq!(Spelled::random(7, &mut rng), Spelled::random(7, &mut rng));
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spelled {
    number: u64,
    spelling: String,
}

impl Spelled {
    /// Returns the key of this number, in a random spelling.
    pub fn random(number: u64, rng: &mut Rng) -> Self {
        Self { number, spelling: format!("spelling {}", rng.u8(0..4)) }
    }
}

impl PartialEq for Spelled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Spelled {}

impl Hash for Spelled {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

/// A number that is compared after a division. A codec cannot know the divisor.
///
/// ```
/// use larder_testkit::Rounded;
///
/// let mut rng = fastrand::Rng::with_seed(1);
/// assert_eq!(Rounded::random(7, &mut rng), Rounded::random(7, &mut rng));
/// assert_eq!(Rounded::random(7, &mut rng).lowest(), Rounded::random(7, &mut rng).lowest());
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rounded(u64);

impl Rounded {
    const STEP: u64 = 4;

    /// Returns a key that is equal to all others of this number.
    pub fn random(number: u64, rng: &mut Rng) -> Self {
        Self(number * Self::STEP + rng.u64(0..Self::STEP))
    }

    /// Returns the lowest key that is equal to this one: the canonical form.
    #[must_use]
    pub fn lowest(&self) -> Self {
        Self(self.0 - self.0 % Self::STEP)
    }
}

impl PartialEq for Rounded {
    fn eq(&self, other: &Self) -> bool {
        self.0 / Self::STEP == other.0 / Self::STEP
    }
}

impl Eq for Rounded {}

impl Hash for Rounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0 / Self::STEP).hash(state);
    }
}
