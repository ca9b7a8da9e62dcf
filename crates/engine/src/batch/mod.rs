//! Operations on many keys in one call: as for one key, with one round trip for a part of them.

pub(crate) mod load;
mod publish;
pub(crate) mod read;
mod write;
