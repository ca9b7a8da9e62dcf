//! Files in the directory of a cache that its next build reads.

use std::path::Path;

use larder_core::place::LearnedFile;
use larder_engine::WarmRestart;

/// The list of the hottest keys, if the cache has a directory of its own.
#[cfg(any(feature = "disk", feature = "file"))]
pub(crate) fn warm_restart(dir: Option<&Path>, keys_max: usize) -> Option<WarmRestart> {
    let dir = dir.filter(|_| keys_max > 0)?;
    Some(WarmRestart { list: Box::new(larder_tiers::FileHotKeys::new(dir)), keys_max })
}

/// Where what the selector learns is kept, if the cache has a directory of its own.
#[cfg(any(feature = "disk", feature = "file"))]
pub(crate) fn learned(dir: Option<&Path>) -> Option<Box<dyn LearnedFile>> {
    Some(Box::new(larder_tiers::FileLearned::new(dir?)))
}

#[cfg(not(any(feature = "disk", feature = "file")))]
pub(crate) fn learned(_: Option<&Path>) -> Option<Box<dyn LearnedFile>> {
    None
}

/// No directory with Redis alone.
#[cfg(not(any(feature = "disk", feature = "file")))]
pub(crate) fn warm_restart(_: Option<&Path>, _: usize) -> Option<WarmRestart> {
    None
}
