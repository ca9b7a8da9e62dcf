//! Metadata of an entry: deadlines, stale window, tags, validator and hints.

mod options;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Offset, Time};
use crate::frame::Header;
use crate::place::EntryHints;

pub use options::EntryOptions;

/// A label by which entries are invalidated.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

impl Tag {
    /// The text of the tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for Tag {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl std::borrow::Borrow<str> for Tag {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// How an entry may be used at a given moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freshness {
    /// Not at all: it counts as removed.
    Gone,
    /// As a fallback, if its load fails or takes long.
    Stale,
    /// By every reader.
    Fresh,
}

/// The metadata of an entry as it is stored with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryMeta {
    /// The time to live; a touch starts it again.
    pub ttl: Option<Duration>,
    /// The idle time; every use starts it again.
    pub idle: Option<Duration>,
    /// The entry is absent from this time on, used or not.
    pub deadline: Time,
    /// The entry is absent from this time on if it is not used.
    pub idle_deadline: Time,
    /// How long after that it may be served as stale.
    pub stale: Duration,
    /// Tags to invalidate it by.
    pub tags: Vec<Tag>,
    /// A validator that a later load may send to its source.
    pub validator: Option<Bytes>,
    /// The hints that the entry was written with.
    pub hints: EntryHints,
}

impl EntryMeta {
    /// The metadata of an entry without options: it does not expire.
    pub const PLAIN: Self = Self {
        ttl: None,
        idle: None,
        deadline: Time::NEVER,
        idle_deadline: Time::NEVER,
        stale: Duration::ZERO,
        tags: Vec::new(),
        validator: None,
        hints: EntryHints::NONE,
    };

    /// Whether the metadata is that of an entry without options.
    pub fn is_plain(&self) -> bool {
        *self == Self::PLAIN
    }

    /// The time from which on the entry is absent or stale.
    pub fn until(&self) -> Time {
        self.deadline.min(self.idle_deadline)
    }

    /// The time from which on it may not even be served as stale.
    pub fn stale_until(&self) -> Time {
        self.until().after(self.stale)
    }

    /// Whether the entry can expire and was `created` more than a second after `now`. Then the clock was set
    /// back since.
    pub fn is_of_the_future(&self, created: Time, now: Time) -> bool {
        self.until() != Time::NEVER && created > now.after(Duration::from_secs(1))
    }

    /// How the entry may be used at `now`, by its metadata alone.
    pub fn freshness(&self, now: Time) -> Freshness {
        freshness(self.until(), self.stale, now)
    }

    /// Encodes the attributes of a frame: the metadata that its fixed part has no room for.
    ///
    /// Each attribute is a kind (one byte), a length (two bytes, little-endian) and its content.
    pub fn attributes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, span) in [(TTL, self.ttl), (IDLE, self.idle), (STALE, Some(self.stale))] {
            if let Some(span) = span.filter(|span| !span.is_zero()) {
                attribute(&mut bytes, kind, &millis(span).to_le_bytes());
            }
        }
        if self.idle.is_some() {
            // The header holds the earlier of the two deadlines.
            attribute(&mut bytes, DEADLINE, &self.deadline.as_millis().to_le_bytes());
            attribute(&mut bytes, IDLE_DEADLINE, &self.idle_deadline.as_millis().to_le_bytes());
        }
        for tag in &self.tags {
            attribute(&mut bytes, TAG, tag.as_str().as_bytes());
        }
        if let Some(validator) = &self.validator {
            attribute(&mut bytes, VALIDATOR, validator);
        }
        if self.hints != EntryHints::NONE {
            attribute(&mut bytes, HINTS, &self.hints.to_bytes());
        }
        bytes
    }

    /// Reads the metadata of a frame with this header and these attributes; `None` if they are malformed.
    /// Unknown kinds are skipped.
    pub fn read(header: &Header, attributes: &[u8]) -> Option<Self> {
        let mut terms = Self { deadline: header.deadline, ..Self::PLAIN };
        let mut rest = attributes;
        while !rest.is_empty() {
            let (kind, bytes, after) = first(rest)?;
            terms.take(kind, bytes)?;
            rest = after;
        }
        Some(terms)
    }

    /// Converts the deadlines from another clock with `shift` to the clock that shows `now`. No deadline ends
    /// up later than a full time to live from `now`, however wrong either clock was.
    pub fn by_clock(mut self, now: Time, shift: impl Fn(Time) -> Time) -> Self {
        let bounded = |at: Time, span: Option<Duration>| match span {
            Some(span) if at != Time::NEVER => shift(at).min(now.after(span)),
            _ => shift(at),
        };
        self.deadline = bounded(self.deadline, self.ttl);
        self.idle_deadline = bounded(self.idle_deadline, self.idle);
        self
    }

    fn take(&mut self, kind: u8, bytes: &[u8]) -> Option<()> {
        let word = || Some(u64::from_le_bytes(bytes.try_into().ok()?));
        match kind {
            TTL => self.ttl = Some(Duration::from_millis(word()?)),
            IDLE => self.idle = Some(Duration::from_millis(word()?)),
            STALE => self.stale = Duration::from_millis(word()?),
            DEADLINE => self.deadline = Time::from_millis(word()?),
            IDLE_DEADLINE => self.idle_deadline = Time::from_millis(word()?),
            TAG => self.tags.push(std::str::from_utf8(bytes).ok()?.into()),
            VALIDATOR => self.validator = Some(Bytes::copy_from_slice(bytes)),
            HINTS => self.hints = EntryHints::from_bytes(bytes)?,
            _ => {}
        }
        Some(())
    }
}

/// Appends an attribute with the clock offset of the writer: how far the shared clock of the tier was ahead
/// of the clock that the frame's times are from.
pub fn write_offset(attributes: &mut Vec<u8>, offset: Offset) {
    attribute(attributes, OFFSET, &offset.as_millis().to_le_bytes());
}

/// Reads the offset that [`write_offset`] appended; `None` if there is none.
pub fn read_offset(attributes: &[u8]) -> Option<Offset> {
    let mut rest = attributes;
    loop {
        match first(rest)? {
            (OFFSET, bytes, _) => {
                return Some(Offset::from_millis(i64::from_le_bytes(bytes.try_into().ok()?)));
            }
            (_, _, after) => rest = after,
        }
    }
}

/// Splits off the first attribute: its kind, its content, and the rest.
fn first(attributes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&kind, after) = attributes.split_first()?;
    let (len, after) = after.split_first_chunk::<2>()?;
    let (bytes, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    Some((kind, bytes, after))
}

const TAG: u8 = 1;
const VALIDATOR: u8 = 2;
const TTL: u8 = 3;
const IDLE: u8 = 4;
const STALE: u8 = 5;
/// The deadline from the time to live; `IDLE_DEADLINE` is the one from the idle time.
const DEADLINE: u8 = 6;
const IDLE_DEADLINE: u8 = 7;
/// How far the shared clock was ahead of the writer's.
const OFFSET: u8 = 8;
const HINTS: u8 = 9;
/// The kind of the attributes of a sealed frame that hold its sealed head.
pub const SEALED_HEAD: u8 = 10;

/// Appends one attribute. Tags and validators are limited far below 64 KiB, so the length fits two bytes.
fn attribute(bytes: &mut Vec<u8>, kind: u8, content: &[u8]) {
    let Ok(len) = u16::try_from(content.len()) else { return };
    bytes.push(kind);
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(content);
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn freshness(until: Time, stale: Duration, now: Time) -> Freshness {
    if now < until {
        Freshness::Fresh
    } else if now < until.after(stale) {
        Freshness::Stale
    } else {
        Freshness::Gone
    }
}

/// The metadata of a record in memory; its deadlines move while the entry is used.
///
/// What a hit reads comes first, in one cache line.
#[derive(Debug)]
#[repr(C)]
pub struct LiveEntryMeta {
    deadline: AtomicU64,
    idle_deadline: AtomicU64,
    refresh_at: AtomicU64,
    has_idle: bool,
    terms: EntryMeta,
}

impl LiveEntryMeta {
    /// The metadata with a time from which on a read starts a refresh ahead of the deadline.
    pub fn new(terms: EntryMeta, refresh_at: Time) -> Self {
        Self {
            deadline: AtomicU64::new(terms.deadline.as_millis()),
            idle_deadline: AtomicU64::new(terms.idle_deadline.as_millis()),
            refresh_at: AtomicU64::new(refresh_at.as_millis()),
            has_idle: terms.idle.is_some(),
            terms,
        }
    }

    /// The metadata as it was written; the deadlines may have moved since.
    pub fn written(&self) -> &EntryMeta {
        &self.terms
    }

    /// The metadata with the current deadlines.
    pub fn current(&self) -> EntryMeta {
        EntryMeta {
            deadline: Time::from_millis(self.deadline.load(Ordering::Relaxed)),
            idle_deadline: Time::from_millis(self.idle_deadline.load(Ordering::Relaxed)),
            ..self.terms.clone()
        }
    }

    /// The time from which on the entry is absent or stale.
    #[inline]
    pub fn until(&self) -> Time {
        let deadline = self.deadline.load(Ordering::Relaxed);
        Time::from_millis(deadline.min(self.idle_deadline.load(Ordering::Relaxed)))
    }

    /// How the entry may be used at `now`, by its metadata alone.
    #[inline]
    pub fn freshness(&self, now: Time) -> Freshness {
        let until = self.until();
        if now < until { Freshness::Fresh } else { freshness(until, self.terms.stale, now) }
    }

    /// Records a use: starts the idle time again.
    #[inline]
    pub fn used(&self, now: Time) {
        if self.has_idle
            && let Some(idle) = self.terms.idle
        {
            self.idle_deadline.fetch_max(now.after(idle).as_millis(), Ordering::Relaxed);
        }
    }

    /// Sets the deadline of the time to live; the idle deadline does not change.
    pub fn expire_at(&self, deadline: Time) {
        self.deadline.store(deadline.as_millis(), Ordering::Relaxed);
    }

    /// Whether a refresh is due at `now`.
    pub fn is_refresh_due(&self, now: Time) -> bool {
        now.as_millis() >= self.refresh_at.load(Ordering::Relaxed)
    }

    /// Whether a refresh is due at `now` and the caller is the one to start it. No other caller is, until
    /// `again`.
    pub fn takes_refresh(&self, now: Time, again: Time) -> bool {
        let due = self.refresh_at.load(Ordering::Relaxed);
        now.as_millis() >= due
            && self
                .refresh_at
                .compare_exchange(due, again.as_millis(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{CodecId, Compression};
    use crate::place::{Access, Kind};
    use crate::tier::TierKind;

    fn header(terms: &EntryMeta) -> Header {
        Header {
            codec: CodecId::Raw,
            compression: Compression::None,
            kind: Kind::Other,
            schema: 0,
            shape: 0,
            created: Time::from_millis(5),
            deadline: terms.until(),
            stale_deadline: terms.stale_until(),
            generation: 0,
            value_len: 0,
            load_cost: None,
        }
    }

    #[test]
    fn metadata_read_from_frame_equals_written_metadata() {
        let minute = Duration::from_secs(60);
        let full = EntryMeta {
            ttl: Some(minute),
            idle: Some(minute / 2),
            deadline: Time::from_millis(60_000),
            idle_deadline: Time::from_millis(30_000),
            stale: minute * 9,
            tags: vec!["a".into(), "".into(), "ß".into()],
            validator: Some(Bytes::from_static(b"etag")),
            hints: EntryHints {
                access: Some(Access::Frequency),
                home: Some(TierKind::File),
                ..EntryHints::NONE
            },
        };
        let used = EntryMeta { deadline: Time::from_millis(10_000), ..full.clone() };
        for terms in [EntryMeta::PLAIN, full, used] {
            let read = EntryMeta::read(&header(&terms), &terms.attributes());
            assert_eq!(read, Some(terms));
        }
    }

    #[test]
    fn offset_is_found_among_other_attributes() {
        let terms =
            EntryMeta { tags: vec!["a".into()], ttl: Some(Duration::from_secs(1)), ..EntryMeta::PLAIN };
        let mut attributes = terms.attributes();
        assert_eq!(read_offset(&attributes), None);
        write_offset(&mut attributes, Offset::from_millis(-7));
        assert_eq!(read_offset(&attributes), Some(Offset::from_millis(-7)));
        assert_eq!(EntryMeta::read(&header(&terms), &attributes), Some(terms));
        assert_eq!(read_offset(&[OFFSET, 1, 0, 7]), None, "of another length");
    }

    #[test]
    fn deadline_from_other_clock_is_at_most_one_ttl_from_now() {
        let minute = Duration::from_secs(60);
        let now = Time::from_millis(1_000_000);
        let of_another =
            EntryMeta { ttl: Some(minute), deadline: Time::from_millis(90_000), ..EntryMeta::PLAIN };
        let ahead = |millis| move |time| Offset::from_millis(millis).forward(time);
        let deadline = |millis| of_another.clone().by_clock(now, ahead(millis)).deadline.as_millis();
        assert_eq!(deadline(940_000), 1_030_000, "30 s are left");
        assert_eq!(deadline(i64::MAX), 1_060_000, "bounded");
        assert_eq!(EntryMeta::PLAIN.by_clock(now, ahead(-5)), EntryMeta::PLAIN);
    }

    #[test]
    fn damaged_attributes_are_not_read() {
        let terms =
            EntryMeta { tags: vec!["tag".into()], ttl: Some(Duration::from_secs(1)), ..EntryMeta::PLAIN };
        let bytes = terms.attributes();
        for len in 1..bytes.len() {
            let _read = EntryMeta::read(&header(&terms), &bytes[..len]);
        }
        assert_eq!(EntryMeta::read(&header(&terms), &[TTL, 3, 0, 1, 2, 3]), None, "a word of three bytes");
        assert_eq!(EntryMeta::read(&header(&terms), &[TAG, 1, 0, 0xff]), None, "a tag that is no text");
        assert_eq!(EntryMeta::read(&header(&terms), &[TAG, 9, 0, b'x']), None, "longer than what is there");
    }

    #[test]
    fn entry_is_absent_at_its_deadline() {
        let terms = EntryMeta {
            deadline: Time::from_millis(100),
            stale: Duration::from_millis(10),
            ..EntryMeta::PLAIN
        };
        let at = |millis| terms.freshness(Time::from_millis(millis));
        assert_eq!([at(99), at(100), at(109), at(110)].map(|at| at as u8), [2, 1, 1, 0]);
        assert_eq!(EntryMeta::PLAIN.freshness(Time::from_millis(u64::MAX - 1)), Freshness::Fresh);
    }
}
