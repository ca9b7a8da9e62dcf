//! sled, with segments beside it.
