//! Reading the head of a frame without its payload.

use larder_core::frame::{FrameError, Head};

use crate::disk::row::Pointer;
use crate::disk::segment::files::Segments;

/// Most heads fit here: the fixed part, the key and a few tags.
const PREFIX_BYTES: u64 = 4 << 10;

/// Calls `visit` with the first bytes of a record, its whole head among them.
/// What cannot be read, or is no frame, is passed over.
pub(in crate::disk) fn visit(segments: &Segments, pointer: Pointer, visit: &mut (dyn FnMut(&[u8]) + Send)) {
    let mut bytes = PREFIX_BYTES;
    while let Ok(Some(prefix)) = segments.peek(pointer, bytes) {
        match Head::parse(&prefix) {
            Ok(_) => return visit(&prefix),
            Err(FrameError::Truncated) if bytes < pointer.len => bytes = bytes.saturating_mul(8),
            Err(_) => return,
        }
    }
}
