//! Changes of many entries at once.

use std::hash::Hash;

use larder_core::Result;
use larder_core::entry_meta::Tag;

use crate::Cache;

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Expires every entry with this tag in every tier, and the loads in progress. The cost does not depend
    /// on the number of entries: no entry is visited, so this cannot return how many there were.
    /// [`keys_by_tag`](Self::keys_by_tag) finds them, by a scan.
    ///
    /// # Errors
    /// - If the invalidation could not be persisted: it applies to this cache all the same, and the next
    ///   cache over the same directory starts empty.
    /// - [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) while Redis is unreachable: it applies to
    ///   this node now, and to the other nodes once Redis is back.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a directory that processes share:
    ///   nothing is invalidated.
    pub fn invalidate_tag(&self, tag: impl Into<Tag>) -> Result<()> {
        self.invalidate_tags([tag])
    }

    /// Expires every entry with at least one of these tags, in one step.
    ///
    /// # Errors
    /// See [`invalidate_tag`](Self::invalidate_tag).
    pub fn invalidate_tags<T: Into<Tag>>(&self, tags: impl IntoIterator<Item = T>) -> Result<()> {
        let tags = tags.into_iter().map(Into::into).collect();
        self.inner.threads().invalidate_tags(tags)
    }

    /// Expires every entry in every tier, and the loads in progress. Expired entries may still serve as
    /// stale; [`clear`](Self::clear) removes them.
    ///
    /// # Errors
    /// See [`invalidate_tag`](Self::invalidate_tag).
    pub fn invalidate_all(&self) -> Result<()> {
        self.inner.threads().invalidate_all()
    }

    /// Removes every entry from every tier. Costs a pass over the entries in memory, on this thread: 0.1 to 2 s
    /// for a million of them, by their size. Before this returns, their keys and values are dropped.
    /// [`invalidate_all`](Self::invalidate_all) costs the same whatever the number of entries; memory frees
    /// them later, when it finds them or needs room. A clone of this handle may clear on another thread.
    ///
    /// # Errors
    /// If a tier failed. Nothing is served from that tier until it is cleared; the cache tries that again by
    /// itself.
    #[doc(alias = "purge")]
    pub fn clear(&self) -> Result<()> {
        self.inner.threads().clear()
    }
}
