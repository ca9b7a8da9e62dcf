//! What the tier knows of a server: its clock, its memory, the commands it allows.

pub(in crate::redis) mod clock;
pub(in crate::redis) mod commands;
pub(in crate::redis) mod info;
