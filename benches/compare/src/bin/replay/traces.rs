//! Traces of block accesses of real systems.
//!
//! They come from Nimrod Megiddo and Dharmendra S. Modha, "ARC: A Self-Tuning, Low Overhead
//! Replacement Cache", USENIX FAST 03, and are not part of this repository. A file is named
//! `NAME.lis.zst`.

use std::path::Path;

use larder::Result;
use larder_simulate::Workload;
use larder_simulate::trace::{TraceOptions, read as read_trace};

pub(crate) const NAMES: [&str; 3] = ["OLTP", "P3", "P6"];

/// Returns whether the folder of the traces exists.
pub(crate) fn are_in(folder: &Path) -> bool {
    folder.is_dir()
}

/// Reads the trace of this name.
///
/// # Errors
/// A file that cannot be read, and a line that cannot be parsed, each with its file.
pub(crate) fn read(folder: &Path, name: &str) -> Result<Workload> {
    read_trace(&folder.join(format!("{name}.lis.zst")), &TraceOptions::default())
}
