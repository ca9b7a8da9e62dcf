//! Calls without a future, of tiers that block.

use bytes::Bytes;

use crate::Result;
use crate::frame::Frame;
use crate::key::EncodedKey;

/// A tier that answers on the calling thread, without a future.
///
/// The futures of a tier that blocks do all their work in the first poll. A caller that may block saves their
/// allocations with these methods.
///
/// # Behavior
/// - Each method does the same as its namesake of [`Tier`](super::Tier).
/// - The [`Capability`](super::Capability) of the tier says that it blocks.
pub trait BlockingTier: Send + Sync + 'static {
    /// As [`Tier::get`](super::Tier::get).
    fn get_blocking(&self, key: &EncodedKey) -> Result<Option<Bytes>>;

    /// As [`Tier::put`](super::Tier::put).
    fn put_blocking(&self, key: &EncodedKey, frame: &Frame) -> Result<()>;

    /// As [`Tier::remove`](super::Tier::remove).
    fn remove_blocking(&self, key: &EncodedKey) -> Result<bool>;
}
