//! What there is, and what should not be there any more.
//!
//! Both look at keys page by page (`SCAN`), never at all of them at once.

use std::collections::HashSet;
use std::time::Duration;

use larder_core::tier::Usage;
use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};

use super::marks::{Marks, exchange, read_all};
use super::names::{Named, Names};

/// Pages of keys that a survey looks at; beyond it estimates.
const SAMPLE_PAGES: u64 = 20;
/// Keys a page of a survey, about.
const SAMPLE_PAGE: usize = 1000;
/// Entries of a sample that are measured.
const MEASURED: usize = 100;
/// Keys a page of a sweep or a scan, about.
pub(super) const PAGE: usize = 500;
/// Between two pages of a sweep or a renewal, so that it stays in the background.
pub(super) const BREATH: Duration = Duration::from_millis(2);

/// What a survey found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) usage: Usage,
    /// Entries of former generations were seen.
    pub(super) orphans: bool,
}

/// Counts the entries, where the database has up to 20,000 keys; else
/// estimates them from that many. Costs up to 23 round trips.
pub(super) async fn survey(
    names: &Names,
    marks: &Marks,
    connection: &mut MultiplexedConnection,
) -> RedisResult<Found> {
    let total: u64 = redis::cmd("DBSIZE").query_async(connection).await?;
    let pattern = format!("{}*", names.prefix());
    let (mut ours, mut orphans, mut cursor, mut looked_at) = (HashSet::new(), false, 0, 0);
    for _ in 0..SAMPLE_PAGES {
        let (next, keys) = page(connection, cursor, Some(&pattern), SAMPLE_PAGE).await?;
        for key in keys {
            if let Some(Named::Entry { partition, generation, .. }) = names.read(&key) {
                let current = generation == marks.generation(partition);
                orphans |= !current;
                if current {
                    ours.insert(key);
                }
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
    Ok(Found { usage: Usage { entries, bytes, evictions: 0 }, orphans })
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

/// One page of keys, with the cursor of the next; zero at the end.
pub(super) async fn page(
    connection: &mut MultiplexedConnection,
    cursor: u64,
    pattern: Option<&str>,
    count: usize,
) -> RedisResult<(u64, Vec<Vec<u8>>)> {
    let mut scan = redis::cmd("SCAN");
    scan.arg(cursor);
    if let Some(pattern) = pattern {
        scan.arg("MATCH").arg(pattern);
    }
    scan.arg("COUNT").arg(count).query_async(connection).await
}

/// Unlinks the entries of former generations.
///
/// A page is read before the marks are: an entry whose generation is not the
/// mark's by then is of a former one, as generations never come back.
pub(super) async fn sweep(names: &Names, connection: &mut MultiplexedConnection) -> RedisResult<u64> {
    let pattern = format!("{}*", names.prefix());
    let (mut cursor, mut swept) = (0, 0);
    loop {
        let (next, keys) = page(connection, cursor, Some(&pattern), PAGE).await?;
        let current = read_all(names, connection).await?;
        let dead: Vec<_> = keys
            .into_iter()
            .filter(|key| match names.read(key) {
                Some(Named::Entry { partition, generation, .. }) => {
                    current[partition].is_some_and(|mark| mark != generation)
                }
                _ => false,
            })
            .collect();
        if !dead.is_empty() {
            swept += redis::cmd("UNLINK").arg(dead).query_async::<u64>(connection).await?;
        }
        if next == 0 {
            return Ok(swept);
        }
        cursor = next;
        tokio::time::sleep(BREATH).await;
    }
}
