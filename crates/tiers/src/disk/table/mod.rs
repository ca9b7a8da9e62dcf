//! The rows of a tier: memtables and sorted runs.

pub(in crate::disk) mod memtable;
pub(in crate::disk) mod old_databases;
pub(in crate::disk) mod tables;
