//! Selectors: decide from the facts of an entry in which tier it is placed.

mod hints;
mod table;

pub use hints::Hints;
pub use table::Table;
