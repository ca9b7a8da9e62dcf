//! Changes that are one step among all nodes.
//!
//! The stamp of an entry tells whether it changed: it is made of what the entry
//! is, of what its last removal left behind, and of the generation of its
//! partition. Who stores on the condition of a stamp never overwrites what came
//! later, nor revives what was removed meanwhile. A removal is remembered for
//! [`REMOVAL_LIFE`]; who holds a stamp for longer must not use it.

use std::hash::{BuildHasher, RandomState};

use larder_core::frame::{FIXED_LEN, Frame};
use larder_core::key::EncodedKey;
use larder_core::tier::{FrameWithStamp, REMOVAL_LIFE, Stamp};
use larder_core::{Bytes, Error, ErrorKind, Result};
use redis::{Cmd, Value};

use super::Inner;
use super::batch::{KEYS_MAX, chunk_len};
use super::calls::{check_len, count};
use super::names::Names;
use super::request::{Whole, frame};
use super::scatter::Order;

/// Where a frame has the sum of its head, which covers all that tells frames apart.
const IDENTITY_AT: usize = FIXED_LEN - 8;

/// Stores where the entry and its last removal are what they were.
///
/// Keys: entry, removal, mark. Arguments: the mark, the two identities in one,
/// the frame, and perhaps the milliseconds that it lives.
const PUT_IF_UNCHANGED: &str = "\
    local function text(answer) return type(answer) == 'string' and answer or '' end \
    if redis.call('GET', KEYS[3]) ~= ARGV[1] then return 0 end \
    local entry = text(redis.pcall('GETRANGE', KEYS[1], 88, 95)) \
    local removal = text(redis.pcall('GET', KEYS[2])) \
    for at = 1, 8 do \
        local seen = bit.bxor(entry:byte(at) or 0, removal:byte(at) or 0) \
        if seen ~= ARGV[2]:byte(at) then return 0 end \
    end \
    if ARGV[4] then redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) \
    else redis.call('SET', KEYS[1], ARGV[3]) end \
    return 1";

impl Inner {
    /// The removal is noted before the entry goes: who reads between the two
    /// finds an entry that is about to go, with a stamp that is not it any more.
    ///
    /// Not a script: what those do is told to their own node as well.
    pub(super) fn unlink(&self, name: &str) -> Vec<Cmd> {
        self.removing("UNLINK", name)
    }

    fn removing(&self, command: &str, name: &str) -> Vec<Cmd> {
        let life = u64::try_from(REMOVAL_LIFE.as_millis()).unwrap_or(u64::MAX);
        let mut note = redis::cmd("SET");
        note.arg(self.names.removal(name)).arg(&chance().to_le_bytes()[..]).arg("PX").arg(life);
        let mut remove = redis::cmd(command);
        remove.arg(name);
        vec![note, remove]
    }

    pub(super) async fn remove(&self, key: &EncodedKey) -> Result<bool> {
        let answer = self.some(key, |name| self.unlink(name)).await?;
        Ok(self.shrunk(key, count(&answer)))
    }

    pub(super) async fn take(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        let taken = frame(self.some(key, |name| self.removing("GETDEL", name)).await?);
        self.shrunk(key, i64::from(taken.is_some()));
        Ok(taken)
    }

    pub(super) async fn get_stamped(&self, key: &EncodedKey) -> Result<FrameWithStamp> {
        let (found, removal, generation) = self.get_with_removal(key).await?;
        Ok(stamped(found, &removal, generation))
    }

    /// Removals are read before entries: what changes in between makes a stamp
    /// that nothing is stored by.
    pub(super) async fn get_many_stamped(&self, keys: &[EncodedKey]) -> Vec<Result<FrameWithStamp>> {
        let removal = |_, name: &str| {
            let mut cmd = redis::cmd("GET");
            cmd.arg(self.names.removal(name));
            vec![cmd]
        };
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(KEYS_MAX) {
            let keys: Vec<_> = keys.iter().collect();
            let answers = self.many(&keys, true, Some(&removal)).await.into_iter();
            found.extend(answers.map(|answer| {
                answer.map(|answer| stamped(frame(answer.value), &answer.command, answer.generation))
            }));
        }
        found
    }

    pub(super) async fn put_if_unchanged(&self, key: &EncodedKey, frame: &Frame) -> Result<bool> {
        let answer = self.fleet.send(self.putting(key, frame)?).await?;
        self.changed(key);
        Ok(count(&answer) == 1)
    }

    pub(super) async fn put_many_if_unchanged(&self, entries: &[(EncodedKey, Frame)]) -> Vec<Result<bool>> {
        let mut stored = Vec::with_capacity(entries.len());
        let mut rest = entries;
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(chunk_len(rest));
            rest = later;
            match chunk.iter().map(|(key, frame)| self.putting(key, frame)).collect() {
                Ok(orders) => {
                    let answers = self.fleet.exchange(orders).await.into_iter().zip(chunk);
                    stored.extend(answers.map(|(answer, (key, _))| {
                        self.changed(key);
                        Ok(count(&answer?) == 1)
                    }));
                }
                // The bad one fails by itself.
                Err(_) => {
                    for (key, frame) in chunk {
                        stored.push(self.put_if_unchanged(key, frame).await);
                    }
                }
            }
        }
        stored
    }

    fn putting(&self, key: &EncodedKey, frame: &Frame) -> Result<Order> {
        check_len(frame)?;
        let Some(base) = key.base() else {
            return Err(Error::new(ErrorKind::Unsupported, "the key is based on nothing"));
        };
        let partition = Names::partition(key);
        let generation = self.marks.generation(partition);
        let identity = base.get() ^ generation;
        let name = self.names.entry(generation, key);
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(PUT_IF_UNCHANGED).arg(3).arg(&name).arg(self.names.removal(&name));
        cmd.arg(self.names.mark(partition)).arg(format!("{generation:016x}"));
        cmd.arg(&identity.to_le_bytes()[..]).arg(Whole(frame));
        if let Some(millis) = self.millis_left(frame.head()) {
            cmd.arg(millis);
        }
        Ok(Order { partition, cmd })
    }
}

/// What was found, and the stamp that is made of it.
fn stamped(found: Option<Bytes>, removal: &Value, generation: u64) -> FrameWithStamp {
    let removal = match removal {
        Value::BulkString(chance) => word(chance),
        _ => 0,
    };
    let entry = found.as_ref().and_then(|frame| frame.get(IDENTITY_AT..)).map_or(0, word);
    (found, Stamp::new(entry ^ removal ^ generation))
}

/// Up to eight bytes as a number; those that are missing are zero.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// A number that no other removal has: 64 bits of chance.
fn chance() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
