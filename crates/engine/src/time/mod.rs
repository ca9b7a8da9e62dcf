//! Time: the clock of a cache, and the expiry of its entries.

pub(crate) mod expiry;
pub(crate) mod record_lifetimes;
pub(crate) mod restart;
pub(crate) mod timeline;
