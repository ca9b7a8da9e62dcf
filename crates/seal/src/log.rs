//! Logs of invalidations whose tags are sealed.

use std::collections::HashSet;
use std::sync::Arc;

use larder_core::invalidation::{Invalidation, InvalidationLog, InvalidationRecord};
use larder_core::{Result, hex};
use parking_lot::Mutex;

use crate::cache_keys::CacheKeys;
use crate::short::ShortKeys;

/// Seals and opens the tags of invalidations.
pub(crate) struct Tags {
    keys: Arc<ShortKeys>,
    /// Tags that were read and that these keys did not seal. They are written as they were: the holder of the
    /// other key needs them.
    foreign: Mutex<HashSet<Box<str>>>,
}

impl Tags {
    pub(crate) fn new(keys: &CacheKeys) -> Self {
        Self { keys: Arc::clone(keys.short()), foreign: Mutex::default() }
    }

    /// Seals the tag of an invalidation. One that cannot be sealed invalidates everything.
    pub(crate) fn seal(&self, invalidation: &Invalidation) -> Invalidation {
        match invalidation {
            Invalidation::Tag(tag) if !self.foreign.lock().contains(tag) => self
                .keys
                .seal(tag.as_bytes())
                .map_or(Invalidation::All, |sealed| Invalidation::Tag(hex::encode(&sealed).into())),
            other => other.clone(),
        }
    }

    /// Opens the tag of an invalidation, and keeps one that these keys did not seal.
    pub(crate) fn open(&self, invalidation: Invalidation) -> Invalidation {
        let Invalidation::Tag(tag) = invalidation else { return invalidation };
        let opened = hex::decode(&tag).and_then(|sealed| self.keys.open(&sealed));
        match opened.and_then(|text| String::from_utf8(text).ok()) {
            Some(text) => Invalidation::Tag(text.into()),
            None => {
                self.foreign.lock().insert(tag.clone());
                Invalidation::Tag(tag)
            }
        }
    }

    /// Opens the tags of these records.
    pub(crate) fn opened(&self, records: Vec<InvalidationRecord>) -> Vec<InvalidationRecord> {
        let opened = |record: InvalidationRecord| {
            let invalidation = self.open(record.invalidation);
            InvalidationRecord { invalidation, ..record }
        };
        records.into_iter().map(opened).collect()
    }

    fn sealed_records(&self, plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(2 * plain.len());
        InvalidationRecord::decode_all(plain, |record| {
            let invalidation = self.seal(&record.invalidation);
            sealed.extend(InvalidationRecord { invalidation, ..record }.encode());
        });
        sealed
    }
}

/// A log of invalidations on disk whose tags are sealed.
pub struct SealedLog {
    log: Box<dyn InvalidationLog>,
    tags: Tags,
}

impl SealedLog {
    /// Seals the tags that `log` gets, and opens those of the records that it had.
    pub fn new(
        log: Box<dyn InvalidationLog>,
        records: Vec<InvalidationRecord>,
        keys: &CacheKeys,
    ) -> (Self, Vec<InvalidationRecord>) {
        let tags = Tags::new(keys);
        let records = tags.opened(records);
        (Self { log, tags }, records)
    }
}

impl InvalidationLog for SealedLog {
    fn append(&self, bytes: &[u8]) -> Result<()> {
        self.log.append(&self.tags.sealed_records(bytes))
    }

    fn rewrite(&self, bytes: &[u8]) -> Result<()> {
        self.log.rewrite(&self.tags.sealed_records(bytes))
    }

    fn close(&self) {
        self.log.close();
    }
}
