//! Values too large to hold, for caches of bytes.

use std::hash::Hash;
use std::io::Read;

use larder_core::Bytes;
use larder_core::Result;
use larder_core::erased::{Borrowed, Key, Value};
use larder_core::key::Lookup;
use larder_core::place::Placement;
use larder_core::stream::ByteValue;
use larder_engine::{EntryReader, Source};

use crate::Cache;
use crate::typed::typed;

/// The value of these bytes, for the engine.
fn value_of<V: ByteValue + Send + Sync + 'static>(bytes: Bytes) -> Value {
    Value::new(V::from_bytes(bytes))
}

/// The bytes of a value of the engine.
fn bytes_of<V: ByteValue + Clone + Send + Sync + 'static>(value: Value) -> Bytes {
    typed::<V>(value).into_bytes()
}

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: ByteValue + Clone + Send + Sync + 'static,
{
    /// Stores all that `source` gives under `key`, in place of what was there,
    /// and says where the entry went.
    ///
    /// A value below 4 MiB is written like any other. A larger one goes to a
    /// file as it comes in, uncompressed, in about 5 MiB of memory. It takes
    /// room in the budget from its first byte on; the former entry is found
    /// until the last one is written. Then the write counts: a later call wins
    /// over an earlier one by when it ends.
    ///
    /// # Errors
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io) when `source` fails: nothing
    ///   has changed, and the former entry is still there.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a value
    ///   of 4 MiB or more where the cache has no files: `mcache` and `bcache`.
    /// - [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) or
    ///   [`ErrorKind::Full`](crate::ErrorKind::Full) beyond the budget on disk.
    ///   Nothing has changed, but others may have been evicted.
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
        let source = Source { reader: &mut source as &mut dyn Read, value_of: value_of::<V> };
        self.inner.threads().insert_from(Key::new(key), source)
    }

    /// A reader of the value of `key`; `None` when there is none.
    ///
    /// It goes on reading what it opened while the entry is replaced, removed
    /// or evicted. Opens what any insert wrote. Where that was
    /// [`insert_from`](Self::insert_from) it costs reading 4 KiB and 8 bytes
    /// for each 256 KiB of the value; a value of 4 MiB or more that an ordinary
    /// insert wrote is read once, to verify it.
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
        Borrowed, ByteValue, EntryReader, Hash, Key, Lookup, Placement, Read, Result, Source, bytes_of,
        value_of,
    };
    use crate::AsyncCache;

    impl<K, V> AsyncCache<K, V>
    where
        K: Hash + Eq + Send + Sync + 'static,
        V: ByteValue + Clone + Send + Sync + 'static,
    {
        /// Stores all that `source` gives under `key`; see
        /// [`Cache::insert_from`](crate::Cache::insert_from).
        ///
        /// The source is read on tokio's blocking pool, which is where the file
        /// is written: one hop for the whole stream. Wrap an `AsyncRead` in
        /// `tokio_util::io::SyncIoBridge`. Once begun it runs to its end, also
        /// when this future is dropped.
        ///
        /// # Errors
        /// Those of [`Cache::insert_from`](crate::Cache::insert_from).
        pub async fn insert_from(&self, key: K, source: impl Read + Send + 'static) -> Result<Placement> {
            let source = Source { reader: OwnedReader::new(source), value_of: value_of::<V> };
            self.inner.tasks().insert_from_owned(Key::new(key), source).await
        }

        /// A reader of the value of `key`; see [`Cache::open`](crate::Cache::open).
        ///
        /// Opening does not block the executor. Reading does: read on the
        /// blocking pool, with `tokio::task::spawn_blocking`.
        ///
        /// # Errors
        /// Those of [`Cache::open`](crate::Cache::open).
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
