//! Where an entry goes: facts in, placement out.

mod table;

pub use table::Table;
