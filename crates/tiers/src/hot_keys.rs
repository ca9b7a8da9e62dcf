//! The hottest keys of a cache, in one file of its directory. `docs/format.md` specifies its bytes.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::private_file;
use larder_core::Result;
use larder_core::hot_keys::HotKeyList;
use xxhash_rust::xxh3::xxh3_64;

const NAME: &str = "hot";
const MAGIC: &[u8; 4] = b"LRDH";
const VERSION: u8 = 1;
/// Magic and version, with three bytes of padding.
const HEAD: usize = 8;
const SUM: usize = 8;
/// The largest file that is written and read, in bytes.
const BYTES_MAX: usize = 16 << 20;

/// The list of the hottest keys in the file `hot` of a directory.
#[derive(Debug)]
pub struct FileHotKeys {
    path: PathBuf,
}

impl FileHotKeys {
    /// The list in `dir`. Opens nothing.
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join(NAME) }
    }
}

impl HotKeyList for FileHotKeys {
    fn write(&self, keys: &[Box<[u8]>]) -> Result<()> {
        let next = self.path.with_extension("next");
        private_file::create(&next)?.write_all(&encoded(keys))?;
        fs::rename(&next, &self.path)?;
        Ok(())
    }

    fn read(&self) -> Vec<Box<[u8]>> {
        let Ok(file) = fs::File::open(&self.path) else { return Vec::new() };
        let mut bytes = Vec::new();
        match file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes) {
            Ok(_) => decoded(&bytes).unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }
}

/// Encodes as many keys as fit, from the hottest on.
fn encoded(keys: &[Box<[u8]>]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend([VERSION, 0, 0, 0]);
    for key in keys {
        let Ok(len) = u32::try_from(key.len()) else { continue };
        if bytes.len() + 4 + key.len() + SUM > BYTES_MAX {
            break;
        }
        bytes.extend(len.to_le_bytes());
        bytes.extend(&**key);
    }
    let sum = xxh3_64(&bytes);
    bytes.extend(sum.to_le_bytes());
    bytes
}

fn decoded(bytes: &[u8]) -> Option<Vec<Box<[u8]>>> {
    let (content, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM)?)?;
    let (head, mut rest) = content.split_at_checked(HEAD)?;
    if bytes.len() > BYTES_MAX || head != [MAGIC.as_slice(), &[VERSION, 0, 0, 0]].concat() {
        return None;
    }
    if xxh3_64(content).to_le_bytes() != sum {
        return None;
    }
    let mut keys = Vec::new();
    while !rest.is_empty() {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let (key, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
        keys.push(key.into());
        rest = after;
    }
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<Box<[u8]>> {
        vec![b"one".as_slice().into(), [].into(), vec![7; 1_000].into()]
    }

    #[test]
    fn list_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let list = FileHotKeys::new(dir.path());
        assert!(list.read().is_empty(), "there is none");
        list.write(&keys()).unwrap();
        assert_eq!(list.read(), keys());
        list.write(&[]).unwrap();
        assert!(list.read().is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no file is left beside it");
    }

    #[test]
    fn damaged_list_is_empty() {
        let bytes = encoded(&keys());
        assert_eq!(decoded(&bytes), Some(keys()));
        for at in 0..bytes.len() {
            assert_eq!(decoded(&bytes[..at]), None, "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_eq!(decoded(&flipped), None, "flipped at {at}");
        }
    }

    #[test]
    fn list_takes_bounded_room() {
        let many: Vec<Box<[u8]>> = (0..20).map(|_| vec![1; 1 << 20].into()).collect();
        let bytes = encoded(&many);
        assert!(bytes.len() <= BYTES_MAX);
        assert_eq!(decoded(&bytes).unwrap().len(), 15, "the hottest ones");
    }
}
