//! The life of a cache, and the registers of live ones.
