//! Dictionaries in a build without zstd: there are none.

use crate::{Error, ErrorKind, Result};

/// No context.
#[derive(Debug)]
pub(super) enum Contexts {}

impl Contexts {
    pub(super) fn new(_: &[u8], _: i32) -> Result<Self> {
        Err(missing())
    }

    pub(super) fn pack(&self, _: &[u8], _: &[u8], _: usize) -> Option<Vec<u8>> {
        match *self {}
    }

    pub(super) fn unpack(&self, _: &[u8], _: &[u8], _: usize) -> Result<Vec<u8>> {
        match *self {}
    }
}

pub(super) fn train(_: &[u8], _: &[usize]) -> Result<Vec<u8>> {
    Err(missing())
}

fn missing() -> Error {
    Error::new(ErrorKind::Unsupported, "the payload needs the feature `zstd`, which is off")
}
