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

use larder_core::Result;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value};

use super::fleet::Fleet;
use super::names::{Names, PARTITIONS, read_generation};
use super::scatter::{Order, Redirection};

/// What this node believes of the marks; zero where it knows nothing.
#[derive(Debug)]
pub(super) struct Marks {
    believed: [AtomicU64; PARTITIONS],
    /// After which time a mark goes by itself, unless it is renewed.
    tenancy: Option<Duration>,
}

impl Marks {
    pub(super) fn new(tenancy: Option<Duration>) -> Self {
        Self { believed: std::array::from_fn(|_| AtomicU64::new(0)), tenancy }
    }

    /// Milliseconds of the tenancy; Redis refuses zero.
    pub(super) fn tenancy_millis(&self) -> Option<u64> {
        self.tenancy.map(|tenancy| u64::try_from(tenancy.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 53))
    }

    /// Sets the mark of a partition.
    fn set_to(&self, names: &Names, partition: usize, generation: &str) -> Cmd {
        let mut cmd = redis::cmd("SET");
        cmd.arg(names.mark(partition)).arg(generation);
        if let Some(millis) = self.tenancy_millis() {
            cmd.arg("PX").arg(millis);
        }
        cmd
    }

    /// Sets a mark where there is none.
    fn first(&self, names: &Names, partition: usize) -> Cmd {
        let mut cmd = self.set_to(names, partition, &fresh());
        cmd.arg("NX");
        cmd
    }

    pub(super) fn generation(&self, partition: usize) -> u64 {
        self.believed[partition % PARTITIONS].load(Ordering::Acquire)
    }

    pub(super) fn set(&self, partition: usize, generation: u64) {
        self.believed[partition % PARTITIONS].store(generation, Ordering::Release);
    }

    /// Reads every mark of one server, and makes those that are missing there:
    /// at most two round trips. What is not for this server, or is no mark, is
    /// learnt when it is needed.
    pub(super) async fn load(
        &self,
        names: &Names,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        let all = (0..PARTITIONS).collect::<Vec<_>>();
        let missing = self.take_in(&all, get_all(names, &all), connection).await?;
        if missing.is_empty() {
            return Ok(());
        }
        let mut pipe = Pipeline::new();
        for partition in &missing {
            pipe.add_command(self.first(names, *partition));
        }
        for answer in exchange(connection, &pipe).await? {
            // Out of memory, for one: every call would try in vain.
            but_redirections(answer)?;
        }
        self.take_in(&missing, get_all(names, &missing), connection).await.map(drop)
    }

    /// Believes what the server says of some marks; which it says are missing.
    async fn take_in(
        &self,
        partitions: &[usize],
        question: Pipeline,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<Vec<usize>> {
        let mut missing = Vec::new();
        for (partition, answer) in partitions.iter().zip(exchange(connection, &question).await?) {
            match (read(&answer), answer) {
                (Some(generation), _) => self.set(*partition, generation),
                (None, Value::Array(_)) => missing.push(*partition),
                (None, other) => but_redirections(other)?,
            }
        }
        Ok(missing)
    }

    /// Makes a mark where there is none; somebody else's counts as well. What
    /// lies there and is no mark is overwritten.
    pub(super) async fn make(&self, partition: usize, names: &Names, fleet: &Fleet) -> Result<()> {
        let pair = [self.first(names, partition), get(names, partition)];
        let mut answers = fleet.exchange(pair.map(|cmd| Order { partition, cmd }).into()).await.into_iter();
        answers.next().transpose()?;
        if let Some(Ok(mark)) = answers.next()
            && let Some(generation) = read(&mark)
        {
            self.set(partition, generation);
            return Ok(());
        }
        let generation = fresh();
        let cmd = self.set_to(names, partition, &generation);
        fleet.send(Order { partition, cmd }).await?;
        self.set(partition, read_generation(generation.as_bytes()).unwrap_or(0));
        Ok(())
    }

    /// Gives every partition a new generation.
    pub(super) async fn renew(&self, names: &Names, fleet: &Fleet) -> Result<()> {
        let drawn: Vec<_> = (0..PARTITIONS).map(|_| fresh()).collect();
        let orders = drawn.iter().enumerate().map(|(partition, generation)| Order {
            partition,
            cmd: self.set_to(names, partition, generation),
        });
        let answers = fleet.exchange(orders.collect()).await;
        answers.into_iter().try_for_each(|answer| answer.map(drop))?;
        for (partition, generation) in drawn.iter().enumerate() {
            self.set(partition, read_generation(generation.as_bytes()).unwrap_or(0));
        }
        Ok(())
    }
}

/// The marks as they are on the servers.
pub(super) async fn read_all(names: &Names, fleet: &Fleet) -> Result<Vec<Option<u64>>> {
    let orders = (0..PARTITIONS).map(|partition| Order { partition, cmd: get(names, partition) });
    let answers = fleet.exchange(orders.collect()).await;
    answers.into_iter().map(|answer| answer.map(|mark| read(&mark))).collect()
}

fn get(names: &Names, partition: usize) -> Cmd {
    // Of another type than ours it is nothing to MGET, and an error to GET.
    let mut cmd = redis::cmd("MGET");
    cmd.arg(names.mark(partition));
    cmd
}

fn get_all(names: &Names, partitions: &[usize]) -> Pipeline {
    let mut pipe = Pipeline::new();
    for partition in partitions {
        pipe.add_command(get(names, *partition));
    }
    pipe
}

/// The error of an answer, unless it says that another node has the mark.
fn but_redirections(answer: Value) -> RedisResult<()> {
    match answer.extract_error() {
        Err(error) if Redirection::of(&error).is_none() => Err(error),
        _ => Ok(()),
    }
}

/// One round trip; each answer is a value or an error of its own.
pub(super) async fn exchange(
    connection: &mut MultiplexedConnection,
    pipe: &Pipeline,
) -> RedisResult<Vec<Value>> {
    connection.send_packed_commands(pipe, 0, pipe.len()).await
}

/// The generation that a mark names, alone or as a list of one; `None` for what
/// is no mark.
pub(super) fn read(mark: &Value) -> Option<u64> {
    match mark {
        Value::BulkString(digits) => read_generation(digits),
        Value::Array(marks) => match &marks[..] {
            [Value::BulkString(digits)] => read_generation(digits),
            _ => None,
        },
        _ => None,
    }
}

/// A generation that nobody had before: 64 bits of chance, spelled out.
fn fresh() -> String {
    // The keys of the hasher come from the operating system's chance.
    format!("{:016x}", RandomState::new().hash_one(std::process::id()).max(1))
}
