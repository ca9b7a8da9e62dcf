//! What nodes share: compare-and-set, load leases, invalidations, notices.

pub(in crate::redis) mod compare_and_set;
pub(in crate::redis) mod invalidation_log;
pub(in crate::redis) mod lease_renewal;
pub(in crate::redis) mod leases;
pub(in crate::redis) mod notices;
