//! Makes room: eviction within the budget, relief of a full medium, and the release of what was deleted.

pub(in crate::disk) mod deferred;
pub(in crate::disk) mod eviction;
pub(in crate::disk) mod relief;
