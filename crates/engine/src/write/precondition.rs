//! Writes that other processes or nodes may overtake, and their preconditions.

use larder_core::frame::{Frame, Head};
use larder_core::key::EncodedKey;
use larder_core::tier::{EntryVersion, PutOptions, RemovalCause};
use larder_core::{Error, ErrorKind, Result};

use crate::tier_stack::tier_handle::TierHandle;

/// What a write requires of the entry in the tier that other processes or nodes change too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// Nothing: the write replaces whatever is there.
    #[default]
    None,
    /// The version that the entry had when the load began.
    Version(EntryVersion),
    /// A version that could not be read. The write is stored only if no other node can have changed
    /// the entry since the load began.
    Unknown,
}

impl Precondition {
    /// Requires the version that was read.
    pub(crate) fn of(version: Option<EntryVersion>) -> Self {
        version.map_or(Self::Unknown, Self::Version)
    }

    /// Whether the write requires anything.
    pub(crate) fn is_some(self) -> bool {
        self != Self::None
    }

    /// Whether the write requires anything of this tier.
    pub(crate) fn applies_to(self, handle: &TierHandle) -> bool {
        self.is_some() && handle.takes_preconditions()
    }

    /// Writes a frame. Returns `false` if a later change by another process or node won.
    pub(crate) async fn put(self, handle: &TierHandle, key: &EncodedKey, frame: &Frame) -> Result<bool> {
        let too_large = too_large(handle, frame);
        if !self.applies_to(handle) {
            return match too_large {
                Some(error) => handle.remove(key).await.and(Err(error)),
                None => handle.put(key, frame).await.map(|()| true),
            };
        }
        let version = match self {
            Self::Version(version) => Some(version),
            _ => version_if_untouched(handle, key, frame).await?,
        };
        let Some(version) = version else { return Ok(false) };
        let Some(error) = too_large else {
            return handle.compare_and_set(key, frame, PutOptions::if_version(version)).await;
        };
        let removed = match handle.is_among_nodes() {
            true => handle.compare_and_remove(key, version, RemovalCause::Requested).await?,
            false => handle.remove(key).await.map(|_| true)?,
        };
        if removed { Err(error) } else { Ok(false) }
    }
}

/// Returns the error for a frame that the tier does not take because of its size.
fn too_large(handle: &TierHandle, frame: &Frame) -> Option<Error> {
    let (len, max) = (frame.len() as u64, handle.inner().capability().frame_bytes_max);
    let message = || format!("the entry has {len} bytes; the tier allows {max}");
    (len > max).then(|| Error::new(ErrorKind::TooLarge, message()).in_tier(handle.kind()).during("put"))
}

/// For a load that began while the tier could not be read: returns the version that the write
/// requires. `None` if another node can have changed the entry since.
async fn version_if_untouched(
    handle: &TierHandle,
    key: &EncodedKey,
    frame: &Frame,
) -> Result<Option<EntryVersion>> {
    if handle.versioned().is_some() {
        return Ok(None);
    }
    let found = handle.get_versioned(key).await?;
    let load_cost = Head::parse(frame.head()).ok().and_then(|head| head.header.load_cost);
    Ok(found.version.filter(|_| handle.is_untouched(&found, load_cost)))
}
