//! Storing the answers of one loader call for many keys.
//!
//! Entries for a tier that does not block are written in one round trip per part: the tier that nodes share, or the
//! nearest other one. Each is stored only if the entry has not changed since its load began. The guards are taken
//! as in [`batch::write`](crate::batch::write): without waiting, after all code of the user has run.

use std::sync::Arc;

use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::tier::{ConditionalPut, EntryVersion, PutOptions};

use crate::batch::write::{PART, PART_BYTES};
use crate::coherence::identity;
use crate::engine::Engine;
use crate::key_lock::flight::Outcome;
use crate::key_lock::{FlightLeader, TryLock, WriteGuard};
use crate::load::Leader;
use crate::tier_stack::tier_handle::TierHandle;
use crate::write::precondition::Precondition;
use crate::write::prepared_entry::{NewValue, PreparedEntry};
use larder_exec::runtime::Runtime;

/// A loaded entry that is about to be stored.
struct LoadedEntry {
    leader: FlightLeader,
    prepared: PreparedEntry,
    outcome: Outcome,
}

impl Engine {
    /// Stores the answers of one loader call as [`publish`](Self::publish) does, and ends its
    /// flights.
    pub(crate) async fn publish_many<W: Runtime>(self: &Arc<Self>, loaded: Vec<(Leader, NewValue)>) {
        let mut loaded = loaded.into_iter();
        while self.takes_batches() && loaded.len() > 1 {
            let part: Vec<_> = loaded.by_ref().take(PART).collect();
            let (engine, count) = (Arc::clone(self), part.len());
            let section = Box::pin(async move { engine.publish_part(part).await });
            if self.drive::<W, _>(false, section).await.is_err() {
                // A runtime that shuts down drops the section, and the flights with it.
                self.counters.dropped.add(count as u64);
            }
        }
        for (lead, said) in loaded {
            Box::pin(self.publish::<W>(lead, said)).await;
        }
    }

    async fn publish_part(self: &Arc<Self>, part: Vec<(Leader, NewValue)>) {
        let mut drafts = Vec::with_capacity(part.len());
        for (Leader { leader, encoded, precondition, stamp, .. }, said) in part {
            let outcome = said.value.clone().map_or(Outcome::Absent, Outcome::Value);
            let precondition = self.coherence.precondition_after(precondition, &leader.flight);
            match self.prepare_loaded(&leader, encoded.map(|key| *key), stamp, said).await {
                Some(prepared) => {
                    let prepared = prepared.requiring(precondition);
                    drafts.push(LoadedEntry { leader, prepared, outcome });
                }
                None => leader.end(outcome),
            }
        }
        let (together, alone) = self.claims(drafts);
        self.publish_together(together).await;
        for mut landing in alone {
            let stored = self.store_prepared(&mut landing.leader, landing.prepared).await;
            self.finish_load(landing.leader, landing.outcome, stored);
        }
    }

    /// Splits the entries into those to store together, with their guards, and the rest. Ends the
    /// flights whose entries changed since their loads began.
    fn claims(&self, drafts: Vec<LoadedEntry>) -> (Vec<(LoadedEntry, WriteGuard)>, Vec<LoadedEntry>) {
        let (mut together, mut alone, mut bytes) = (Vec::new(), Vec::new(), 0);
        let home = self.batch_tier().map(|tier| tier.handle.kind());
        for mut landing in drafts {
            let size = landing.prepared.payload_for(home).filter(|size| bytes + size <= PART_BYTES);
            let Some(size) = size else {
                alone.push(landing);
                continue;
            };
            match landing.leader.claim() {
                TryLock::Granted(guard) if !self.is_closed() => {
                    bytes += size;
                    together.push((landing, guard));
                }
                TryLock::Locked(_) => alone.push(landing),
                TryLock::Granted(_) | TryLock::Superseded => {
                    self.finish_load(landing.leader, landing.outcome, false)
                }
            }
        }
        (together, alone)
    }

    async fn publish_together(&self, together: Vec<(LoadedEntry, WriteGuard)>) {
        let Some(tier) = self.batch_tier() else { return };
        let is_among_nodes = tier.handle.is_among_nodes();
        let (mut begun, mut frames, mut versions) = (Vec::new(), Vec::new(), Vec::new());
        for (LoadedEntry { leader, prepared, outcome }, guard) in together {
            let requires = match prepared.precondition {
                Precondition::Version(version) if is_among_nodes => Some(Some(version)),
                Precondition::None if !is_among_nodes => Some(None),
                // Without a version there is nothing to require: the entry is stored alone.
                _ => None,
            };
            let begins = match (leader.key(), requires) {
                (Some(key), Some(version)) => {
                    self.begin_early(tier, key, &prepared).await.map(|begins| (begins, version))
                }
                _ => None,
            };
            let prepared = match begins {
                Some(((early, frame), version)) => {
                    frames.push(frame);
                    versions.extend(version);
                    prepared.begun(early)
                }
                None => prepared,
            };
            begun.push((LoadedEntry { leader, prepared, outcome }, guard));
        }
        let mut stored = self.put_together(tier.handle, frames, versions).await.into_iter();
        for (LoadedEntry { mut leader, prepared, outcome }, _guard) in begun {
            let has_arrived = prepared.early.is_some() && stored.next() == Some(true);
            let prepared = if has_arrived { prepared.arrived() } else { prepared };
            let stored = self.store_loaded(&mut leader, prepared).await;
            drop(_guard);
            self.finish_load(leader, outcome, stored);
        }
    }

    /// Writes frames, each only over its version if nodes share the tier. Returns which of them were stored.
    async fn put_together(
        &self,
        handle: &TierHandle,
        frames: Vec<(EncodedKey, Frame)>,
        versions: Vec<EntryVersion>,
    ) -> Vec<bool> {
        if !handle.is_among_nodes() {
            return handle.put_many(&frames).await.iter().map(Result::is_ok).collect();
        }
        let conditional = |((key, frame), version): ((_, Frame), _)| {
            self.coherence.expect_own_write(&key, identity(frame.head()));
            ConditionalPut { key, frame, options: PutOptions::if_version(version) }
        };
        let puts: Vec<_> = frames.into_iter().zip(versions).map(conditional).collect();
        let stored = handle.compare_and_set_many(&puts).await;
        stored.into_iter().map(|stored| stored.is_ok_and(|stored| stored)).collect()
    }
}
