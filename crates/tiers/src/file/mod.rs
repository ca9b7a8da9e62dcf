//! One file an entry.
