//! An entry as its head describes it.

mod filter;
mod frame;
mod key_text;
mod plain;
mod value;

use clap::ValueEnum;
use larder_core::clock::Time;
use larder_core::entry_meta::{EntryMeta, Freshness};
use larder_core::frame::{CodecId, Compression, Head, Header};
use larder_core::tier::TierKind;
use serde::Serialize;

pub(crate) use key_text::KeyText;
pub(crate) use value::StoredValue;

use crate::printer::{escaped_line, moment};
use crate::source::OpenCache;

/// Whether readers get an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum EntryState {
    /// Every reader gets it.
    Fresh,
    /// A reader gets it only if its load fails or takes long.
    Stale,
    /// Its time is over. The next read removes it, unless nodes share it.
    Expired,
    /// An invalidation applies to it.
    Invalidated,
}

impl EntryState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::Invalidated => "invalidated",
        }
    }
}

/// An entry, without its value.
#[derive(Clone, Debug)]
pub(crate) struct EntryRecord {
    pub(crate) tier: TierKind,
    /// The encoded key.
    pub(crate) key: Vec<u8>,
    pub(crate) header: Header,
    pub(crate) meta: EntryMeta,
    pub(crate) state: EntryState,
    /// Bytes of the frame.
    pub(crate) bytes: u64,
    /// Bytes of the value as stored.
    pub(crate) stored: u64,
}

impl EntryRecord {
    /// Reads the head of a frame. `None` if it is not one.
    pub(crate) fn read(tier: TierKind, head: &[u8], cache: &OpenCache) -> Option<Self> {
        let head = Head::parse(head).ok()?;
        let meta = EntryMeta::read(&head.header, head.attributes)?;
        // The sequence number and the tags of a sealed entry are sealed.
        let is_readable = head.header.codec != CodecId::Sealed;
        let state = if is_readable && cache.invalidated.covers(head.header.generation, &meta.tags) {
            EntryState::Invalidated
        } else {
            match meta.freshness(cache.now) {
                Freshness::Fresh => EntryState::Fresh,
                Freshness::Stale => EntryState::Stale,
                Freshness::Gone => EntryState::Expired,
            }
        };
        Some(Self {
            tier,
            key: head.key.to_vec(),
            header: head.header,
            meta,
            state,
            bytes: head.frame_len(),
            stored: head.payload_len,
        })
    }

    pub(crate) fn key_text(&self) -> KeyText {
        KeyText::of(&self.key)
    }

    /// The time until it expires, as text: `never`, a span, or that it has expired.
    pub(crate) fn expiry(&self, now: Time) -> String {
        match self.meta.until() {
            Time::NEVER => "never".to_owned(),
            until if until <= now => "over".to_owned(),
            until => crate::printer::span(until.since(now)),
        }
    }

    /// The entry as JSON shows it.
    pub(crate) fn document(&self, now: Time) -> EntryDocument {
        let key = self.key_text();
        let header = &self.header;
        let moment = |time: Time| (time != Time::NEVER).then(|| moment(time));
        EntryDocument {
            key: key.text,
            key_value: key.value,
            key_hex: larder_core::hex::encode(&self.key),
            tier: self.tier.name(),
            kind: header.kind.name(),
            state: self.state.name(),
            frame_bytes: self.bytes,
            stored_bytes: self.stored,
            value_bytes: header.value_len,
            codec: codec(header.codec),
            compression: compression(header.compression),
            schema: header.schema,
            age_ms: millis(now.since(header.created)),
            created: moment(header.created),
            expires: moment(self.meta.until()),
            stale_until: moment(self.meta.stale_until()),
            ttl_ms: self.meta.ttl.map(millis),
            idle_ms: self.meta.idle.map(millis),
            load_cost_us: header.load_cost.map(|cost| u64::try_from(cost.as_micros()).unwrap_or(u64::MAX)),
            tags: self.meta.tags.iter().map(ToString::to_string).collect(),
        }
    }
}

/// An entry in JSON.
#[derive(Debug, Serialize)]
pub(crate) struct EntryDocument {
    key: String,
    key_value: serde_json::Value,
    key_hex: String,
    tier: &'static str,
    kind: &'static str,
    state: &'static str,
    frame_bytes: u64,
    stored_bytes: u64,
    value_bytes: u64,
    codec: &'static str,
    compression: &'static str,
    schema: u32,
    age_ms: u64,
    created: Option<String>,
    expires: Option<String>,
    stale_until: Option<String>,
    ttl_ms: Option<u64>,
    idle_ms: Option<u64>,
    load_cost_us: Option<u64>,
    tags: Vec<String>,
}

impl EntryDocument {
    /// What a selector knew of the entry, in a line.
    pub(crate) fn facts(&self) -> String {
        let cost = self.load_cost_us.map_or_else(
            || "not loaded".to_owned(),
            |cost| format!("loaded in {}", crate::printer::span(std::time::Duration::from_micros(cost))),
        );
        let bytes = crate::printer::bytes;
        let tags: Vec<String> = self.tags.iter().map(|tag| escaped_line(tag)).collect();
        let tags = if tags.is_empty() { String::new() } else { format!("; tags {}", tags.join(", ")) };
        format!(
            "{} of {}, {} stored, {cost}, version {}{tags}",
            self.kind,
            bytes(self.value_bytes),
            bytes(self.frame_bytes),
            self.schema
        )
    }
}

pub(crate) fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn codec(codec: CodecId) -> &'static str {
    match codec {
        CodecId::Raw => "raw",
        CodecId::Bincode => "bincode",
        CodecId::MessagePack => "message_pack",
        CodecId::Json => "json",
        CodecId::Numbers => "numbers",
        CodecId::Text => "text",
        CodecId::Absent => "absent",
        CodecId::Array => "array",
        CodecId::Pixels => "pixels",
        CodecId::Arrow => "arrow",
        CodecId::Sealed => "sealed",
        CodecId::Dictionary => "dictionary",
        _ => "unknown",
    }
}

pub(crate) fn compression(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Zstd => "zstd",
        Compression::Lz4 => "lz4",
        Compression::Dictionary => "dictionary",
        _ => "unknown",
    }
}
