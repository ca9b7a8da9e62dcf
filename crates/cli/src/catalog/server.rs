//! Caches on a Redis server.

use std::path::PathBuf;
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
    let cache = |(namespace, name): (String, String)| CacheDirectory {
        path: PathBuf::from(format!("{namespace}:{name}")),
        program: Some(namespace.clone()),
        is_private: false,
        server: Some(ServerCache { url: url.to_owned(), namespace }),
        name,
    };
    Ok(found.into_iter().map(cache).collect())
}
