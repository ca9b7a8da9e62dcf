//! Frames that are read and written in parts, because their payload is too
//! large to hold.
//!
//! A payload is cut into chunks of [`CHUNK_LEN`] bytes, and no byte of a chunk
//! is handed out before the whole chunk was compared with its sum. A frame
//! that was written as a stream carries these sums behind its payload, so it
//! opens at the cost of reading them. For any other frame they are made by one
//! pass over the payload, which verifies it on the way.

mod open;
mod sums;
#[cfg(feature = "zstd")]
mod unpacked;
mod value;
mod verified;

use std::fmt;
use std::io::{Read, Seek};

pub use open::{Parts, open};
pub use sums::{CHUNK_LEN, Summing, Sums};
pub use value::{ByteValue, unpack};
pub use verified::Verified;

/// What can be read and sought in, and sent to another thread.
pub trait Medium: Read + Seek + Send {}

impl<T: Read + Seek + Send> Medium for T {}

/// A frame as it lies on its medium, to be read in parts.
///
/// It stays what it was when it was opened, whatever happens to its entry.
pub struct Stored {
    /// The bytes of the frame, from its first one.
    pub medium: Box<dyn Medium>,
    /// How many there are.
    pub len: u64,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("len", &self.len).finish_non_exhaustive()
    }
}
