//! Reading many keys in one call.

use std::sync::Arc;

use larder_core::Result;
use larder_core::erased::{AnyLookup, Value};
use larder_core::key::EncodedKey;
use larder_core::tier::VersionedFrame;

use crate::engine::Engine;
use crate::read::walk::{PASSES, Question, Walk};
use crate::read::{Found, Read};
use crate::tier_stack::tier_handle::TierHandle;
use crate::write::precondition::Precondition;
use larder_exec::runtime::Runtime;

/// A key that memory does not have: its index in the request, and its encoding.
pub(crate) struct Missing {
    pub(crate) at: usize,
    pub(crate) encoded: EncodedKey,
    pub(crate) hash: u64,
}

/// A key that the tiers were asked for.
pub(crate) struct Sought {
    pub(crate) at: usize,
    /// The precondition for storing, if the read starts a load.
    pub(crate) precondition: Precondition,
    pub(crate) found: Option<Found>,
}

/// A key that no tier has answered yet.
struct Open<'a> {
    at: usize,
    walk: Walk<'a>,
    read: Read,
}

impl Engine {
    /// Returns the values of keys that memory does not have, in the order of the keys. A tier that
    /// fails counts as having none.
    pub(crate) async fn get_many<W: Runtime>(
        self: &Arc<Self>,
        keys: &[&dyn AnyLookup],
    ) -> Vec<Option<Value>> {
        let mut values = vec![None; keys.len()];
        for key in keys {
            self.release_expired(*key);
            self.observe_request(*key);
        }
        let missing = self.all_missing(keys);
        let mut found = 0;
        for (at, value) in self.seek_fresh::<W>(missing).await {
            values[at] = Some(value);
            found += 1;
        }
        self.counters.misses.add((keys.len() - found) as u64);
        values
    }

    fn all_missing(&self, keys: &[&dyn AnyLookup]) -> Vec<Missing> {
        self.missing(keys.iter().copied().enumerate())
    }

    /// Encodes the keys to look up beyond memory.
    pub(crate) fn missing<'a>(&self, keys: impl Iterator<Item = (usize, &'a dyn AnyLookup)>) -> Vec<Missing> {
        if self.tiers().is_empty() || self.is_closed() {
            return Vec::new();
        }
        keys.filter_map(|(at, key)| {
            let encoded = self.encode_key(key).ok().flatten()?;
            Some(Missing { at, encoded, hash: self.key_locks.hash(key) })
        })
        .collect()
    }

    /// Reads the fresh values from the byte tiers.
    pub(crate) async fn seek_fresh<W: Runtime>(
        self: &Arc<Self>,
        missing: Vec<Missing>,
    ) -> Vec<(usize, Value)> {
        let sought = self.seek_many::<W>(missing, false).await.into_iter();
        sought.filter_map(|sought| Some((sought.at, sought.found?.into_fresh()?))).collect()
    }

    /// Reads keys from the byte tiers in one section. If it is `for_load`, the preconditions are the
    /// versions that the entries had in the shared tier.
    pub(crate) async fn seek_many<W: Runtime>(
        self: &Arc<Self>,
        missing: Vec<Missing>,
        for_load: bool,
    ) -> Vec<Sought> {
        if missing.is_empty() {
            return Vec::new();
        }
        let engine = Arc::clone(self);
        let section = async move {
            if engine.coherence.reads_one_by_one() {
                return engine.read_one_by_one(missing, for_load).await;
            }
            engine.read_together(missing, for_load).await
        };
        self.drive::<W, _>(true, section).await.unwrap_or_default()
    }

    /// Reads key by key: where copies in memory are validated by version, each key needs its own
    /// version first.
    async fn read_one_by_one(self: &Arc<Self>, missing: Vec<Missing>, for_load: bool) -> Vec<Sought> {
        let mut sought = Vec::with_capacity(missing.len());
        for Missing { at, encoded, hash } in missing {
            let (precondition, found) = match for_load {
                true => self.read_versioned(&encoded, hash).await,
                false => (Precondition::None, self.read(&encoded, hash).await),
            };
            sought.push(Sought { at, precondition, found: found.ok().flatten() });
        }
        sought
    }

    /// Asks each tier once for all keys that the nearer tiers did not have. Repeats the pass for
    /// the keys that need it.
    async fn read_together(self: &Arc<Self>, missing: Vec<Missing>, for_load: bool) -> Vec<Sought> {
        let Some(stack) = &self.stack else { return Vec::new() };
        self.retry_due().await;
        let mut answers: Vec<(Precondition, Option<Found>)> = Vec::new();
        answers.resize_with(missing.len(), || (Precondition::Unknown, None));
        let mut asked: Vec<usize> = (0..missing.len()).collect();
        for _ in 0..PASSES {
            let mut open = Vec::with_capacity(asked.len());
            for at in asked {
                let key = &missing[at];
                let walk = Walk::begin(self, stack, (&key.encoded, key.hash)).await;
                open.push(Open { at, walk, read: Read::new(for_load) });
            }
            asked = self.pass_together(open, &mut answers).await;
            if asked.is_empty() {
                break;
            }
        }
        let sought = missing.into_iter().zip(answers).map(|(Missing { at, .. }, (version, found))| {
            let precondition = if for_load { version } else { Precondition::None };
            Sought { at, precondition, found }
        });
        sought.collect()
    }

    /// Makes one pass over the tiers. Returns the keys that need another pass.
    async fn pass_together(
        self: &Arc<Self>,
        mut open: Vec<Open<'_>>,
        answers: &mut [(Precondition, Option<Found>)],
    ) -> Vec<usize> {
        open.retain_mut(|open| {
            let Some(found) = open.read.begin(&open.walk) else { return true };
            answers[open.at] = (open.read.precondition, Some(found));
            false
        });
        for handle in self.tiers() {
            let (asked, mut next): (Vec<_>, Vec<_>) =
                open.into_iter().partition(|open| open.walk.may_ask(handle));
            let keys: Vec<EncodedKey> = asked.iter().map(|open| open.walk.key.clone()).collect();
            let with_versions = asked.first().is_some_and(|open| open.read.asks_for_version(handle));
            let frames = frames(handle, &keys, with_versions).await;
            for (mut open, frame) in asked.into_iter().zip(frames) {
                let Open { at, walk, read } = &mut open;
                let found = match frame {
                    Ok(frame) => read.take(walk, handle, frame).await,
                    // A tier that fails counts as having none. Its layer has counted the failure.
                    Err(error) => {
                        walk.failed(handle, error);
                        None
                    }
                };
                match found {
                    Some(found) => answers[*at] = (read.precondition, Some(found)),
                    None => next.push(open),
                }
            }
            open = next;
        }
        let mut again = Vec::new();
        for Open { at, walk, mut read } in open {
            let found = read.fall_back(&walk);
            if found.is_none() && walk.is_to_be_repeated() {
                again.push(at);
            }
            answers[at] = (read.precondition, found);
        }
        again
    }
}

/// Reads the frames of `keys`, with their versions if that is asked for.
async fn frames(
    handle: &TierHandle,
    keys: &[EncodedKey],
    with_versions: bool,
) -> Vec<Result<VersionedFrame>> {
    if with_versions {
        return handle.get_many_versioned(keys).await;
    }
    let frames = handle.get_many(keys).await.into_iter();
    frames.map(|frame| frame.map(VersionedFrame::unversioned)).collect()
}
