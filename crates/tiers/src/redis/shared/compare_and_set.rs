//! Compare-and-set: changes that are atomic among all nodes.
//!
//! The version of an entry is computed from its frame, the tombstone of its last removal, and the epoch of
//! its partition. A conditional write therefore never overwrites a later change, and never revives an entry
//! that was removed meanwhile. A tombstone lives for [`REMOVAL_LIFE`]; a version older than that must not be
//! used.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use larder_core::frame::{FIXED_LEN, Frame};
use larder_core::key::EncodedKey;
use larder_core::tier::{
    ConditionalPut, EntryVersion, LastRemoval, PutOptions, RemovalCause, VersionedFrame,
};
use larder_core::{Bytes, Error, ErrorKind, Result};
use redis::{Cmd, Value};

use crate::redis::Inner;
use crate::redis::batch::{KEYS_MAX, chunk_len};
use crate::redis::calls::{check_len, count};
use crate::redis::keys::names::{EntryNames, KeyNames};
use crate::redis::keys::partition_epochs::random;
use crate::redis::request::{FrameArg, frame};
use crate::redis::topology::router::RoutedCmd;

/// How long a tombstone lives. A version that was read longer ago must not be required of a write.
pub(in crate::redis) const REMOVAL_LIFE: Duration = Duration::from_secs(60);

/// Offset of the head checksum in a frame; it differs between different frames.
const IDENTITY_AT: usize = FIXED_LEN - 8;

/// Stores a frame, or removes the entry, if the entry and its tombstone are unchanged.
///
/// Keys: entry, tombstone, epoch record, then the entries of the other versions to replace. Arguments: the
/// epoch; the label of this version and those of the others, separated by spaces; the expected entry and
/// tombstone words, combined by XOR; the frame, empty for a removal; its lifetime in milliseconds or nothing;
/// and, if it removes an entry or replaces entries of other versions, a tombstone and its lifetime.
/// Returns 1 if the entry was changed, 0 if something else had changed it, 2 if a program version is in use
/// that the caller does not know, and 3 for a removal of an absent entry.
const COMPARE_AND_SET: &str = "\
    local function text(answer) return type(answer) == 'string' and answer or '' end \
    local record, known, is_listed = text(redis.pcall('GET', KEYS[3])), {}, false \
    if record:sub(1, 16) ~= ARGV[1] then return 0 end \
    for label in ARGV[2]:gmatch('%x+') do known[label] = true end \
    for label in record:sub(17):gmatch('@(%x+)@') do \
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
    local answer = 1 \
    if ARGV[4] == '' then if redis.call('UNLINK', KEYS[1]) == 0 then answer = 3 end \
    elseif ARGV[5] ~= '' then redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5]) \
    else redis.call('SET', KEYS[1], ARGV[4]) end \
    if #KEYS > 3 or ARGV[4] == '' then redis.call('SET', KEYS[2], ARGV[6], 'PX', ARGV[7]) end \
    for at = 4, #KEYS do redis.call('UNLINK', KEYS[at]) end \
    return answer";

/// The script's result for an unknown program version.
const UNKNOWN_VERSION: i64 = 2;

/// The script's result for the removal of an absent entry.
const WAS_ABSENT: i64 = 3;

/// What a conditional change does.
#[derive(Clone, Copy)]
enum ConditionalChange<'a> {
    Put(&'a Frame),
    Remove(RemovalCause),
}

/// How many times a write is retried because another program version began to use the cache.
const ATTEMPTS: u32 = 8;

impl Inner {
    /// The commands that remove an entry. The tombstone is written before the entry is unlinked: a reader
    /// between the two sees an entry that is about to go, with a version that no longer matches.
    ///
    /// Not a script: with a script, the server would notify this node of its own change.
    pub(in crate::redis) fn unlink(&self, entry: &EntryNames) -> Vec<Cmd> {
        self.removal_commands("UNLINK", entry)
    }

    fn removal_commands(&self, command: &str, entry: &EntryNames) -> Vec<Cmd> {
        let mut commands = match entry.others.is_empty() {
            true => vec![self.write_tombstone(entry)],
            false => self.unlink_others(entry),
        };
        let mut remove = redis::cmd(command);
        remove.arg(&entry.name);
        commands.push(remove);
        commands
    }

    fn write_tombstone(&self, entry: &EntryNames) -> Cmd {
        let mut note = redis::cmd("SET");
        note.arg(self.names.tombstone(&entry.name))
            .arg(&self.tombstones.next().to_le_bytes()[..])
            .arg("PX")
            .arg(removal_life());
        note
    }

    /// The commands that remove the entries of other program versions, and prevent them from storing values
    /// that they are loading now. Empty if there are no other versions.
    pub(in crate::redis) fn unlink_others(&self, entry: &EntryNames) -> Vec<Cmd> {
        if entry.others.is_empty() {
            return Vec::new();
        }
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(&entry.others);
        vec![self.write_tombstone(entry), unlink]
    }

    pub(in crate::redis) async fn remove(&self, key: &EncodedKey) -> Result<bool> {
        let answer = self.send_all_for_key(key, |entry| self.unlink(entry)).await?;
        Ok(self.subtract_removed(key, count(&answer)))
    }

    /// The frame with the version computed from it, and the origin of the removal that is part of the
    /// version.
    fn versioned(&self, frame: Option<Bytes>, removal: &Value, epoch: u64) -> VersionedFrame {
        let removal = match removal {
            Value::BulkString(random) => word(random),
            _ => 0,
        };
        let last_removal = self.tombstones.origin(removal);
        let version = EntryVersion::new(entry_word(frame.as_ref()) ^ removal ^ epoch);
        VersionedFrame { frame, version, last_removal }
    }

    pub(in crate::redis) async fn take(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        let taken = frame(self.send_all_for_key(key, |entry| self.removal_commands("GETDEL", entry)).await?);
        self.subtract_removed(key, i64::from(taken.is_some()));
        Ok(taken)
    }

    pub(in crate::redis) async fn get_versioned(&self, key: &EncodedKey) -> Result<VersionedFrame> {
        let (found, removal, epoch) = self.get_with_tombstone(key).await?;
        Ok(self.versioned(found, &removal, epoch))
    }

    /// Reads tombstones before entries: a change in between yields a version that no write matches.
    pub(in crate::redis) async fn get_many_versioned(
        &self,
        keys: &[EncodedKey],
    ) -> Vec<Result<VersionedFrame>> {
        let removal = |_, entry: &EntryNames| {
            let mut cmd = redis::cmd("GET");
            cmd.arg(self.names.tombstone(&entry.name));
            vec![cmd]
        };
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(KEYS_MAX) {
            let keys: Vec<_> = keys.iter().collect();
            let answers = self.send_for_keys(&keys, true, Some(&removal)).await.into_iter();
            found.extend(answers.map(|answer| {
                answer.map(|answer| self.versioned(frame(answer.value), &answer.command, answer.epoch))
            }));
        }
        found
    }

    pub(in crate::redis) async fn compare_and_set(
        &self,
        key: &EncodedKey,
        frame: &Frame,
        options: PutOptions,
    ) -> Result<bool> {
        Ok(self.change_if(key, || self.put_command(key, frame, options)).await? != 0)
    }

    pub(in crate::redis) async fn compare_and_remove(
        &self,
        key: &EncodedKey,
        if_version: EntryVersion,
        cause: RemovalCause,
    ) -> Result<bool> {
        // The entry of another program version may still be right.
        let options = PutOptions { if_version, all_program_versions: cause == RemovalCause::Requested };
        let change = || Ok(self.change_command(key, ConditionalChange::Remove(cause), options));
        let changed = self.change_if(key, change).await?;
        self.subtract_removed(key, i64::from(changed != 0 && changed != WAS_ABSENT));
        Ok(changed != 0)
    }

    /// Sends the command of a conditional change, again after a new program version was found. Returns the
    /// script's result.
    async fn change_if(&self, key: &EncodedKey, command: impl Fn() -> Result<RoutedCmd>) -> Result<i64> {
        let partition = KeyNames::partition(key);
        for _ in 0..ATTEMPTS {
            let answer = self.topology.send(command()?).await?;
            self.mark_changed(key);
            if count(&answer) != UNKNOWN_VERSION {
                return Ok(count(&answer));
            }
            self.epochs.reread(partition, &self.names, &self.topology).await?;
        }
        let message = format!("another program version registered during each of {ATTEMPTS} attempts");
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    pub(in crate::redis) async fn compare_and_set_many(&self, puts: &[ConditionalPut]) -> Vec<Result<bool>> {
        let mut stored = Vec::with_capacity(puts.len());
        let mut rest = puts;
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(chunk_len(rest));
            rest = later;
            match chunk.iter().map(|put| self.put_command(&put.key, &put.frame, put.options)).collect() {
                Ok(requests) => {
                    let answers = self.topology.exchange(requests).await.into_iter().zip(chunk);
                    for (answer, put) in answers {
                        self.mark_changed(&put.key);
                        stored.push(match answer.map(|answer| count(&answer)) {
                            Ok(UNKNOWN_VERSION) => self.retry_put(put).await,
                            answer => answer.map(|count| count == 1),
                        });
                    }
                }
                // An oversized frame fails alone.
                Err(_) => {
                    for put in chunk {
                        stored.push(self.compare_and_set(&put.key, &put.frame, put.options).await);
                    }
                }
            }
        }
        stored
    }

    fn put_command(&self, key: &EncodedKey, frame: &Frame, options: PutOptions) -> Result<RoutedCmd> {
        check_len(frame)?;
        Ok(self.change_command(key, ConditionalChange::Put(frame), options))
    }

    /// The command that stores a frame, or removes the entry.
    fn change_command(
        &self,
        key: &EncodedKey,
        change: ConditionalChange<'_>,
        options: PutOptions,
    ) -> RoutedCmd {
        let PutOptions { if_version, all_program_versions } = options;
        let partition = KeyNames::partition(key);
        let record = self.epochs.record(partition);
        let mut entry = self.names.entry_names(&record, key);
        if !all_program_versions {
            entry.others.clear();
        }
        let identity = if_version.get() ^ record.epoch;
        let mut labels = format!("{:08x}", record.label);
        record.others.iter().for_each(|label| labels += &format!(" {label:08x}"));
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(COMPARE_AND_SET).arg(3 + entry.others.len());
        cmd.arg(&entry.name).arg(self.names.tombstone(&entry.name)).arg(self.names.record(partition));
        cmd.arg(&entry.others).arg(format!("{:016x}", record.epoch)).arg(labels);
        cmd.arg(&identity.to_le_bytes()[..]);
        let (mut millis_left, mut tombstone) = (None, all_program_versions.then(|| self.tombstones.next()));
        match change {
            ConditionalChange::Put(frame) => {
                cmd.arg(FrameArg(frame));
                millis_left = self.millis_left(frame.head());
            }
            ConditionalChange::Remove(cause) => {
                cmd.arg("");
                tombstone = Some(self.tombstones.of(cause));
            }
        }
        match millis_left {
            Some(millis) => cmd.arg(millis),
            None => cmd.arg(""),
        };
        if let Some(tombstone) = tombstone {
            cmd.arg(&tombstone.to_le_bytes()[..]).arg(removal_life());
        }
        RoutedCmd { partition, cmd }
    }

    /// Retries after rereading the epoch record.
    async fn retry_put(&self, put: &ConditionalPut) -> Result<bool> {
        self.epochs.reread(KeyNames::partition(&put.key), &self.names, &self.topology).await?;
        self.compare_and_set(&put.key, &put.frame, put.options).await
    }
}

/// The lifetime of a tombstone, in milliseconds.
pub(in crate::redis) fn removal_life() -> u64 {
    u64::try_from(REMOVAL_LIFE.as_millis()).unwrap_or(u64::MAX)
}

/// The part of a version that comes from the entry.
fn entry_word(found: Option<&Bytes>) -> u64 {
    found.and_then(|frame| frame.get(IDENTITY_AT..)).map_or(0, word)
}

/// Up to eight bytes as a little-endian number; missing bytes are zero.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The tombstone values of one tier. They are unique, and the tier recognises its own.
pub(in crate::redis) struct Tombstones {
    /// The upper half of each value, chosen at random.
    tier: u32,
    /// The lower half.
    count: AtomicU32,
}

impl Tombstones {
    pub(in crate::redis) fn new() -> Self {
        let random = random();
        // Never zero, which means no removal.
        Self { tier: (random >> 32) as u32 | 1, count: AtomicU32::new(random as u32) }
    }

    fn next(&self) -> u64 {
        u64::from(self.tier) << 32 | u64::from(self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// The tombstone of a removal. That of an outdated entry has an upper half of zero.
    fn of(&self, cause: RemovalCause) -> u64 {
        match cause {
            // Zero would mean no removal.
            RemovalCause::Requested | RemovalCause::Outdated(0) => self.next(),
            RemovalCause::Outdated(identity) => u64::from(identity),
        }
    }

    fn origin(&self, tombstone: u64) -> LastRemoval {
        match ((tombstone >> 32) as u32, tombstone as u32) {
            (0, 0) => LastRemoval::None,
            (0, identity) => LastRemoval::Outdated(identity),
            (tier, _) if tier == self.tier => LastRemoval::Own,
            _ => LastRemoval::Other,
        }
    }
}
