//! Frames that are read and written in parts, because their payload is too large for memory.
//!
//! A payload is divided into chunks of [`CHUNK_LEN`] bytes. No byte of a chunk is returned before the whole
//! chunk was verified with its checksum. A frame that was written as a stream has these checksums after its
//! payload, so opening it costs reading them. For other frames, opening computes the checksums in one pass
//! over the payload, which verifies it.

mod open;
mod sums;
#[cfg(feature = "zstd")]
mod unpacked;
mod value;
mod verified;

use std::fmt;
use std::io::{Read, Seek};

pub use open::{OpenedParts, open};
pub use sums::{CHUNK_LEN, Summing, Sums};
pub use value::{ByteValue, unpack};
pub use verified::Verified;

/// A reader with seek that can be sent to another thread.
pub trait Medium: Read + Seek + Send {}

impl<T: Read + Seek + Send> Medium for T {}

/// A stored frame, to be read in parts.
///
/// It stays unchanged after it was opened, whatever happens to its entry.
pub struct Stored {
    /// The bytes of the frame, from the first one.
    pub medium: Box<dyn Medium>,
    /// The length of the frame in bytes.
    pub len: u64,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("len", &self.len).finish_non_exhaustive()
    }
}
