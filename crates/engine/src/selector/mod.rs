//! Selectors: decide from the facts of an entry in which tier it is placed.

mod adaptive;
mod hints;
pub(crate) mod lessons;
mod place;
mod table;

pub use adaptive::Adaptive;
pub use hints::Hints;
pub use place::weight_max;
pub use table::Table;
