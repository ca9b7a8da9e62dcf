//! Sorted runs: immutable files of sorted rows, with an index and a filter.

pub(in crate::disk) mod bitmap;
pub(in crate::disk) mod block;
pub(in crate::disk) mod filter;
pub(in crate::disk) mod index;
pub(in crate::disk) mod merge;
pub(in crate::disk) mod sorted_run;
pub(in crate::disk) mod writer;
