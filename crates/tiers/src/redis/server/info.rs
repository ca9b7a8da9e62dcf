//! Surveys a server: counts the entries of this cache, and reads the server's own facts.

use std::collections::HashSet;
use std::time::Instant;

use larder_core::stats::ServerFacts;
use larder_core::tier::Usage;
use redis::{RedisResult, Value};

use crate::redis::Inner;
use crate::redis::connection::channel::Channel;
use crate::redis::keys::names::{KeyName, KeyNames};
use crate::redis::keys::partition_epochs::{PartitionEpochs, send_pipeline};
use crate::redis::pages::page;
use crate::redis::topology::shard::Shard;

/// The maximum number of key pages that a survey reads; beyond it the survey estimates.
const SAMPLE_PAGES: u64 = 20;
/// Approximate number of keys in a page.
const SAMPLE_PAGE: usize = 1000;
/// Entries whose size is measured.
const MEASURED: usize = 100;

/// The result of a survey.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    usage: Usage,
    /// Whether entries of former epochs were seen.
    orphans: bool,
    /// Whether keys of an earlier build were seen.
    former: bool,
}

impl Inner {
    pub(in crate::redis) async fn survey(&self, shard: &Shard, connection: &mut Channel) -> RedisResult<()> {
        // Set even if the survey fails, so that it is not repeated at once.
        shard.with_survey(|survey| (survey.changed, survey.at) = (false, Some(Instant::now())));
        let found = survey(&self.names, &self.epochs, connection).await?;
        let info: String = redis::cmd("INFO").query_async(connection).await.unwrap_or_default();
        shard.with_survey(|survey| {
            survey.usage = found.usage;
            // Swept once: the keys of earlier builds stay for a while.
            survey.orphans = found.orphans || found.former && !survey.former;
            survey.former |= found.former;
            survey.server = facts(&info).or(survey.server.take());
        });
        Ok(())
    }
}

/// Counts the entries if the database has up to 20,000 keys; otherwise estimates them from such a sample.
/// Costs up to 23 round trips.
async fn survey(names: &KeyNames, epochs: &PartitionEpochs, connection: &mut Channel) -> RedisResult<Found> {
    let total: u64 = redis::cmd("DBSIZE").query_async(connection).await?;
    let pattern = format!("{}*", names.prefix());
    let (mut ours, mut orphans, mut former, mut cursor, mut looked_at) = (HashSet::new(), false, false, 0, 0);
    for _ in 0..SAMPLE_PAGES {
        let (next, keys) = page(connection, cursor, &pattern, SAMPLE_PAGE).await?;
        for key in keys {
            match names.read(&key) {
                Some(KeyName::Entry { partition, epoch, label, .. }) => {
                    let record = epochs.record(partition);
                    let is_read = epoch == record.epoch && record.lists(label);
                    orphans |= !is_read;
                    if is_read && label == record.label {
                        ours.insert(key);
                    }
                }
                Some(KeyName::Former) => former = true,
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

/// The sum of the lengths of these values.
async fn measure(keys: &[&Vec<u8>], connection: &mut Channel) -> RedisResult<u64> {
    if keys.is_empty() {
        return Ok(0);
    }
    let mut pipe = redis::Pipeline::new();
    for key in keys {
        pipe.cmd("STRLEN").arg(*key);
    }
    let lengths = send_pipeline(connection, &pipe).await?.into_iter();
    Ok(lengths.map(|len| if let Value::Int(len) = len { u64::try_from(len).unwrap_or(0) } else { 0 }).sum())
}

/// Parses the answer to `INFO`; `None` if the user may not ask for it.
fn facts(info: &str) -> Option<ServerFacts> {
    let field = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
    };
    let number = |name| field(name).parse().unwrap_or(0);
    let facts = || ServerFacts::new(field("redis_version"), number("used_memory"), number("maxmemory"));
    (!info.is_empty()).then(facts)
}
