//! Implements the operations of the tier by commands.

use larder_core::frame::{Frame, FrameError, Head};
use larder_core::key::EncodedKey;
use larder_core::tier::Usage;
use larder_core::{Bytes, Error, ErrorKind, Result};
use redis::{Cmd, ToRedisArgs, Value};

use crate::redis::Inner;
use crate::redis::keys::names::KeyNames;
use crate::redis::request::frame;

/// The largest value that Redis accepts, in bytes.
pub(in crate::redis) const FRAME_BYTES_MAX: u64 = 512 << 20;
/// Bytes of a frame that are read to get its head.
const HEAD_BYTES: usize = 4096;

impl Inner {
    pub(in crate::redis) async fn put(&self, key: &EncodedKey, frame: &Frame) -> Result<()> {
        check_len(frame)?;
        self.store(key, frame).await?;
        self.mark_changed(key);
        Ok(())
    }

    pub(in crate::redis) async fn contains(&self, key: &EncodedKey) -> Result<bool> {
        match self.send_for_key(key, |name| key_command("STRLEN", name)).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(false),
            answer => Ok(matches!(answer?, Value::Int(len) if len > 0)),
        }
    }

    pub(in crate::redis) async fn head(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        let start = match self.send_for_key(key, |name| start(name)).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => None,
            answer => frame(answer?).filter(|start| !start.is_empty()),
        };
        match &start {
            Some(bytes) if is_truncated(bytes) => self.get(key).await,
            _ => Ok(start),
        }
    }

    pub(in crate::redis) async fn clear(&self) -> Result<()> {
        let now = self.time(0).unwrap_or_else(|| self.clock.now());
        self.epochs.renew(&self.names, now, &self.topology).await?;
        for shard in self.topology.shards() {
            shard.with_survey(|survey| survey.usage = Usage::default());
        }
        Ok(())
    }

    /// Records that an entry was written, so that the next survey is due.
    pub(in crate::redis) fn mark_changed(&self, key: &EncodedKey) {
        if let Ok(shard) = self.topology.shard(KeyNames::partition(key)) {
            shard.with_survey(|survey| survey.changed = true);
        }
    }

    /// Subtracts `count` removed entries from the usage; returns whether there were any.
    pub(in crate::redis) fn subtract_removed(&self, key: &EncodedKey, count: i64) -> bool {
        if let Ok(shard) = self.topology.shard(KeyNames::partition(key)) {
            shard.with_survey(|survey| {
                let usage = &mut survey.usage;
                // The survey may not include the latest writes.
                let known = u64::try_from(count).unwrap_or(0).min(usage.entries);
                usage.bytes -= (usage.bytes / usage.entries.max(1)) * known;
                usage.entries -= known;
            });
        }
        count > 0
    }

    /// The usage on all servers, as of the last surveys.
    pub(in crate::redis) fn usage(&self) -> Usage {
        if self.topology.is_closed() {
            return Usage::default();
        }
        let held = self.topology.shards().into_iter().map(|shard| shard.with_survey(|survey| survey.usage));
        held.fold(Usage::default(), |sum, held| Usage {
            entries: sum.entries + held.entries,
            bytes: sum.bytes + held.bytes,
            evictions: 0,
        })
    }
}

fn key_command(command: &str, name: impl ToRedisArgs) -> Cmd {
    let mut cmd = redis::cmd(command);
    cmd.arg(name);
    cmd
}

/// The command that reads the beginning of a frame.
pub(in crate::redis) fn start(name: impl ToRedisArgs) -> Cmd {
    let mut cmd = key_command("GETRANGE", name);
    cmd.arg(0).arg(HEAD_BYTES - 1);
    cmd
}

/// Whether the head is longer than these bytes.
pub(in crate::redis) fn is_truncated(start: &[u8]) -> bool {
    start.len() == HEAD_BYTES && Head::parse(start) == Err(FrameError::Truncated)
}

pub(in crate::redis) fn check_len(frame: &Frame) -> Result<()> {
    if frame.len() as u64 <= FRAME_BYTES_MAX {
        return Ok(());
    }
    let message = format!("the frame has {} bytes; Redis allows {FRAME_BYTES_MAX}", frame.len());
    Err(Error::new(ErrorKind::TooLarge, message))
}

pub(in crate::redis) fn count(answer: &Value) -> i64 {
    match answer {
        Value::Int(count) => *count,
        _ => 0,
    }
}
