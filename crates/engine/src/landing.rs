//! Storing what one call of a loader answered for many keys.
//!
//! What goes to the tier that nodes share goes there in one round trip a part of
//! it, each entry on the condition that nobody changed it since its load began.
//! Tickets are taken as in [`many`](crate::many): without waiting, after all code
//! of the user has run.

use std::sync::Arc;

use crate::draft::{Draft, Said};
use crate::engine::Engine;
use crate::flight::Outcome;
use crate::gate::{Claim, Leader, Ticket};
use crate::load::Lead;
use crate::many::{PART, PART_BYTES};
use crate::nodes::identity;
use crate::wait::Wait;

/// What a flight loaded, about to be stored.
struct Landing {
    leader: Leader,
    draft: Draft,
    outcome: Outcome,
}

impl Engine {
    /// Stores what one call of a loader answered, as
    /// [`publish`](Self::publish) does, and ends its flights.
    pub(crate) async fn publish_many<W: Wait>(self: &Arc<Self>, loaded: Vec<(Lead, Said)>) {
        let mut loaded = loaded.into_iter();
        while self.is_shared_now() && loaded.len() > 1 {
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

    async fn publish_part(self: &Arc<Self>, part: Vec<(Lead, Said)>) {
        let mut drafts = Vec::with_capacity(part.len());
        for (Lead { leader, encoded, stamp, .. }, said) in part {
            let outcome = said.value.clone().map_or(Outcome::Absent, Outcome::Value);
            let encoded = encoded.map(|key| self.still_based(key, &leader.flight));
            match self.draft_loaded((&leader, encoded), stamp, said).await {
                Some(draft) => drafts.push(Landing { leader, draft, outcome }),
                None => leader.end(outcome),
            }
        }
        let (together, alone) = self.claims(drafts);
        self.publish_together(together).await;
        for mut landing in alone {
            let stored = self.settle_draft(&mut landing.leader, landing.draft).await;
            self.land(landing.leader, landing.outcome, stored);
        }
    }

    /// Those that go together, with their tickets, and the rest. What changed
    /// since its load began is done with.
    #[expect(clippy::type_complexity, reason = "two lists, read once")]
    fn claims(&self, drafts: Vec<Landing>) -> (Vec<(Landing, Ticket)>, Vec<Landing>) {
        let (mut together, mut alone, mut bytes) = (Vec::new(), Vec::new(), 0);
        let home = self.shared().map(|shared| shared.slot().kind());
        for mut landing in drafts {
            let size = landing.draft.payload_for(home).filter(|size| bytes + size <= PART_BYTES);
            let Some(size) = size else {
                alone.push(landing);
                continue;
            };
            match landing.leader.claim() {
                Claim::Granted(ticket) if !self.is_closed() => {
                    bytes += size;
                    together.push((landing, ticket));
                }
                Claim::Wait(_) => alone.push(landing),
                Claim::Granted(_) | Claim::Superseded => self.land(landing.leader, landing.outcome, false),
            }
        }
        (together, alone)
    }

    async fn publish_together(&self, together: Vec<(Landing, Ticket)>) {
        let Some(shared) = self.shared() else { return };
        let (mut begun, mut frames) = (Vec::new(), Vec::new());
        for (Landing { leader, draft, outcome }, ticket) in together {
            let begins = match leader.key() {
                Some(key) => self.begin_early(shared, key, &draft).await,
                None => None,
            };
            let draft = match begins {
                Some((early, frame)) => {
                    let draft = draft.begun(early);
                    frames.push(frame);
                    draft
                }
                None => draft,
            };
            begun.push((Landing { leader, draft, outcome }, ticket));
        }
        for (encoded, frame) in &frames {
            self.expect_echo(encoded, identity(frame.head()));
        }
        let mut stored = shared.slot().put_many_if_unchanged(&frames).await.into_iter();
        for (Landing { mut leader, draft, outcome }, _ticket) in begun {
            let has_arrived = draft.early.is_some() && matches!(stored.next(), Some(Ok(true)));
            let draft = if has_arrived { draft.arrived() } else { draft };
            let stored = self.store_loaded(&mut leader, draft).await;
            drop(_ticket);
            self.land(leader, outcome, stored);
        }
    }
}
