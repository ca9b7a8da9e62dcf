//! Reads the head of a frame in a segment without its payload.

use larder_core::frame::{FrameError, Head};

use crate::disk::row::Pointer;
use crate::disk::segment::files::Segments;

/// First read of a head, in bytes: enough for the fixed part, the key and a few tags.
const PREFIX_BYTES: u64 = 4 << 10;

/// Calls `visit` with the first bytes of a frame, including its whole head. Skips frames that
/// cannot be read.
pub(in crate::disk) fn visit_head(
    segments: &Segments,
    pointer: Pointer,
    visit: &mut (dyn FnMut(&[u8]) + Send),
) {
    let mut bytes = PREFIX_BYTES;
    while let Ok(Some(prefix)) = segments.peek(pointer, bytes) {
        match Head::parse(&prefix) {
            Ok(_) => return visit(&prefix),
            Err(FrameError::Truncated) if bytes < pointer.len => bytes = bytes.saturating_mul(8),
            Err(_) => return,
        }
    }
}
