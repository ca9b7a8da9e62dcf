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
use redis::{Cmd, Pipeline, RedisResult, Value};

use crate::redis::connection::channel::Channel;
use crate::redis::keys::names::{KeyNames, PARTITIONS, read_epoch};
use crate::redis::topology::Topology;
use crate::redis::topology::router::{Redirection, RoutedCmd};

/// A version that no node used for this many days is dropped from the list.
const UNUSED_DAYS: u64 = 30;

/// Registers a version as in use. Key: the epoch record. Arguments: a new record if there is none, the
/// version, a label for it, the days that versions stay listed, and the lifetime of ephemeral keys in
/// milliseconds or nothing. Returns the record.
const REGISTER: &str = "\
    local record = redis.pcall('GET', KEYS[1]) \
    if type(record) ~= 'string' or not record:match('^%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x') then record = ARGV[1] end \
    local today, listed, known = math.floor(redis.call('TIME')[1] / 86400), {record:sub(1, 16)}, false \
    local function list(version, label, day) \
        listed[#listed + 1] = ' ' .. version .. '@' .. label .. '@' .. string.format('%d', day) \
    end \
    for version, label, day in record:sub(17):gmatch(' (%x+)@(%x+)@(%d+)') do \
        if version == ARGV[2] then \
            known = true \
            list(version, label, today) \
        elseif day + ARGV[4] >= today then \
            list(version, label, day) \
        end \
    end \
    if not known then list(ARGV[2], ARGV[3], today) end \
    record = table.concat(listed) \
    if ARGV[5] == '' then redis.call('SET', KEYS[1], record) \
    else redis.call('SET', KEYS[1], record, 'PX', ARGV[5]) end \
    return record";

/// A node's cached copy of one epoch record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::redis) struct EpochRecord {
    /// Part of the names of all entries; zero if unknown.
    pub(in crate::redis) epoch: u64,
    /// Part of the names of the entries of this version.
    pub(in crate::redis) label: u32,
    /// The labels of the other versions in use.
    pub(in crate::redis) others: Vec<u32>,
    /// The day on which this version was last registered, in days since the Unix epoch.
    pub(in crate::redis) day: u64,
    /// The record as the server has it; empty if unknown.
    pub(in crate::redis) text: Box<[u8]>,
}

/// A version of the program in an epoch record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::redis) struct ListedVersion {
    /// Its number.
    pub(in crate::redis) version: u64,
    /// Part of the names of its entries.
    pub(in crate::redis) label: u32,
    /// The day of its last use, in days since the Unix epoch.
    pub(in crate::redis) day: u64,
}

impl EpochRecord {
    /// Whether both give the same key names.
    pub(in crate::redis) fn agrees_with(&self, other: &Self) -> bool {
        (self.epoch, self.label, &self.others) == (other.epoch, other.label, &other.others)
    }

    /// Whether a listed version has this label.
    pub(in crate::redis) fn lists(&self, label: u32) -> bool {
        self.label == label || self.others.contains(&label)
    }

    /// Whether a record that was read, alone or as a list of one, has the same bytes.
    pub(in crate::redis) fn is_confirmed_by(&self, read: &Value) -> bool {
        text(read).is_some_and(|text| !text.is_empty() && *text == *self.text)
    }

    /// Parses a record: its epoch, and each listed version.
    pub(in crate::redis) fn listed(text: &[u8]) -> Option<(u64, Vec<ListedVersion>)> {
        let text = std::str::from_utf8(text).ok()?;
        let (epoch, versions) = text.split_once(' ')?;
        let version = |listed: &str| {
            let mut parts = listed.split('@');
            Some(ListedVersion {
                version: u64::from_str_radix(parts.next()?, 16).ok()?,
                label: u32::from_str_radix(parts.next()?, 16).ok()?,
                day: parts.next()?.parse().ok()?,
            })
        };
        let versions: Option<Vec<_>> = versions.split(' ').map(version).collect();
        Some((read_epoch(epoch.as_bytes())?, versions?))
    }

    /// Parses a record; `None` if it does not list `version`.
    fn read(text: &[u8], version: u64) -> Option<Self> {
        let (epoch, versions) = Self::listed(text)?;
        let mut record = Self { epoch, text: text.into(), ..Self::default() };
        for ListedVersion { version: of, label, day } in versions {
            match of == version {
                true => (record.label, record.day) = (label, day),
                false => record.others.push(label),
            }
        }
        record.others.sort_unstable();
        (record.label != 0).then_some(record)
    }
}

/// The cached epoch records of all partitions.
#[derive(Debug)]
pub(in crate::redis) struct PartitionEpochs {
    cached: [RwLock<Arc<EpochRecord>>; PARTITIONS],
    /// The version of this program.
    version: u64,
    /// The lifetime of ephemeral keys: a record expires after it unless renewed.
    ephemeral_ttl: Option<Duration>,
}

impl PartitionEpochs {
    pub(in crate::redis) fn new(version: u64, ephemeral_ttl: Option<Duration>) -> Self {
        Self { cached: std::array::from_fn(|_| RwLock::default()), version, ephemeral_ttl }
    }

    /// The lifetime of ephemeral keys in milliseconds, at least 1, since Redis rejects zero.
    pub(in crate::redis) fn ephemeral_ttl_millis(&self) -> Option<u64> {
        self.ephemeral_ttl.map(|ephemeral_ttl| {
            u64::try_from(ephemeral_ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 53)
        })
    }

    pub(in crate::redis) fn record(&self, partition: usize) -> Arc<EpochRecord> {
        Arc::clone(&self.cached[partition % PARTITIONS].read())
    }

    pub(in crate::redis) fn epoch(&self, partition: usize) -> u64 {
        self.cached[partition % PARTITIONS].read().epoch
    }

    pub(in crate::redis) fn set(&self, partition: usize, record: EpochRecord) {
        *self.cached[partition % PARTITIONS].write() = Arc::new(record);
    }

    /// Parses a record, alone or as a list of one; `None` if it is malformed or does not list this version.
    pub(in crate::redis) fn read(&self, record: &Value) -> Option<EpochRecord> {
        EpochRecord::read(text(record)?, self.version)
    }

    /// Whether a record that was read, alone or as a list of one, gives the same key names as the cached one.
    /// Otherwise returns it as [`read`](Self::read) does.
    pub(in crate::redis) fn confirm(
        &self,
        partition: usize,
        cached: &EpochRecord,
        read: &Value,
    ) -> std::result::Result<(), Option<EpochRecord>> {
        // Almost always the bytes are the same, and need not be parsed.
        if cached.is_confirmed_by(read) {
            return Ok(());
        }
        match self.read(read) {
            Some(record) if record.agrees_with(cached) => {
                self.set(partition, record);
                Ok(())
            }
            record => Err(record),
        }
    }

    /// The command that lists this version in a record, and creates the record if it is missing.
    fn register_command(&self, names: &KeyNames, partition: usize) -> Cmd {
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(REGISTER).arg(1).arg(names.record(partition)).arg(random_epoch());
        cmd.arg(format!("{:016x}", self.version)).arg(random_label()).arg(UNUSED_DAYS);
        match self.ephemeral_ttl_millis() {
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
        names: &KeyNames,
        now: Option<Time>,
        connection: &mut Channel,
    ) -> RedisResult<()> {
        let mut question = Pipeline::new();
        for partition in 0..PARTITIONS {
            question.add_command(get(names, partition));
        }
        let (today, mut unlisted) = (days(now), Vec::new());
        for (partition, answer) in send_pipeline(connection, &question).await?.into_iter().enumerate() {
            match (self.read(&answer), answer) {
                (Some(record), _) => {
                    if record.day < today {
                        unlisted.push(partition);
                    }
                    self.set(partition, record);
                }
                (None, Value::Array(_)) => unlisted.push(partition),
                (None, other) => error_unless_redirected(other)?,
            }
        }
        if unlisted.is_empty() {
            return Ok(());
        }
        let mut pipe = Pipeline::new();
        for partition in &unlisted {
            pipe.add_command(self.register_command(names, *partition));
        }
        for (partition, answer) in unlisted.iter().zip(send_pipeline(connection, &pipe).await?) {
            match self.read(&answer) {
                Some(record) => self.set(*partition, record),
                // Out of memory, for example. Without a record every call would fail.
                None if self.epoch(*partition) == 0 => error_unless_redirected(answer)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Lists this version in the record of a partition.
    pub(in crate::redis) async fn register(
        &self,
        partition: usize,
        names: &KeyNames,
        topology: &Topology,
    ) -> Result<()> {
        let answer =
            topology.send(RoutedCmd { partition, cmd: self.register_command(names, partition) }).await?;
        self.set(partition, self.read(&answer).unwrap_or_default());
        Ok(())
    }

    /// Rereads the record of a partition.
    pub(in crate::redis) async fn reread(
        &self,
        partition: usize,
        names: &KeyNames,
        topology: &Topology,
    ) -> Result<()> {
        let record = topology.send(RoutedCmd { partition, cmd: get(names, partition) }).await?;
        match self.read(&record) {
            Some(record) => self.set(partition, record),
            None => self.register(partition, names, topology).await?,
        }
        Ok(())
    }

    /// Gives every partition a new epoch. The new records list only this version, since the others have no
    /// entries there.
    pub(in crate::redis) async fn renew(
        &self,
        names: &KeyNames,
        now: Time,
        topology: &Topology,
    ) -> Result<()> {
        let day = days(Some(now));
        let drawn: Vec<_> = (0..PARTITIONS)
            .map(|_| format!("{} {:016x}@{}@{day}", random_epoch(), self.version, random_label()))
            .collect();
        let requests = drawn.iter().enumerate().map(|(partition, record)| {
            let mut cmd = redis::cmd("SET");
            cmd.arg(names.record(partition)).arg(record);
            if let Some(millis) = self.ephemeral_ttl_millis() {
                cmd.arg("PX").arg(millis);
            }
            RoutedCmd { partition, cmd }
        });
        let answers = topology.exchange(requests.collect()).await;
        answers.into_iter().try_for_each(|answer| answer.map(drop))?;
        for (partition, record) in drawn.iter().enumerate() {
            self.set(partition, EpochRecord::read(record.as_bytes(), self.version).unwrap_or_default());
        }
        Ok(())
    }

    /// Reads all records from the servers.
    pub(in crate::redis) async fn read_all(
        &self,
        names: &KeyNames,
        topology: &Topology,
    ) -> Result<Vec<Option<EpochRecord>>> {
        let requests = (0..PARTITIONS).map(|partition| RoutedCmd { partition, cmd: get(names, partition) });
        let answers = topology.exchange(requests.collect()).await;
        answers.into_iter().map(|answer| answer.map(|record| self.read(&record))).collect()
    }
}

/// Whole days since the Unix epoch; zero if the time is unknown.
pub(in crate::redis) fn days(now: Option<Time>) -> u64 {
    now.map_or(0, |now| now.as_millis() / 86_400_000)
}

fn get(names: &KeyNames, partition: usize) -> Cmd {
    // For a key of another type, MGET returns nil and GET an error.
    let mut cmd = redis::cmd("MGET");
    cmd.arg(names.record(partition));
    cmd
}

/// The error in an answer, unless it is a cluster redirection.
fn error_unless_redirected(answer: Value) -> RedisResult<()> {
    match answer.extract_error() {
        Err(error) if Redirection::of(&error).is_none() => Err(error),
        _ => Ok(()),
    }
}

/// Sends a pipeline in one round trip; each answer is a value or its own error.
pub(in crate::redis) async fn send_pipeline(
    connection: &mut Channel,
    pipe: &Pipeline,
) -> RedisResult<Vec<Value>> {
    connection.send_all(pipe).await
}

/// A new random epoch: 64 bits, in hex.
fn random_epoch() -> String {
    format!("{:016x}", random().max(1))
}

/// A new random label: 32 bits, in hex.
fn random_label() -> String {
    format!("{:08x}", (random() >> 32).max(1))
}

/// The text of a record, alone or as a list of one.
fn text(record: &Value) -> Option<&[u8]> {
    match record {
        Value::BulkString(text) => Some(text),
        Value::Array(records) => match &records[..] {
            [Value::BulkString(text)] => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// 64 random bits.
pub(in crate::redis) fn random() -> u64 {
    // The keys of the hasher come from the random source of the operating system.
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_is_parsed_only_for_a_listed_version() {
        let text = b"00000000000000ab 0000000000000007@0000beef@20786 0000000000000008@00000005@20780";
        let record = EpochRecord::read(text, 7).unwrap();
        assert_eq!((record.epoch, record.label, record.day), (0xab, 0xbeef, 20786));
        assert_eq!(record.others, [5]);
        assert!(record.lists(5) && record.lists(0xbeef) && !record.lists(6));
        assert_eq!(EpochRecord::read(text, 9), None, "it does not list this one");
        for other in [&b"00000000000000ab"[..], b"", b"00000000000000ab x@y@z", b"ab 7@1@1"] {
            assert_eq!(EpochRecord::read(other, 7), None, "{other:?}");
        }
        let again = EpochRecord { day: 1, ..record.clone() };
        assert!(record.agrees_with(&again), "the day is no part of a name");
    }

    #[test]
    fn record_read_again_is_confirmed_if_it_gives_the_same_names() {
        let epochs = PartitionEpochs::new(7, None);
        let text = |day: u64, epoch: u64| {
            let text = format!("{epoch:016x} 0000000000000007@0000beef@{day}");
            Value::BulkString(text.into_bytes())
        };
        let cached = epochs.read(&text(20786, 0xab)).unwrap();
        assert_eq!(epochs.confirm(0, &cached, &text(20786, 0xab)), Ok(()));
        assert_eq!(epochs.confirm(0, &cached, &Value::Array(vec![text(20786, 0xab)])), Ok(()));
        assert_eq!(epochs.confirm(0, &cached, &text(20787, 0xab)), Ok(()), "the day is no part of a name");
        let other = epochs.confirm(0, &cached, &text(20786, 0xac)).unwrap_err();
        assert_eq!(other.map(|record| record.epoch), Some(0xac));
        for unreadable in [Value::Nil, Value::BulkString(Vec::new()), Value::Array(Vec::new())] {
            assert_eq!(epochs.confirm(0, &cached, &unreadable), Err(None));
            assert_eq!(epochs.confirm(0, &EpochRecord::default(), &unreadable), Err(None));
        }
    }
}
