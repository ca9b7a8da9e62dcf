//! The builder's way to look into a directory that another process may have open.

use std::hash::Hash;

use larder_core::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::TieredBuilder;
use crate::Cache;

impl<K, V> TieredBuilder<K, V>
where
    K: Hash + Eq + Serialize + DeserializeOwned + Send + Sync + 'static,
    V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Opens the directory of the cache for reading, also while another process has it open. Takes no lock and
    /// changes nothing there.
    ///
    /// Shows the disk tier as far as the other process has flushed it by now: the tier is copied, so later
    /// changes are not seen. Files are read in place, so the present ones are seen, but entries that are
    /// invalidated after this call are served until their time is over. Nothing is stored beyond memory; a
    /// removal hides its entry from this cache alone.
    ///
    /// Costs a copy of the databases into the directory for temporary files, and the recovery of the copy.
    ///
    /// # Errors
    /// - [`ErrorKind::Config`](crate::ErrorKind::Config) as [`build`](Self::build), and for a cache with Redis or
    ///   tiers of your own.
    /// - [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if there is no directory, or if the next cache
    ///   that opens it would start empty.
    /// - [`ErrorKind::Busy`](crate::ErrorKind::Busy) if the other process writes too fast for a copy.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use larder::bcache;
    ///
    /// let pages = bcache::<u32, String>("pages").dir(dir.path()).build()?;
    /// pages.insert(1, "as another process wrote it".to_owned());
    /// pages.flush()?;
    /// let look = bcache::<u32, String>("pages").dir(dir.path()).open_read_only()?;
    /// assert_eq!(look.get(&1).as_deref(), Some("as another process wrote it"));
    /// # look.close()?;
    /// # pages.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_read_only(mut self) -> Result<Cache<K, V>> {
        self.untyped.is_read_only = true;
        self.build()
    }
}
