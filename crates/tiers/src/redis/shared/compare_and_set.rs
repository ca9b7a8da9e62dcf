//! Changes that are one step among all nodes.
//!
//! The stamp of an entry tells whether it changed: it is made of what the entry
//! is, of what its last removal left behind, and of the generation of its
//! partition. Who stores on the condition of a stamp never overwrites what came
//! later, nor revives what was removed meanwhile. A removal is remembered for
//! [`REMOVAL_LIFE`]; who holds a stamp for longer must not use it.

use std::sync::atomic::{AtomicU32, Ordering};

use larder_core::frame::{FIXED_LEN, Frame};
use larder_core::key::EncodedKey;
use larder_core::tier::{EntryVersion, LastRemoval, REMOVAL_LIFE, VersionedFrame};
use larder_core::{Bytes, Error, ErrorKind, Result};
use redis::{Cmd, Value};

use crate::redis::Inner;
use crate::redis::batch::{KEYS_MAX, chunk_len};
use crate::redis::calls::{check_len, count};
use crate::redis::keys::names::{Names, Place};
use crate::redis::keys::partition_epochs::chance;
use crate::redis::request::{Whole, frame};
use crate::redis::topology::router::Order;

/// Where a frame has the sum of its head, which covers all that tells frames apart.
const IDENTITY_AT: usize = FIXED_LEN - 8;

/// Stores where the entry and its last removal are what they were.
///
/// Keys: entry, removal, mark, then the entry of each other version that it replaces.
/// Arguments: the generation, the label of this version and those of the others with a
/// space between them, the two identities in one, the frame, the milliseconds that it
/// lives or nothing, and where it replaces those of others what is noted as a removal.
/// Answers 1 where it was stored, 2 where a version is in use that the caller does not
/// know of.
const PUT_IF_UNCHANGED: &str = "\
    local function text(answer) return type(answer) == 'string' and answer or '' end \
    local mark, known, is_listed = text(redis.pcall('GET', KEYS[3])), {}, false \
    if mark:sub(1, 16) ~= ARGV[1] then return 0 end \
    for label in ARGV[2]:gmatch('%x+') do known[label] = true end \
    for label in mark:sub(17):gmatch('@(%x+)@') do \
        if label == ARGV[2]:sub(1, 8) then is_listed = true \
        elseif ARGV[6] and not known[label] then return 2 end \
    end \
    if not is_listed then return 2 end \
    local entry = text(redis.pcall('GETRANGE', KEYS[1], 88, 95)) \
    local removal = text(redis.pcall('GET', KEYS[2])) \
    for at = 1, 8 do \
        local seen = bit.bxor(entry:byte(at) or 0, removal:byte(at) or 0) \
        if seen ~= ARGV[3]:byte(at) then return 0 end \
    end \
    if ARGV[5] ~= '' then redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5]) \
    else redis.call('SET', KEYS[1], ARGV[4]) end \
    if #KEYS > 3 then redis.call('SET', KEYS[2], ARGV[6], 'PX', ARGV[7]) end \
    for at = 4, #KEYS do redis.call('UNLINK', KEYS[at]) end \
    return 1";

/// The answer of that script where it does not know of a version.
const UNKNOWN_VERSION: i64 = 2;

/// How often a write is tried again because another version began to use the cache.
const ATTEMPTS: u32 = 8;

impl Inner {
    /// The removal is noted before the entry goes: who reads between the two
    /// finds an entry that is about to go, with a stamp that is not it any more.
    ///
    /// Not a script: what those do is told to their own node as well.
    pub(in crate::redis) fn unlink(&self, place: &Place) -> Vec<Cmd> {
        self.removing("UNLINK", place)
    }

    fn removing(&self, command: &str, place: &Place) -> Vec<Cmd> {
        let mut commands = match place.others.is_empty() {
            true => vec![self.note_removal(place)],
            false => self.unlink_others(place),
        };
        let mut remove = redis::cmd(command);
        remove.arg(&place.name);
        commands.push(remove);
        commands
    }

    fn note_removal(&self, place: &Place) -> Cmd {
        let mut note = redis::cmd("SET");
        note.arg(self.names.removal(&place.name))
            .arg(&self.removals.next().to_le_bytes()[..])
            .arg("PX")
            .arg(removal_life());
        note
    }

    /// Removes what the other versions of the program have of an entry, and keeps them
    /// from storing what they load of it now. Nothing where there are none.
    pub(in crate::redis) fn unlink_others(&self, place: &Place) -> Vec<Cmd> {
        if place.others.is_empty() {
            return Vec::new();
        }
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(&place.others);
        vec![self.note_removal(place), unlink]
    }

    pub(in crate::redis) async fn remove(&self, key: &EncodedKey) -> Result<bool> {
        let answer = self.some(key, |place| self.unlink(place)).await?;
        Ok(self.shrunk(key, count(&answer)))
    }

    /// Whose the removal is that is in the stamp of what was found.
    pub(in crate::redis) fn last_removal(
        &self,
        key: &EncodedKey,
        (found, stamp): &VersionedFrame,
    ) -> LastRemoval {
        let Some(stamp) = stamp else { return LastRemoval::None };
        let generation = self.marks.generation(Names::partition(key));
        match stamp.get() ^ generation ^ entry_word(found.as_ref()) {
            0 => LastRemoval::None,
            removal if self.removals.made(removal) => LastRemoval::Own,
            _ => LastRemoval::Other,
        }
    }

    pub(in crate::redis) async fn take(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        let taken = frame(self.some(key, |place| self.removing("GETDEL", place)).await?);
        self.shrunk(key, i64::from(taken.is_some()));
        Ok(taken)
    }

    pub(in crate::redis) async fn get_versioned(&self, key: &EncodedKey) -> Result<VersionedFrame> {
        let (found, removal, generation) = self.get_with_removal(key).await?;
        Ok(stamped(found, &removal, generation))
    }

    /// Removals are read before entries: what changes in between makes a stamp
    /// that nothing is stored by.
    pub(in crate::redis) async fn get_many_versioned(
        &self,
        keys: &[EncodedKey],
    ) -> Vec<Result<VersionedFrame>> {
        let removal = |_, place: &Place| {
            let mut cmd = redis::cmd("GET");
            cmd.arg(self.names.removal(&place.name));
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

    pub(in crate::redis) async fn put_if_unchanged(&self, key: &EncodedKey, frame: &Frame) -> Result<bool> {
        let partition = Names::partition(key);
        for _ in 0..ATTEMPTS {
            let answer = self.fleet.send(self.putting(key, frame)?).await?;
            self.changed(key);
            if count(&answer) != UNKNOWN_VERSION {
                return Ok(count(&answer) == 1);
            }
            self.marks.reread(partition, &self.names, &self.fleet).await?;
        }
        Err(Error::new(ErrorKind::Unavailable, "other versions begin to use the cache again and again"))
    }

    pub(in crate::redis) async fn put_many_if_unchanged(
        &self,
        entries: &[(EncodedKey, Frame)],
    ) -> Vec<Result<bool>> {
        let mut stored = Vec::with_capacity(entries.len());
        let mut rest = entries;
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(chunk_len(rest));
            rest = later;
            match chunk.iter().map(|(key, frame)| self.putting(key, frame)).collect() {
                Ok(orders) => {
                    let answers = self.fleet.exchange(orders).await.into_iter().zip(chunk);
                    for (answer, (key, frame)) in answers {
                        self.changed(key);
                        stored.push(match answer.map(|answer| count(&answer)) {
                            Ok(UNKNOWN_VERSION) => self.put_after_all(key, frame).await,
                            answer => answer.map(|count| count == 1),
                        });
                    }
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
        let belief = self.marks.belief(partition);
        let mut place = self.names.place(&belief, key);
        if !key.replaces() {
            place.others.clear();
        }
        let identity = base.get() ^ belief.generation;
        let mut labels = format!("{:08x}", belief.label);
        belief.others.iter().for_each(|label| labels += &format!(" {label:08x}"));
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(PUT_IF_UNCHANGED).arg(3 + place.others.len());
        cmd.arg(&place.name).arg(self.names.removal(&place.name)).arg(self.names.mark(partition));
        cmd.arg(&place.others).arg(format!("{:016x}", belief.generation)).arg(labels);
        cmd.arg(&identity.to_le_bytes()[..]).arg(Whole(frame));
        match self.millis_left(frame.head()) {
            Some(millis) => cmd.arg(millis),
            None => cmd.arg(""),
        };
        if key.replaces() {
            cmd.arg(&self.removals.next().to_le_bytes()[..]).arg(removal_life());
        }
        Ok(Order { partition, cmd })
    }

    /// Once more, after the mark was read anew.
    async fn put_after_all(&self, key: &EncodedKey, frame: &Frame) -> Result<bool> {
        self.marks.reread(Names::partition(key), &self.names, &self.fleet).await?;
        self.put_if_unchanged(key, frame).await
    }
}

/// How long a removal is remembered, in milliseconds.
fn removal_life() -> u64 {
    u64::try_from(REMOVAL_LIFE.as_millis()).unwrap_or(u64::MAX)
}

/// What was found, and the stamp that is made of it.
fn stamped(found: Option<Bytes>, removal: &Value, generation: u64) -> VersionedFrame {
    let removal = match removal {
        Value::BulkString(chance) => word(chance),
        _ => 0,
    };
    let stamp = EntryVersion::new(entry_word(found.as_ref()) ^ removal ^ generation);
    (found, stamp)
}

/// What of a stamp comes from the entry.
fn entry_word(found: Option<&Bytes>) -> u64 {
    found.and_then(|frame| frame.get(IDENTITY_AT..)).map_or(0, word)
}

/// Up to eight bytes as a number; those that are missing are zero.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The numbers that the removals of one tier leave behind: no other removal has
/// the same, and the tier knows its own again.
pub(in crate::redis) struct Removals {
    /// The upper half of each number, drawn by chance.
    tier: u32,
    /// The lower half.
    count: AtomicU32,
}

impl Removals {
    pub(in crate::redis) fn new() -> Self {
        let chance = chance();
        // Never zero, which stands for no removal.
        Self { tier: (chance >> 32) as u32 | 1, count: AtomicU32::new(chance as u32) }
    }

    fn next(&self) -> u64 {
        u64::from(self.tier) << 32 | u64::from(self.count.fetch_add(1, Ordering::Relaxed))
    }

    fn made(&self, removal: u64) -> bool {
        (removal >> 32) as u32 == self.tier
    }
}
