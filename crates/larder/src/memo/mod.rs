//! Memoized functions: `memoize`, and the runtime of the attributes.

#[cfg(feature = "macros")]
pub mod attribute;
#[cfg(feature = "async")]
mod tasks;
mod threads;

#[cfg(feature = "async")]
pub use tasks::AsyncMemo;
pub use threads::{Many, Memo};
