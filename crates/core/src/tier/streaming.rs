//! Frames in parts.

use std::any::Any;
use std::fmt;

use super::BoxFuture;
use crate::key::EncodedKey;
use crate::stream::Stored;
use crate::{Error, ErrorKind, Result};

/// A tier that takes frames in parts, and serves them in parts without reading them whole.
pub trait StreamingTier: Send + Sync + 'static {
    /// Opens the frame of `key` for reading in parts; `None` if there is none.
    ///
    /// # Behavior
    /// - The opened frame stays unchanged while the entry is replaced, removed, evicted or cleared, and after
    ///   the tier is closed.
    /// - Does not read the payload.
    fn open<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Stored>>>;

    /// Begins an upload of a frame for `key` in parts, with room for a head of `head_len` bytes at its front.
    ///
    /// # Behavior
    /// - The former entry stays visible and unchanged until [`publish`](Self::publish).
    fn begin_upload<'a>(&'a self, key: &'a EncodedKey, head_len: usize) -> BoxFuture<'a, Result<Upload>>;

    /// Appends `bytes` to the body of an upload.
    ///
    /// # Behavior
    /// - Fails with `ErrorKind::TooLarge` if the frame would exceed `frame_bytes_max`, and with
    ///   `ErrorKind::Full` if there is no room. The upload is unusable then.
    fn append<'a>(&'a self, upload: &'a mut Upload, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>>;

    /// Writes the head, whose length must be the `head_len` of [`begin_upload`](Self::begin_upload), and
    /// stores the frame under `key` in place of the former entry.
    ///
    /// # Behavior
    /// - From here on the same as [`put`](super::Tier::put).
    fn publish<'a>(
        &'a self,
        key: &'a EncodedKey,
        upload: Upload,
        head: &'a [u8],
    ) -> BoxFuture<'a, Result<()>>;
}

/// A frame that is being written in parts. Readers do not see it, and dropping it leaves nothing behind.
pub struct Upload(Box<dyn Any + Send>);

impl Upload {
    /// Wraps the state that a tier keeps for the upload.
    pub fn new(state: impl Any + Send) -> Self {
        Self(Box::new(state))
    }

    /// The state, for the tier that began the upload.
    pub fn state<T: Any>(&mut self) -> Result<&mut T> {
        self.0.downcast_mut().ok_or_else(foreign)
    }

    /// The state by value, for the tier that began the upload.
    pub fn into_state<T: Any>(self) -> Result<T> {
        self.0.downcast().map(|state| *state).map_err(|_| foreign())
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upload").finish()
    }
}

fn foreign() -> Error {
    Error::new(ErrorKind::Unsupported, "the upload was begun by another tier")
}
