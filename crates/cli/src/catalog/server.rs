//! Caches on a Redis server.

use std::time::Duration;

use larder_tiers::redis::RedisReader;

use super::CacheDirectory;
use crate::exit::Outcome;

/// How long the server may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A cache on a server. `Debug` does not print the URL, which may hold a password.
#[derive(Clone)]
pub(crate) struct ServerCache {
    pub(crate) url: String,
    pub(crate) namespace: String,
}

impl std::fmt::Debug for ServerCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerCache").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// The caches on a server. The namespace takes the place of the program.
pub(super) fn caches(url: &str, namespace: Option<&str>) -> Outcome<Vec<CacheDirectory>> {
    let found = RedisReader::caches(url, namespace, PATIENCE)?;
    let caches = found.into_iter();
    Ok(caches.map(|(namespace, name)| CacheDirectory::new_on_server(url, &namespace, &name)).collect())
}
