//! The slots of attributes: a cache that is built at its first use.
