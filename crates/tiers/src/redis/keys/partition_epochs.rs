//! Epoch records of the partitions. With them `clear` costs one round trip, and several versions of a program
//! can share a server.
//!
//! Each partition has an epoch record in Redis. It contains the epoch (generation) of the partition, which is
//! part of the name of every entry there: after a `clear` no node finds an older entry. It also lists the
//! versions of the program that use the cache, each with a label that is part of the names of its entries. So
//! no version reads, rejects or replaces values that another one loaded, and a change by one version removes
//! the entries of the others.
//!
//! ```text
//! 9f3ac41e0b7d5a66 1c0ffee01c0ffee0@5eed5eed@20786 ...
//! epoch            version          label    day of last use
//! ```
//!
//! Every request reads the epoch record together with its data, so the server validates the node's cached
//! record in the same round trip. Epochs and labels are random and never come back, so a record that is lost,
//! by eviction or `FLUSHALL`, invalidates its entries. A version that was not used for [`UNUSED_DAYS`] is
//! dropped from the list; its entries are swept, and it would get another label if it came back.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use larder_core::Result;
use larder_core::clock::Time;
use parking_lot::RwLock;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value};

use crate::redis::keys::names::{Names, PARTITIONS, read_generation};
use crate::redis::topology::Fleet;
use crate::redis::topology::router::{Order, Redirection};

/// A version that no node used for this many days is dropped from the list.
const UNUSED_DAYS: u64 = 30;

/// Registers a version as in use. Key: the epoch record. Arguments: a new record if there is none, the
/// version, a label for it, the days that versions stay listed, and the lifetime of ephemeral keys in
/// milliseconds or nothing. Returns the record.
const REGISTER: &str = "\
    local mark = redis.pcall('GET', KEYS[1]) \
    if type(mark) ~= 'string' or not mark:match('^%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x') then mark = ARGV[1] end \
    local today, listed, known = math.floor(redis.call('TIME')[1] / 86400), {mark:sub(1, 16)}, false \
    local function list(version, label, day) \
        listed[#listed + 1] = ' ' .. version .. '@' .. label .. '@' .. string.format('%d', day) \
    end \
    for version, label, day in mark:sub(17):gmatch(' (%x+)@(%x+)@(%d+)') do \
        if version == ARGV[2] then \
            known = true \
            list(version, label, today) \
        elseif day + ARGV[4] >= today then \
            list(version, label, day) \
        end \
    end \
    if not known then list(ARGV[2], ARGV[3], today) end \
    mark = table.concat(listed) \
    if ARGV[5] == '' then redis.call('SET', KEYS[1], mark) \
    else redis.call('SET', KEYS[1], mark, 'PX', ARGV[5]) end \
    return mark";

/// A node's cached copy of one epoch record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::redis) struct Belief {
    /// Part of the names of all entries; zero if unknown.
    pub(in crate::redis) generation: u64,
    /// Part of the names of the entries of this version.
    pub(in crate::redis) label: u32,
    /// The labels of the other versions in use.
    pub(in crate::redis) others: Vec<u32>,
    /// The day on which this version was last registered, in days since the Unix epoch.
    pub(in crate::redis) day: u64,
}

impl Belief {
    /// Whether both give the same key names.
    pub(in crate::redis) fn agrees_with(&self, other: &Self) -> bool {
        (self.generation, self.label, &self.others) == (other.generation, other.label, &other.others)
    }

    /// Whether a listed version has this label.
    pub(in crate::redis) fn lists(&self, label: u32) -> bool {
        self.label == label || self.others.contains(&label)
    }

    /// Parses a record; `None` if it does not list `version`.
    fn read(mark: &[u8], version: u64) -> Option<Self> {
        let mark = std::str::from_utf8(mark).ok()?;
        let (generation, versions) = mark.split_once(' ')?;
        let mut belief = Self { generation: read_generation(generation.as_bytes())?, ..Self::default() };
        for listed in versions.split(' ') {
            let mut parts = listed.split('@');
            let of = u64::from_str_radix(parts.next()?, 16).ok()?;
            let label = u32::from_str_radix(parts.next()?, 16).ok()?;
            let day = parts.next()?.parse().ok()?;
            match of == version {
                true => (belief.label, belief.day) = (label, day),
                false => belief.others.push(label),
            }
        }
        belief.others.sort_unstable();
        (belief.label != 0).then_some(belief)
    }
}

/// The cached epoch records of all partitions.
#[derive(Debug)]
pub(in crate::redis) struct PartitionEpochs {
    believed: [RwLock<Arc<Belief>>; PARTITIONS],
    /// The version of this program.
    version: u64,
    /// The lifetime of ephemeral keys: a record expires after it unless renewed.
    tenancy: Option<Duration>,
}

impl PartitionEpochs {
    pub(in crate::redis) fn new(version: u64, tenancy: Option<Duration>) -> Self {
        Self { believed: std::array::from_fn(|_| RwLock::default()), version, tenancy }
    }

    /// The lifetime of ephemeral keys in milliseconds, at least 1, since Redis rejects zero.
    pub(in crate::redis) fn tenancy_millis(&self) -> Option<u64> {
        self.tenancy.map(|tenancy| u64::try_from(tenancy.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 53))
    }

    pub(in crate::redis) fn belief(&self, partition: usize) -> Arc<Belief> {
        Arc::clone(&self.believed[partition % PARTITIONS].read())
    }

    pub(in crate::redis) fn generation(&self, partition: usize) -> u64 {
        self.believed[partition % PARTITIONS].read().generation
    }

    pub(in crate::redis) fn set(&self, partition: usize, belief: Belief) {
        *self.believed[partition % PARTITIONS].write() = Arc::new(belief);
    }

    /// Parses a record, alone or as a list of one; `None` if it is malformed or does not list this version.
    pub(in crate::redis) fn read(&self, mark: &Value) -> Option<Belief> {
        match mark {
            Value::BulkString(mark) => Belief::read(mark, self.version),
            Value::Array(marks) => match &marks[..] {
                [Value::BulkString(mark)] => Belief::read(mark, self.version),
                _ => None,
            },
            _ => None,
        }
    }

    /// The command that lists this version in a record, and creates the record if it is missing.
    fn registering(&self, names: &Names, partition: usize) -> Cmd {
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(REGISTER).arg(1).arg(names.mark(partition)).arg(fresh());
        cmd.arg(format!("{:016x}", self.version)).arg(fresh_label()).arg(UNUSED_DAYS);
        match self.tenancy_millis() {
            Some(millis) => cmd.arg(millis),
            None => cmd.arg(""),
        };
        cmd
    }

    /// Reads all epoch records of one server. Creates those that are missing, and registers this version in
    /// those that do not list it for today: at most two round trips. Records of other servers and malformed
    /// ones are read when they are needed.
    pub(in crate::redis) async fn load(
        &self,
        names: &Names,
        now: Option<Time>,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        let mut question = Pipeline::new();
        for partition in 0..PARTITIONS {
            question.add_command(get(names, partition));
        }
        let (today, mut unlisted) = (days(now), Vec::new());
        for (partition, answer) in exchange(connection, &question).await?.into_iter().enumerate() {
            match (self.read(&answer), answer) {
                (Some(belief), _) => {
                    if belief.day < today {
                        unlisted.push(partition);
                    }
                    self.set(partition, belief);
                }
                (None, Value::Array(_)) => unlisted.push(partition),
                (None, other) => but_redirections(other)?,
            }
        }
        if unlisted.is_empty() {
            return Ok(());
        }
        let mut pipe = Pipeline::new();
        for partition in &unlisted {
            pipe.add_command(self.registering(names, *partition));
        }
        for (partition, answer) in unlisted.iter().zip(exchange(connection, &pipe).await?) {
            match self.read(&answer) {
                Some(belief) => self.set(*partition, belief),
                // Out of memory, for example. Without a record every call would fail.
                None if self.generation(*partition) == 0 => but_redirections(answer)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Lists this version in the record of a partition.
    pub(in crate::redis) async fn register(
        &self,
        partition: usize,
        names: &Names,
        fleet: &Fleet,
    ) -> Result<()> {
        let answer = fleet.send(Order { partition, cmd: self.registering(names, partition) }).await?;
        self.set(partition, self.read(&answer).unwrap_or_default());
        Ok(())
    }

    /// Rereads the record of a partition.
    pub(in crate::redis) async fn reread(
        &self,
        partition: usize,
        names: &Names,
        fleet: &Fleet,
    ) -> Result<()> {
        let mark = fleet.send(Order { partition, cmd: get(names, partition) }).await?;
        match self.read(&mark) {
            Some(belief) => self.set(partition, belief),
            None => self.register(partition, names, fleet).await?,
        }
        Ok(())
    }

    /// Gives every partition a new epoch. The new records list only this version, since the others have no
    /// entries there.
    pub(in crate::redis) async fn renew(&self, names: &Names, now: Time, fleet: &Fleet) -> Result<()> {
        let day = days(Some(now));
        let drawn: Vec<_> = (0..PARTITIONS)
            .map(|_| format!("{} {:016x}@{}@{day}", fresh(), self.version, fresh_label()))
            .collect();
        let orders = drawn.iter().enumerate().map(|(partition, mark)| {
            let mut cmd = redis::cmd("SET");
            cmd.arg(names.mark(partition)).arg(mark);
            if let Some(millis) = self.tenancy_millis() {
                cmd.arg("PX").arg(millis);
            }
            Order { partition, cmd }
        });
        let answers = fleet.exchange(orders.collect()).await;
        answers.into_iter().try_for_each(|answer| answer.map(drop))?;
        for (partition, mark) in drawn.iter().enumerate() {
            self.set(partition, Belief::read(mark.as_bytes(), self.version).unwrap_or_default());
        }
        Ok(())
    }

    /// Reads all records from the servers.
    pub(in crate::redis) async fn read_all(
        &self,
        names: &Names,
        fleet: &Fleet,
    ) -> Result<Vec<Option<Belief>>> {
        let orders = (0..PARTITIONS).map(|partition| Order { partition, cmd: get(names, partition) });
        let answers = fleet.exchange(orders.collect()).await;
        answers.into_iter().map(|answer| answer.map(|mark| self.read(&mark))).collect()
    }
}

/// Whole days since the Unix epoch; zero if the time is unknown.
pub(in crate::redis) fn days(now: Option<Time>) -> u64 {
    now.map_or(0, |now| now.as_millis() / 86_400_000)
}

fn get(names: &Names, partition: usize) -> Cmd {
    // For a key of another type, MGET returns nil and GET an error.
    let mut cmd = redis::cmd("MGET");
    cmd.arg(names.mark(partition));
    cmd
}

/// The error in an answer, unless it is a cluster redirection.
fn but_redirections(answer: Value) -> RedisResult<()> {
    match answer.extract_error() {
        Err(error) if Redirection::of(&error).is_none() => Err(error),
        _ => Ok(()),
    }
}

/// Sends a pipeline in one round trip; each answer is a value or its own error.
pub(in crate::redis) async fn exchange(
    connection: &mut MultiplexedConnection,
    pipe: &Pipeline,
) -> RedisResult<Vec<Value>> {
    connection.send_packed_commands(pipe, 0, pipe.len()).await
}

/// A new random epoch: 64 bits, in hex.
fn fresh() -> String {
    format!("{:016x}", chance().max(1))
}

/// A new random label: 32 bits, in hex.
fn fresh_label() -> String {
    format!("{:08x}", (chance() >> 32).max(1))
}

/// 64 random bits.
pub(in crate::redis) fn chance() -> u64 {
    // The keys of the hasher come from the random source of the operating system.
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_is_parsed_only_for_a_listed_version() {
        let mark = b"00000000000000ab 0000000000000007@0000beef@20786 0000000000000008@00000005@20780";
        let belief = Belief::read(mark, 7).unwrap();
        assert_eq!((belief.generation, belief.label, belief.day), (0xab, 0xbeef, 20786));
        assert_eq!(belief.others, [5]);
        assert!(belief.lists(5) && belief.lists(0xbeef) && !belief.lists(6));
        assert_eq!(Belief::read(mark, 9), None, "it does not list this one");
        for other in [&b"00000000000000ab"[..], b"", b"00000000000000ab x@y@z", b"ab 7@1@1"] {
            assert_eq!(Belief::read(other, 7), None, "{other:?}");
        }
        let again = Belief { day: 1, ..belief.clone() };
        assert!(belief.agrees_with(&again), "the day is no part of a name");
    }
}
