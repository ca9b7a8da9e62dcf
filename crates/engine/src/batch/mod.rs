//! Many keys in one call: the same as for one, with a round trip for a part of them.

pub(crate) mod load;
mod publish;
pub(crate) mod read;
mod write;
