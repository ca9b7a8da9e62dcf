//! A tier of one's own: entries in a table of SQLite.

use std::path::Path;

use larder::{BoxFuture, Bytes, Capability, EncodedKey, Error, ErrorKind};
use larder::{Frame, Result, Tier, TierKind, Usage};
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OptionalExtension};

/// A tier over one table: the encoded key, and the frame as Larder gives it.
pub struct SqliteTier {
    kind: TierKind,
    /// The database and what it holds; `None` once the tier is closed.
    open: Mutex<Option<(Connection, Usage)>>,
}

impl SqliteTier {
    /// Opens the database at `path`, or creates it. It takes at most about `bytes_max` bytes.
    pub fn open(path: impl AsRef<Path>, bytes_max: u64) -> Result<Self> {
        let kind = TierKind::own("sqlite")?;
        let open = || {
            let db = Connection::open(path)?;
            db.execute_batch(&format!(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA max_page_count = {};
                 CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, frame BLOB NOT NULL)",
                bytes_max / 4096
            ))?;
            let sql = "SELECT count(*), ifnull(sum(length(frame)), 0) FROM entries";
            let (entries, bytes) = db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok((db, Usage { entries, bytes, evictions: 0 }))
        };
        Ok(Self { kind, open: Mutex::new(Some(open().map_err(|error| failed(kind, error))?)) })
    }

    /// Works with the database on the polling thread, as a tier does that declares itself `blocking`.
    fn with<'a, T: Send + 'a>(
        &'a self,
        work: impl FnOnce(&Connection, &mut Usage) -> rusqlite::Result<T> + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        Box::pin(async move {
            match &mut *self.open.lock() {
                Some((db, usage)) => work(db, usage).map_err(|error| failed(self.kind, error)),
                None => Err(Error::new(ErrorKind::Closed, "the tier is closed").in_tier(self.kind)),
            }
        })
    }
}

fn failed(kind: TierKind, error: rusqlite::Error) -> Error {
    let code = error.sqlite_error_code();
    let means = if code == Some(ErrorCode::DiskFull) { ErrorKind::Full } else { ErrorKind::Io };
    Error::new(means, error.to_string()).in_tier(kind).with_source(error)
}

fn remove(db: &Connection, usage: &mut Usage, key: &EncodedKey) -> rusqlite::Result<bool> {
    let mut delete = db.prepare_cached("DELETE FROM entries WHERE key = ? RETURNING length(frame)")?;
    let len: Option<u64> = delete.query_row([key.as_bytes()], |row| row.get(0)).optional()?;
    (usage.entries, usage.bytes) = (usage.entries - u64::from(len.is_some()), usage.bytes - len.unwrap_or(0));
    Ok(len.is_some())
}

impl Tier for SqliteTier {
    fn kind(&self) -> TierKind {
        self.kind
    }
    fn capability(&self) -> Capability {
        let (persistent, frame_bytes_max) = (true, 256 << 20);
        Capability { stores: true, persistent, shared: false, blocking: true, frame_bytes_max }
    }
    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.with(move |db, _| {
            let mut select = db.prepare_cached("SELECT frame FROM entries WHERE key = ?")?;
            let frame: Option<Vec<u8>> = select.query_row([key.as_bytes()], |row| row.get(0)).optional()?;
            Ok(frame.map(Bytes::from))
        })
    }
    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        self.with(move |db, usage| {
            let (transaction, frame, mut next) = (db.unchecked_transaction()?, frame.to_vec(), *usage);
            remove(&transaction, &mut next, key)?;
            transaction.execute("INSERT INTO entries VALUES (?, ?)", (key.as_bytes(), &frame))?;
            next.entries += 1;
            next.bytes += frame.len() as u64;
            transaction.commit().map(|()| *usage = next)
        })
    }
    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        self.with(move |db, usage| remove(db, usage, key))
    }
    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        self.with(|db, usage| db.execute("DELETE FROM entries", []).map(|_| *usage = Usage::default()))
    }
    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        self.with(move |db, _| {
            let mut select = db.prepare("SELECT frame FROM entries")?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                visit(row.get_ref(0)?.as_blob()?);
            }
            Ok(())
        })
    }
    fn usage(&self) -> Usage {
        self.open.lock().as_ref().map_or(Usage::default(), |(_, usage)| *usage)
    }
    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        self.with(|_, _| Ok(()))
    }
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(drop(self.open.lock().take())) })
    }
}
