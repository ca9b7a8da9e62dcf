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

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisResult, Value};

use super::names::{Names, PARTITIONS, read_generation};

/// What this node believes of the marks; zero where it knows nothing.
#[derive(Debug)]
pub(super) struct Marks([AtomicU64; PARTITIONS]);

impl Marks {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    pub(super) fn generation(&self, partition: usize) -> u64 {
        self.0[partition % PARTITIONS].load(Ordering::Acquire)
    }

    pub(super) fn set(&self, partition: usize, generation: u64) {
        self.0[partition % PARTITIONS].store(generation, Ordering::Release);
    }

    /// Reads every mark, and makes those that are missing: at most two round trips
    /// where nobody put something else there.
    pub(super) async fn load(
        &self,
        names: &Names,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        let seen = read_all(names, connection).await?;
        let missing = || (0..PARTITIONS).filter(|partition| seen[*partition].is_none());
        for (partition, generation) in seen.iter().enumerate() {
            self.set(partition, generation.unwrap_or(0));
        }
        if missing().next().is_none() {
            return Ok(());
        }
        let mut pipe = Pipeline::new();
        for partition in missing() {
            let mark = names.mark(partition);
            pipe.cmd("SET").arg(mark).arg(fresh()).arg("NX").cmd("MGET").arg(mark);
        }
        let answers = exchange(connection, &pipe).await?;
        for (partition, pair) in missing().zip(answers.chunks(2)) {
            refusal(pair.first())?;
            let found = pair.get(1).and_then(list).and_then(|marks| read(marks.first()?));
            match found {
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
        pipe.cmd("SET").arg(mark).arg(fresh()).arg("NX").cmd("MGET").arg(mark);
        let answers = exchange(connection, &pipe).await?;
        refusal(answers.first())?;
        if let Some(generation) = answers.get(1).and_then(list).and_then(|marks| read(marks.first()?)) {
            self.set(partition, generation);
            return Ok(());
        }
        let generation = fresh();
        redis::cmd("SET").arg(mark).arg(&generation).exec_async(connection).await?;
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
            pipe.cmd("SET").arg(names.mark(partition)).arg(generation);
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

fn refusal(answer: Option<&Value>) -> RedisResult<()> {
    match answer {
        Some(Value::ServerError(error)) => Err(error.clone().into()),
        _ => Ok(()),
    }
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
