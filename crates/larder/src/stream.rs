//! Streaming access to large values, for caches of bytes.

use std::hash::Hash;
use std::io::Read;

use larder_core::Bytes;
use larder_core::Result;
use larder_core::erased::{Borrowed, Key, Value};
use larder_core::key::Lookup;
use larder_core::place::Placement;
use larder_core::stream::ByteValue;
use larder_engine::{EntryReader, StreamSource};

use crate::Cache;
use crate::typed::typed;

/// Makes a value of the engine from bytes.
fn value_of<V: ByteValue + Send + Sync + 'static>(bytes: Bytes) -> Value {
    Value::new(V::from_bytes(bytes))
}

/// Extracts the bytes of a value of the engine.
fn bytes_of<V: ByteValue + Clone + Send + Sync + 'static>(value: Value) -> Bytes {
    typed::<V>(value).into_bytes()
}

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: ByteValue + Clone + Send + Sync + 'static,
{
    /// Stores the bytes that `source` yields under `key`, replaces the former entry, and returns where the
    /// entry was stored.
    ///
    /// A value below 4 MiB is written like any other. A larger one is streamed to a file, uncompressed, with
    /// about 5 MiB of memory. It counts towards the disk budget from its first byte. The former entry stays
    /// readable until the last byte is written; the write takes effect then. Of concurrent writes the one
    /// that ends last wins.
    ///
    /// # Errors
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io) if `source` fails: nothing changes, and the former entry is
    ///   still readable.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a value of 4 MiB or more if the cache
    ///   has no files: `mcache` and `bcache`. The same if it has `ttl_by`: that function needs the value, and no
    ///   more than 4 MiB of it are in memory. The former entry is removed.
    /// - [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) or [`ErrorKind::Full`](crate::ErrorKind::Full)
    ///   beyond the disk budget. The former entry is unchanged, but other entries may have been evicted.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # #[cfg(feature = "file")] {
    /// use std::io::{Read, Seek, SeekFrom, repeat};
    ///
    /// let films = larder::fcache::<String, larder::Bytes>("films").dir(dir.path()).build()?;
    /// films.insert_from("nosferatu".to_owned(), repeat(7).take(20 << 20))?;
    ///
    /// let mut film = films.open("nosferatu")?.expect("it was just stored");
    /// let mut frame = [0; 4096];
    /// film.seek(SeekFrom::Start(10 << 20))?;
    /// film.read_exact(&mut frame)?;
    /// assert_eq!((frame, film.len()), ([7; 4096], 20 << 20));
    /// # films.close()?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert_from(&self, key: K, source: impl Read) -> Result<Placement> {
        let mut source = source;
        let source = StreamSource { reader: &mut source as &mut dyn Read, value_of: value_of::<V> };
        self.inner.threads().insert_from(Key::new(key), source)
    }

    /// Opens a reader of the value of `key`; `None` if there is no entry.
    ///
    /// The reader continues on the opened value even if the entry is replaced, removed or evicted meanwhile.
    /// It can read values of every kind of insert. Opening a value of [`insert_from`](Self::insert_from)
    /// reads 4 KiB and 8 bytes for each 256 KiB of the value. Opening a value of 4 MiB or more of an ordinary
    /// insert reads it once, to verify it.
    ///
    /// # Errors
    /// As [`try_get`](Self::try_get).
    pub fn open<Q>(&self, key: &Q) -> Result<Option<EntryReader>>
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        match self.inner.hit(key) {
            Some(value) => Ok(Some(EntryReader::of(value.into_bytes()))),
            None => self.inner.threads().open(&Borrowed::<K, Q>::new(key), bytes_of::<V>),
        }
    }
}

#[cfg(feature = "async")]
mod tasks {
    use larder_engine::OwnedReader;

    use super::{
        Borrowed, ByteValue, EntryReader, Hash, Key, Lookup, Placement, Read, Result, StreamSource, bytes_of,
        value_of,
    };
    use crate::AsyncCache;

    impl<K, V> AsyncCache<K, V>
    where
        K: Hash + Eq + Send + Sync + 'static,
        V: ByteValue + Clone + Send + Sync + 'static,
    {
        /// Stores the bytes that `source` yields under `key`; see
        /// [`Cache::insert_from`](crate::Cache::insert_from).
        ///
        /// The source is read on tokio's blocking pool, where the file is written: one hop for the whole
        /// stream. Wrap an `AsyncRead` in `tokio_util::io::SyncIoBridge`. A write that has begun runs to its
        /// end, also if this future is dropped.
        ///
        /// # Errors
        /// The errors of [`Cache::insert_from`](crate::Cache::insert_from).
        pub async fn insert_from(&self, key: K, source: impl Read + Send + 'static) -> Result<Placement> {
            let source = StreamSource { reader: OwnedReader::new(source), value_of: value_of::<V> };
            self.inner.tasks().insert_from_owned(Key::new(key), source).await
        }

        /// Opens a reader of the value of `key`; see [`Cache::open`](crate::Cache::open).
        ///
        /// Opening does not block the executor. Reading does: read on the blocking pool, with
        /// `tokio::task::spawn_blocking`.
        ///
        /// # Errors
        /// The errors of [`Cache::open`](crate::Cache::open).
        pub async fn open<Q>(&self, key: &Q) -> Result<Option<EntryReader>>
        where
            Q: Lookup<K> + Sync + ?Sized,
        {
            match self.inner.hit(key) {
                Some(value) => Ok(Some(EntryReader::of(value.into_bytes()))),
                None => self.inner.tasks().open(&Borrowed::<K, Q>::new(key), bytes_of::<V>).await,
            }
        }
    }
}
