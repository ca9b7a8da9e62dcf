//! The databases of small rows: the newest takes writes, the others are frozen.

pub(in crate::disk) mod database;
pub(in crate::disk) mod databases;
