//! The marks of the partitions: what makes `clear` cost one round trip, and what lets
//! several versions of a program share a server.
//!
//! Each partition has a mark in Redis. It names the generation of the partition, which
//! is part of the name of every entry there: after a `clear` no node finds an older
//! entry. And it lists the versions of the program that use the cache, each with a label
//! that is part of the names of its entries: so no version reads, refuses or replaces
//! what another one loaded, and a change by one removes what the others have.
//!
//! ```text
//! 9f3ac41e0b7d5a66 1c0ffee01c0ffee0@5eed5eed@20786 ...
//! generation       version          label    day it was used last
//! ```
//!
//! Every request reads the mark together with what it asks for, so what a node believes
//! is checked by the server in the same round trip. Generations and labels are drawn by
//! chance and never come back, so a mark that is lost, by eviction or `FLUSHALL`, takes
//! its entries along. A version that was not used for [`UNUSED_DAYS`] is dropped from the
//! list; its entries are swept, and would have another label if it came back.

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

/// A version that no node used for so many days is forgotten.
const UNUSED_DAYS: u64 = 30;

/// Notes that a version uses a partition. Key: the mark. Arguments: a mark for where
/// there is none, the version, a label for it, the days that versions stay listed, and
/// the milliseconds of a tenancy or nothing. Answers with the mark.
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

/// What a node believes of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::redis) struct Belief {
    /// Part of all names of entries; zero where nothing is known.
    pub(in crate::redis) generation: u64,
    /// Part of the names of entries of this version.
    pub(in crate::redis) label: u32,
    /// Those of the other versions in use.
    pub(in crate::redis) others: Vec<u32>,
    /// When this version was noted as used, in days since the Unix epoch.
    pub(in crate::redis) day: u64,
}

impl Belief {
    /// Whether names are made alike by both.
    pub(in crate::redis) fn agrees_with(&self, other: &Self) -> bool {
        (self.generation, self.label, &self.others) == (other.generation, other.label, &other.others)
    }

    /// Whether entries with this label belong to a version in use.
    pub(in crate::redis) fn lists(&self, label: u32) -> bool {
        self.label == label || self.others.contains(&label)
    }

    /// What a mark says for a version that it lists.
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

/// What this node believes of the marks.
#[derive(Debug)]
pub(in crate::redis) struct PartitionEpochs {
    believed: [RwLock<Arc<Belief>>; PARTITIONS],
    /// Which version of the program this is.
    version: u64,
    /// After which time a mark goes by itself, unless it is renewed.
    tenancy: Option<Duration>,
}

impl PartitionEpochs {
    pub(in crate::redis) fn new(version: u64, tenancy: Option<Duration>) -> Self {
        Self { believed: std::array::from_fn(|_| RwLock::default()), version, tenancy }
    }

    /// Milliseconds of the tenancy; Redis refuses zero.
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

    /// What a mark says, alone or as a list of one; `None` for what is no mark, and for
    /// one that does not list this version.
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

    /// Has a partition list this version, and makes its mark where there is none.
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

    /// Reads every mark of one server, and makes those that are missing there, or do
    /// not say that this version is used today: at most two round trips. What is not
    /// for this server, or is no mark, is learnt when it is needed.
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
                // Out of memory, for one: every call would try in vain where there is no mark.
                None if self.generation(*partition) == 0 => but_redirections(answer)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Has the mark of a partition list this version.
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

    /// Reads the mark of a partition anew.
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

    /// Gives every partition a new generation, which lists this version alone: the
    /// others have nothing there.
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

    /// The marks as they are on the servers.
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

/// Whole days since the Unix epoch; zero where the time is not known.
pub(in crate::redis) fn days(now: Option<Time>) -> u64 {
    now.map_or(0, |now| now.as_millis() / 86_400_000)
}

fn get(names: &Names, partition: usize) -> Cmd {
    // Of another type than ours it is nothing to MGET, and an error to GET.
    let mut cmd = redis::cmd("MGET");
    cmd.arg(names.mark(partition));
    cmd
}

/// The error of an answer, unless it says that another node has the mark.
fn but_redirections(answer: Value) -> RedisResult<()> {
    match answer.extract_error() {
        Err(error) if Redirection::of(&error).is_none() => Err(error),
        _ => Ok(()),
    }
}

/// One round trip; each answer is a value or an error of its own.
pub(in crate::redis) async fn exchange(
    connection: &mut MultiplexedConnection,
    pipe: &Pipeline,
) -> RedisResult<Vec<Value>> {
    connection.send_packed_commands(pipe, 0, pipe.len()).await
}

/// A generation that nobody had before: 64 bits of chance, spelled out.
fn fresh() -> String {
    format!("{:016x}", chance().max(1))
}

/// A label that no version had before in this generation: 32 bits of chance, spelled out.
fn fresh_label() -> String {
    format!("{:08x}", (chance() >> 32).max(1))
}

/// 64 bits of chance.
pub(in crate::redis) fn chance() -> u64 {
    // The keys of the hasher come from the operating system's chance.
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_for_a_version_that_it_lists() {
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
