//! The subcommands that change a cache.

pub(super) mod gc;
pub(super) mod import;
pub(super) mod remove;
