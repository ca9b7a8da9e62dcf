//! Seals what leaves the process: frames, keys, tags.
//!
//! [`SealedTier`] is a tier around a tier. The engine sees its own keys and frames; the inner tier sees
//! names that tell nothing, and frames of the same format whose content is sealed. `docs/sealing.md` has the
//! threat model, `docs/format.md` the bytes.

mod bus;
mod cache_keys;
mod derive;
mod frame;
mod hot_keys;
mod keys;
mod log;
mod medium;
mod segments;
mod short;
mod tier;
mod upload;

pub use bus::{SealedBus, SealedInvalidations};
pub use cache_keys::CacheKeys;
pub use hot_keys::SealedHotKeys;
pub use keys::{KeyId, Keys, SealingKey};
pub use log::SealedLog;
pub use tier::SealedTier;
