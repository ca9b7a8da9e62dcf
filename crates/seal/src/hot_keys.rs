//! The list of the hottest keys, sealed.

use std::sync::Arc;

use larder_core::Result;
use larder_core::hot_keys::HotKeyList;

use crate::cache_keys::CacheKeys;
use crate::short::ShortKeys;

/// A list of keys each of which is sealed. Keys that do not authenticate are left out.
pub struct SealedHotKeys {
    list: Box<dyn HotKeyList>,
    keys: Arc<ShortKeys>,
}

impl SealedHotKeys {
    /// Seals the keys of `list`.
    pub fn new(list: Box<dyn HotKeyList>, keys: &CacheKeys) -> Self {
        Self { list, keys: Arc::clone(keys.short()) }
    }
}

impl HotKeyList for SealedHotKeys {
    fn write(&self, keys: &[Box<[u8]>]) -> Result<()> {
        let sealed = keys.iter().filter_map(|key| self.keys.seal(key));
        self.list.write(&sealed.map(Vec::into_boxed_slice).collect::<Vec<_>>())
    }

    fn read(&self) -> Vec<Box<[u8]>> {
        let sealed = self.list.read();
        sealed.iter().filter_map(|key| self.keys.open(key)).map(Vec::into_boxed_slice).collect()
    }
}
