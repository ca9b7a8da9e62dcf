//! The generations of the partitions: what makes `clear` cost one round trip.
//!
//! Each partition has a mark in Redis that names its generation, and the name
//! of an entry has the generation it was written in. Every request reads the
//! mark together with what it asks for, so what a node believes is checked by
//! the server in the same round trip: after a `clear` is acknowledged no node
//! finds an older entry. A generation is drawn by chance and never comes back,
//! so a mark that is lost, by eviction or `FLUSHALL`, takes its entries along.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value};

use super::names::{Names, PARTITIONS, read_generation};

/// What this node believes of the marks; zero where it knows nothing.
#[derive(Debug)]
pub(super) struct Marks {
    believed: [AtomicU64; PARTITIONS],
    /// After which time a mark goes by itself, unless it is renewed.
    lease: Option<Duration>,
}

impl Marks {
    pub(super) fn new(lease: Option<Duration>) -> Self {
        Self { believed: std::array::from_fn(|_| AtomicU64::new(0)), lease }
    }

    /// Milliseconds of the lease; Redis refuses zero.
    pub(super) fn lease_millis(&self) -> Option<u64> {
        self.lease.map(|lease| u64::try_from(lease.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 53))
    }

    /// Adds the lease to a `SET`.
    fn leased<'a>(&self, set: &'a mut Cmd) -> &'a mut Cmd {
        match self.lease_millis() {
            Some(millis) => set.arg("PX").arg(millis),
            None => set,
        }
    }

    pub(super) fn generation(&self, partition: usize) -> u64 {
        self.believed[partition % PARTITIONS].load(Ordering::Acquire)
    }

    pub(super) fn set(&self, partition: usize, generation: u64) {
        self.believed[partition % PARTITIONS].store(generation, Ordering::Release);
    }

    /// Reads every mark, and makes those that are missing.
    pub(super) async fn load(
        &self,
        names: &Names,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        let seen = read_all(names, connection).await?;
        for (partition, seen) in seen.into_iter().enumerate() {
            match seen {
                Some(generation) => self.set(partition, generation),
                None => self.make(partition, names, connection).await?,
            }
        }
        Ok(())
    }

    /// Makes a mark where there is none; somebody else's counts as well. What
    /// lies there and is no mark is overwritten.
    pub(super) async fn make(
        &self,
        partition: usize,
        names: &Names,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        let mark = names.mark(partition);
        let mut pipe = Pipeline::new();
        let mut set = redis::cmd("SET");
        self.leased(set.arg(mark).arg(fresh()).arg("NX"));
        pipe.add_command(set).cmd("MGET").arg(mark);
        let answers = exchange(connection, &pipe).await?;
        if let Some(Value::ServerError(error)) = answers.first() {
            return Err(error.clone().into());
        }
        if let Some(generation) = answers.get(1).and_then(list).and_then(|marks| read(marks.first()?)) {
            self.set(partition, generation);
            return Ok(());
        }
        let generation = fresh();
        let mut set = redis::cmd("SET");
        self.leased(set.arg(mark).arg(&generation)).exec_async(connection).await?;
        self.set(partition, read_generation(generation.as_bytes()).unwrap_or(0));
        Ok(())
    }

    /// Gives every partition a new generation.
    pub(super) async fn renew(
        &self,
        names: &Names,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        let drawn: Vec<_> = (0..PARTITIONS).map(|_| fresh()).collect();
        let mut pipe = Pipeline::new();
        for (partition, generation) in drawn.iter().enumerate() {
            let mut set = redis::cmd("SET");
            self.leased(set.arg(names.mark(partition)).arg(generation));
            pipe.add_command(set);
        }
        for answer in exchange(connection, &pipe).await? {
            answer.extract_error()?;
        }
        for (partition, generation) in drawn.iter().enumerate() {
            self.set(partition, read_generation(generation.as_bytes()).unwrap_or(0));
        }
        Ok(())
    }
}

/// The marks as they are on the server.
pub(super) async fn read_all(
    names: &Names,
    connection: &mut MultiplexedConnection,
) -> RedisResult<Vec<Option<u64>>> {
    let marks: Vec<_> = (0..PARTITIONS).map(|partition| names.mark(partition)).collect();
    let answer = connection.send_packed_command(redis::cmd("MGET").arg(marks)).await?.extract_error()?;
    let mut seen: Vec<_> = list(&answer).unwrap_or_default().iter().map(read).collect();
    seen.resize(PARTITIONS, None);
    Ok(seen)
}

/// One round trip; each answer is a value or an error of its own.
pub(super) async fn exchange(
    connection: &mut MultiplexedConnection,
    pipe: &Pipeline,
) -> RedisResult<Vec<Value>> {
    connection.send_packed_commands(pipe, 0, pipe.len()).await
}

/// The generation that a mark names; `None` for what is no mark.
pub(super) fn read(mark: &Value) -> Option<u64> {
    match mark {
        Value::BulkString(digits) => read_generation(digits),
        _ => None,
    }
}

fn list(answer: &Value) -> Option<&[Value]> {
    match answer {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

/// A generation that nobody had before: 64 bits of chance, spelled out.
fn fresh() -> String {
    // The keys of the hasher come from the operating system's chance.
    format!("{:016x}", RandomState::new().hash_one(std::process::id()).max(1))
}
