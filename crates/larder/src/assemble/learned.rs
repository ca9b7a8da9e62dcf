//! What a selector has learned, in the directory of a cache.

use std::path::Path;

use larder_core::place::LearnedFile;

/// Where what the selector learns is kept, if the cache has a directory of its own.
#[cfg(any(feature = "disk", feature = "file"))]
pub(crate) fn learned(dir: Option<&Path>) -> Option<Box<dyn LearnedFile>> {
    Some(Box::new(larder_tiers::FileLearned::new(dir?)))
}

/// No directory with Redis alone.
#[cfg(not(any(feature = "disk", feature = "file")))]
pub(crate) fn learned(_: Option<&Path>) -> Option<Box<dyn LearnedFile>> {
    None
}
