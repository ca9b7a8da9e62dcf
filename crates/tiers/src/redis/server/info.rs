//! What there is on a server, and what the server says of itself.

use std::collections::HashSet;
use std::time::Instant;

use larder_core::stats::ServerFacts;
use larder_core::tier::Usage;
use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};

use crate::redis::Inner;
use crate::redis::keys::names::{Named, Names};
use crate::redis::keys::partition_epochs::{PartitionEpochs, exchange};
use crate::redis::pages::page;
use crate::redis::topology::shard::Shard;

/// Pages of keys that a survey looks at; beyond it estimates.
const SAMPLE_PAGES: u64 = 20;
/// Keys a page of a survey, about.
const SAMPLE_PAGE: usize = 1000;
/// Entries of a sample that are measured.
const MEASURED: usize = 100;

/// What a survey found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    usage: Usage,
    /// Entries of former generations were seen.
    orphans: bool,
    /// Keys of an earlier build were seen.
    former: bool,
}

impl Inner {
    pub(in crate::redis) async fn survey(
        &self,
        shard: &Shard,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        // Also where it fails: the next one waits its turn.
        shard.with_counted(|counted| (counted.changed, counted.at) = (false, Some(Instant::now())));
        let found = survey(&self.names, &self.marks, connection).await?;
        let info: String = redis::cmd("INFO").query_async(connection).await.unwrap_or_default();
        shard.with_counted(|counted| {
            counted.usage = found.usage;
            // Once: those of earlier builds stay for a while.
            counted.orphans = found.orphans || found.former && !counted.former;
            counted.former |= found.former;
            counted.server = facts(&info).or(counted.server.take());
        });
        Ok(())
    }
}

/// Counts the entries, where the database has up to 20,000 keys; else
/// estimates them from that many. Costs up to 23 round trips.
async fn survey(
    names: &Names,
    marks: &PartitionEpochs,
    connection: &mut MultiplexedConnection,
) -> RedisResult<Found> {
    let total: u64 = redis::cmd("DBSIZE").query_async(connection).await?;
    let pattern = format!("{}*", names.prefix());
    let (mut ours, mut orphans, mut former, mut cursor, mut looked_at) = (HashSet::new(), false, false, 0, 0);
    for _ in 0..SAMPLE_PAGES {
        let (next, keys) = page(connection, cursor, &pattern, SAMPLE_PAGE).await?;
        for key in keys {
            match names.read(&key) {
                Some(Named::Entry { partition, generation, label, .. }) => {
                    let belief = marks.belief(partition);
                    let is_read = generation == belief.generation && belief.lists(label);
                    orphans |= !is_read;
                    if is_read && label == belief.label {
                        ours.insert(key);
                    }
                }
                Some(Named::Former) => former = true,
                _ => {}
            }
        }
        looked_at += SAMPLE_PAGE as u64;
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    let counted = ours.len() as u64;
    let entries =
        if cursor == 0 { counted } else { counted.saturating_mul(total.max(looked_at)) / looked_at };
    let sample: Vec<_> = ours.iter().take(MEASURED).collect();
    let measured = measure(&sample, connection).await?;
    let bytes = measured.saturating_mul(entries) / (sample.len().max(1) as u64);
    Ok(Found { usage: Usage { entries, bytes, evictions: 0 }, orphans, former })
}

/// The lengths of these values, summed.
async fn measure(keys: &[&Vec<u8>], connection: &mut MultiplexedConnection) -> RedisResult<u64> {
    if keys.is_empty() {
        return Ok(0);
    }
    let mut pipe = redis::Pipeline::new();
    for key in keys {
        pipe.cmd("STRLEN").arg(*key);
    }
    let lengths = exchange(connection, &pipe).await?.into_iter();
    Ok(lengths.map(|len| if let Value::Int(len) = len { u64::try_from(len).unwrap_or(0) } else { 0 }).sum())
}

/// What `INFO` says; `None` where the user may not ask for it.
fn facts(info: &str) -> Option<ServerFacts> {
    let field = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
    };
    let number = |name| field(name).parse().unwrap_or(0);
    let facts = || ServerFacts::new(field("redis_version"), number("used_memory"), number("maxmemory"));
    (!info.is_empty()).then(facts)
}
