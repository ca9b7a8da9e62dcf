//! Segments: files of large frames that rows point to.

pub(in crate::disk) mod file;
pub(in crate::disk) mod files;
