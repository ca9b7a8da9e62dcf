//! Functions that remember: `memoize`, and what the attributes expand to.

#[cfg(feature = "macros")]
pub mod attribute;
#[cfg(feature = "async")]
mod tasks;
mod threads;

#[cfg(feature = "async")]
pub use tasks::AsyncMemo;
pub use threads::{Many, Memo};
