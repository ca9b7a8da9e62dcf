//! The journal: changes that are not in a database yet.

pub(in crate::disk) mod record;
pub(in crate::disk) mod replay;
pub(in crate::disk) mod writer;
