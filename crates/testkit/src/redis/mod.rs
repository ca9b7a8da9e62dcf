//! Redis for tests: servers, clusters, sentinels, and a proxy that breaks connections.

pub(crate) mod cluster;
pub(crate) mod proxy;
pub(crate) mod sentinels;
pub(crate) mod server;
