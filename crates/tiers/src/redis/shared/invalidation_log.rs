//! The invalidation log that all nodes share: invalidations by tag, of everything, and clears.
//!
//! A sorted set has one member for each tag, one for `invalidate_all` and one for `clear`. Its score is the
//! sequence number of the last such invalidation; a hash has the times. A sequence number is the server's time in
//! microseconds, and always above the last number of the log and every number that the node knows. So the numbers rise even if the log is lost and starts again. The first exchange after a loss records that
//! everything before it was removed.

use larder_core::clock::Time;
use larder_core::invalidation::{Invalidation, InvalidationRecord, Known, SharedInvalidations};
use larder_core::tier::{BoxFuture, TierKind};
use larder_core::{Error, ErrorKind, Result};
use redis::FromRedisValue;

use crate::redis::RedisTier;
use crate::redis::topology::router::RoutedCmd;

/// The number of invalidations kept. Beyond it, the oldest, `FOLDED` more than the excess, become one clear.
const KEPT_MAX: usize = 16_384;
const FOLDED: usize = 1_024;
/// The largest sequence number: larger scores are not exact in Redis.
const STAMP_MAX: u64 = (1 << 53) - 1;

/// The first byte of a member of the set.
const CLEARED: u8 = b'c';
const ALL: u8 = b'a';
const TAG: u8 = b't';

/// Keys: the times, the invalidations. Arguments: the highest sequence number that the node received, the
/// highest that it knows, how many invalidations are kept, how many are merged beyond that, the lifetime of
/// ephemeral keys in milliseconds or nothing, then members with their times. Returns a list of member,
/// sequence number and time.
const EXCHANGE: &str = "\
    local times, invalidations, heard = KEYS[1], KEYS[2], tonumber(ARGV[1]) \
    local function only(kind, key) \
        local found = redis.call('TYPE', key).ok \
        if found ~= kind and found ~= 'none' then redis.call('DEL', key) end \
    end \
    only('hash', times) only('zset', invalidations) \
    local last = tonumber(redis.call('ZREVRANGE', invalidations, 0, 0, 'WITHSCORES')[2] or 0) \
    local now = redis.call('TIME') \
    local stamp = math.max(now[1] * 1000000 + now[2], last + 1, ARGV[2] + 1) \
    local function add(member, score, at) \
        redis.call('ZADD', invalidations, string.format('%.0f', score), member) \
        redis.call('HSET', times, member, at) \
    end \
    if last == 0 or heard > last then add('c', stamp, 0) end \
    for at = 6, #ARGV, 2 do add(ARGV[at], stamp, ARGV[at + 1]) end \
    local excess = redis.call('ZCARD', invalidations) - ARGV[3] \
    if excess > 0 then \
        local oldest = redis.call('ZRANGE', invalidations, 0, excess + ARGV[4] - 1, 'WITHSCORES') \
        for at = 1, #oldest, 2 do \
            redis.call('ZREM', invalidations, oldest[at]) \
            redis.call('HDEL', times, oldest[at]) \
        end \
        local floor = tonumber(oldest[#oldest]) \
        if tonumber(redis.call('ZSCORE', invalidations, 'c') or 0) < floor then add('c', floor, 0) end \
    end \
    if ARGV[5] ~= '' then \
        redis.call('PEXPIRE', invalidations, ARGV[5]) \
        redis.call('PEXPIRE', times, ARGV[5]) \
    end \
    local new, answer = redis.call('ZRANGEBYSCORE', invalidations, '(' .. ARGV[1], '+inf', 'WITHSCORES'), {} \
    for at = 1, #new, 2 do \
        answer[#answer + 1] = {new[at], new[at + 1], redis.call('HGET', times, new[at]) or '0'} \
    end \
    return answer";

/// Exchanges invalidations by one script, in one round trip. At most 16,384 are kept. Beyond that the oldest,
/// 1,024 more than the excess, become one clear, which removes every entry with a sequence number below the
/// highest of theirs.
impl SharedInvalidations for RedisTier {
    fn time(&self) -> Option<Time> {
        self.inner.time(0)
    }

    fn exchange<'a>(
        &'a self,
        made: &'a [(Invalidation, Time)],
        known: Known,
    ) -> BoxFuture<'a, Result<Vec<InvalidationRecord>>> {
        Box::pin(async move {
            let exchanged = self.exchanged(made, known).await;
            exchanged.map_err(|error| error.in_tier(TierKind::Redis).during("invalidate"))
        })
    }
}

impl RedisTier {
    async fn exchanged(
        &self,
        made: &[(Invalidation, Time)],
        known: Known,
    ) -> Result<Vec<InvalidationRecord>> {
        let mut script = redis::cmd("EVAL");
        script.arg(EXCHANGE).arg(2).arg(&self.inner.names.invalidated());
        script.arg(known.heard.min(STAMP_MAX)).arg(known.count.min(STAMP_MAX));
        script.arg(KEPT_MAX).arg(FOLDED);
        match self.inner.epochs.ephemeral_ttl_millis() {
            Some(millis) => script.arg(millis),
            None => script.arg(""),
        };
        for (invalidation, at) in made {
            let Some(member) = member(invalidation) else { continue };
            script.arg(member).arg(at.as_millis());
        }
        let answer = self.inner.topology.send(RoutedCmd { partition: 0, cmd: script }).await?;
        let rows: Vec<(Vec<u8>, String, String)> = Vec::from_redis_value(answer).map_err(invalid_reply)?;
        rows.into_iter().map(|(member, stamp, at)| read(member, &stamp, &at)).collect()
    }
}

/// The member for an invalidation; `None` for one that other nodes do not need.
fn member(invalidation: &Invalidation) -> Option<Vec<u8>> {
    match invalidation {
        Invalidation::Cleared => Some(vec![CLEARED]),
        Invalidation::All => Some(vec![ALL]),
        Invalidation::Tag(tag) => Some([&[TAG], tag.as_bytes()].concat()),
        Invalidation::Time => None,
    }
}

/// Parses an invalidation. An unknown member counts as a clear, since it may have meant anything.
pub(in crate::redis) fn read(member: Vec<u8>, stamp: &str, at: &str) -> Result<InvalidationRecord> {
    let stamp = stamp.parse::<f64>().map_err(invalid_reply)?;
    let at = Time::from_millis(at.parse().unwrap_or(0));
    let invalidation = match member.split_first() {
        Some((&ALL, [])) => Invalidation::All,
        Some((&TAG, tag)) => {
            std::str::from_utf8(tag).map_or(Invalidation::Cleared, |tag| Invalidation::Tag(tag.into()))
        }
        _ => Invalidation::Cleared,
    };
    Ok(InvalidationRecord { invalidation, stamp: stamp.clamp(0.0, STAMP_MAX as f64) as u64, at })
}

fn invalid_reply(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Io, format!("cannot parse the reply of Redis to a script: {error}"))
}
