//! Reads the entries of a cache in Redis, without opening the tier.

use std::collections::HashMap;
use std::time::Duration;

use larder_core::frame::{Frame, FrameError, Head};
use larder_core::invalidation::InvalidationRecord;
use larder_core::key::EncodedKey;
use larder_core::tier::{BoxFuture, Capability, Tier, TierKind, Usage};
use larder_core::{Bytes, Error, ErrorKind, Result};
use parking_lot::Mutex;
use redis::{Connection, FromRedisValue, RedisError, Value};

use crate::redis::connection::address::Target;
use crate::redis::keys::names::{KeyName, KeyNames, PARTITIONS};
use crate::redis::keys::partition_epochs::{EpochRecord, ListedVersion};
use crate::redis::shared::invalidation_log;

/// Bytes of a frame that are read to get its head.
const HEAD_BYTES: isize = 4096;
/// About how many keys a page of a scan has.
const PAGE: usize = 500;

/// The entries of one cache on one server, for reading.
///
/// It sends commands that only read, so it changes nothing: no version is registered, no old entry is swept.
/// [`check`](Self::check) removes damaged entries if it is told to.
/// It shows the entries of every version of the program. Each call blocks until the server answers.
pub struct RedisReader {
    connection: Mutex<Connection>,
    pub(super) names: KeyNames,
}

impl std::fmt::Debug for RedisReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisReader").field("prefix", &self.names.prefix()).finish_non_exhaustive()
    }
}

/// The epoch of a partition, and the versions with entries in it.
type Partition = (u64, Vec<ListedVersion>);

impl RedisReader {
    /// Lists the caches on the server: the namespace and the name of each, in order. Of one namespace, or of
    /// all.
    ///
    /// # Errors
    /// `ErrorKind::Config` for an invalid URL, or one of a cluster, of sentinels or of TLS; `Unavailable` if
    /// the server does not answer within `timeout`.
    pub fn caches(url: &str, namespace: Option<&str>, timeout: Duration) -> Result<Vec<(String, String)>> {
        let mut connection = connect(url, timeout)?;
        let mut found = Vec::new();
        each_page(&mut connection, &KeyNames::caches_pattern(namespace), |_, names| {
            found.extend(names.iter().filter_map(|name| KeyNames::cache_of(name)));
            Ok(())
        })?;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Connects to read one cache.
    ///
    /// # Errors
    /// As [`caches`](Self::caches).
    pub fn open(url: &str, namespace: &str, cache: &str, timeout: Duration) -> Result<Self> {
        let connection = Mutex::new(connect(url, timeout)?);
        Ok(Self { connection, names: KeyNames::new(namespace, cache) })
    }

    /// The versions of the program that are listed as in use, as [`RedisOptions::version`](super::RedisOptions::version)
    /// numbers them.
    ///
    /// # Errors
    /// A server that does not answer.
    pub fn versions(&self) -> Result<Vec<u64>> {
        let partitions = self.partitions(&mut self.connection.lock())?;
        let listed = partitions.into_iter().flatten().flat_map(|(_, versions)| versions);
        let mut versions: Vec<u64> = listed.map(|listed| listed.version).collect();
        versions.sort_unstable();
        versions.dedup();
        Ok(versions)
    }

    /// The invalidations that all nodes share.
    ///
    /// # Errors
    /// A server that does not answer.
    pub fn invalidations(&self) -> Result<Vec<InvalidationRecord>> {
        let [times, members] = self.names.invalidated();
        let mut connection = self.connection.lock();
        let ask =
            |connection: &mut Connection, cmd: redis::Cmd| cmd.query::<Value>(connection).map_err(failed);
        let mut cmd = redis::cmd("ZRANGE");
        cmd.arg(&members).arg(0).arg(-1).arg("WITHSCORES");
        let scores: Vec<(Vec<u8>, String)> = pairs(ask(&mut connection, cmd)?)?;
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(&times);
        let times: HashMap<Vec<u8>, String> = pairs(ask(&mut connection, cmd)?)?.into_iter().collect();
        let record = |(member, stamp): (Vec<u8>, String)| {
            let at = times.get(&member).map_or("0", String::as_str).to_owned();
            invalidation_log::read(member, &stamp, &at)
        };
        scores.into_iter().map(record).collect()
    }

    /// Reads the epoch records of all partitions; `None` for one that is missing or malformed.
    fn partitions(&self, connection: &mut Connection) -> Result<Vec<Option<Partition>>> {
        let mut cmd = redis::cmd("MGET");
        (0..PARTITIONS).for_each(|partition| {
            cmd.arg(self.names.record(partition));
        });
        let records: Vec<Option<Vec<u8>>> = cmd.query(connection).map_err(failed)?;
        Ok(records.into_iter().map(|record| EpochRecord::listed(&record?)).collect())
    }

    fn scan_now(&self, visit: &mut (dyn FnMut(&[u8]) + Send)) -> Result<()> {
        self.each_entry(|connection, name| {
            head(connection, name)?.iter().for_each(|head| visit(head));
            Ok(())
        })
    }

    /// Whether a key has an entry of the present epoch, of a version that is in use.
    fn is_current(&self, name: &[u8], partitions: &[Option<Partition>]) -> bool {
        let Some(KeyName::Entry { partition, epoch, label, .. }) = self.names.read(name) else {
            return false;
        };
        let record = partitions.get(partition).and_then(Option::as_ref);
        record.is_some_and(|(present, versions)| {
            *present == epoch && versions.iter().any(|listed| listed.label == label)
        })
    }

    #[cfg(test)]
    pub(super) fn connection(&self) -> parking_lot::MutexGuard<'_, Connection> {
        self.connection.lock()
    }

    /// Calls `visit` with the name of each present entry, of every version of the program, once.
    pub(super) fn each_entry(
        &self,
        mut visit: impl FnMut(&mut Connection, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut connection = self.connection.lock();
        let partitions = self.partitions(&mut connection)?;
        // Redis may return a key twice.
        let mut seen = std::collections::HashSet::new();
        let pattern = format!("{}*", self.names.prefix());
        each_page(&mut connection, &pattern, |connection, names| {
            let present = names.iter().filter(|name| self.is_current(name, &partitions));
            let mut new = present.filter(|name| seen.insert(EncodedKey::new(name.as_slice()).digest()));
            new.try_for_each(|name| visit(connection, name))
        })
    }

    /// The frame of a key: that of the first version that has one.
    fn get_now(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        let mut connection = self.connection.lock();
        let partitions = self.partitions(&mut connection)?;
        let Some((epoch, versions)) = partitions.into_iter().nth(KeyNames::partition(key)).flatten() else {
            return Ok(None);
        };
        for ListedVersion { label, .. } in versions {
            let record = EpochRecord { epoch, label, ..EpochRecord::default() };
            let found: Option<Vec<u8>> = redis::cmd("GET")
                .arg(self.names.entry(&record, key))
                .query(&mut *connection)
                .map_err(failed)?;
            if let Some(frame) = found {
                return Ok(Some(frame.into()));
            }
        }
        Ok(None)
    }

    fn refuse<'a, T: Send + 'a>(&'a self, operation: &'static str) -> BoxFuture<'a, Result<T>> {
        named(operation, || Err(Error::new(ErrorKind::Unsupported, "the tier is opened for reading")))
    }
}

/// Runs `call` in the first poll, and adds the tier and the operation to an error.
fn named<'a, T: Send + 'a>(
    operation: &'static str,
    call: impl FnOnce() -> Result<T> + Send + 'a,
) -> BoxFuture<'a, Result<T>> {
    Box::pin(async move { call().map_err(|error| error.in_tier(TierKind::Redis).during(operation)) })
}

/// Calls that change something fail with `ErrorKind::Unsupported`.
impl Tier for RedisReader {
    fn kind(&self) -> TierKind {
        TierKind::Redis
    }

    fn capability(&self) -> Capability {
        Capability { stores: false, persistent: true, shared: true, blocking: true, frame_bytes_max: 0 }
    }

    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        named("get", move || self.get_now(key))
    }

    fn put<'a>(&'a self, _: &'a EncodedKey, _: &'a Frame) -> BoxFuture<'a, Result<()>> {
        self.refuse("put")
    }

    fn remove<'a>(&'a self, _: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        self.refuse("remove")
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        self.refuse("clear")
    }

    /// Scans every key of the database, page by page, and reads the first 4 KiB of each entry.
    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        named("scan", move || self.scan_now(visit))
    }

    /// Nothing: counting needs a scan.
    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        named("flush", || Ok(()))
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        named("close", || Ok(()))
    }
}

fn connect(url: &str, timeout: Duration) -> Result<Connection> {
    match Target::parse(url)? {
        Target::Server(address) if !address.is_secure() => {}
        _ => {
            let allowed = "redis://[user:password@]host[:port][/database] or redis+unix:///path";
            return Err(Error::config("redis", "a cluster, sentinels or TLS", allowed));
        }
    }
    let client = redis::Client::open(url).map_err(failed)?;
    let connection = client.get_connection_with_timeout(timeout).map_err(failed)?;
    let limited = connection.set_read_timeout(Some(timeout));
    limited.and_then(|()| connection.set_write_timeout(Some(timeout))).map_err(failed)?;
    Ok(connection)
}

/// Calls `visit` with each page of the keys that match.
fn each_page(
    connection: &mut Connection,
    pattern: &str,
    mut visit: impl FnMut(&mut Connection, &[Vec<u8>]) -> Result<()>,
) -> Result<()> {
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(PAGE);
        let (next, keys): (u64, Vec<Vec<u8>>) = scan.query(connection).map_err(failed)?;
        visit(connection, &keys)?;
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

/// The head of an entry; `None` if it is gone, or no frame.
fn head(connection: &mut Connection, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut range = redis::cmd("GETRANGE");
    range.arg(name).arg(0).arg(HEAD_BYTES - 1);
    let start: Vec<u8> = range.query(connection).map_err(failed)?;
    match Head::parse(&start) {
        Ok(_) => Ok(Some(start)),
        Err(FrameError::Truncated) if start.len() as isize == HEAD_BYTES => {
            redis::cmd("GET").arg(name).query(connection).map_err(failed)
        }
        Err(_) => Ok(None),
    }
}

/// Pairs of a list of alternating members and values, or of a map.
fn pairs(answer: Value) -> Result<Vec<(Vec<u8>, String)>> {
    Vec::from_redis_value(answer).map_err(|error| Error::new(ErrorKind::Io, error.to_string()))
}

/// An error of the server. It never contains the URL, which may hold a password.
pub(super) fn failed(error: RedisError) -> Error {
    let kind = if error.is_io_error() { ErrorKind::Unavailable } else { ErrorKind::Io };
    Error::new(kind, error.to_string())
}
