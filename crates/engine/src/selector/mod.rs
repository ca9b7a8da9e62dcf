//! Selectors: decide from the facts of an entry in which tier it is placed.

mod table;

pub use table::Table;
