//! Which entries a filter lets pass.

use larder_core::clock::Time;

use super::EntryRecord;
use crate::args::Filter;

impl Filter {
    /// Whether nothing is filtered out.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { tag, tier, kind, min_size, max_size, older, newer, expires_within, state, text } = self;
        let sizes = [min_size, max_size].iter().any(|size| size.is_some());
        let spans = [older, newer, expires_within].iter().any(|span| span.is_some());
        tag.is_empty()
            && !sizes
            && !spans
            && tier.is_none()
            && kind.is_none()
            && state.is_none()
            && text.is_none()
    }

    /// Whether the entry passes.
    pub(crate) fn accepts(&self, entry: &EntryRecord, now: Time) -> bool {
        let age = now.since(entry.header.created);
        let has_tag = |wanted: &String| entry.meta.tags.iter().any(|tag| tag.as_str() == wanted);
        (self.tag.is_empty() || self.tag.iter().any(has_tag))
            && self.tier.is_none_or(|tier| entry.tier == tier)
            && self.kind.is_none_or(|kind| entry.header.kind == kind)
            && self.min_size.is_none_or(|size| entry.bytes >= size)
            && self.max_size.is_none_or(|size| entry.bytes <= size)
            && self.older.is_none_or(|span| age >= span)
            && self.newer.is_none_or(|span| age <= span)
            && self.expires_within.is_none_or(|span| entry.meta.until() <= soon(now, span))
            && self.state.is_none_or(|state| entry.state == state)
            && self.text.as_ref().is_none_or(|text| entry.key_text().text.contains(text.as_str()))
    }
}

/// A moment before which an entry must expire: one that never expires does not.
fn soon(now: Time, span: std::time::Duration) -> Time {
    now.after(span).min(Time::from_millis(u64::MAX - 1))
}
