//! The keys that memory held when a cache was closed.

use crate::Result;

/// A list of encoded keys that outlives the process, the hottest first.
///
/// It holds keys alone: a value is read again from the tier that is its home, so an outdated list costs
/// reads, and never shows an outdated value.
///
/// # Behavior
/// - A list that cannot be read, or that is damaged, counts as empty.
pub trait HotKeyList: Send + Sync + 'static {
    /// Replaces the list.
    fn write(&self, keys: &[Box<[u8]>]) -> Result<()>;

    /// Reads the list.
    fn read(&self) -> Vec<Box<[u8]>>;
}
