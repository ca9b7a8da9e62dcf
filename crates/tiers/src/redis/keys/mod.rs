//! The keys of Redis that Larder uses, and the epochs of their partitions.

pub(in crate::redis) mod ephemeral_keys;
pub(in crate::redis) mod names;
pub(in crate::redis) mod partition_epochs;
pub(super) mod program_version;
