//! The journal: changes that are in no sorted run yet.

pub(in crate::disk) mod record;
pub(in crate::disk) mod replay;
pub(in crate::disk) mod writer;
