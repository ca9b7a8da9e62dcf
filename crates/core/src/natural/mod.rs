//! Types of other crates without serde support, each in its natural format.
//!
//! A builder requires serde types. These wrappers implement serde, but as the value of a cache they bypass
//! it: an image is stored as its pixels, a record batch as an Arrow IPC stream. A clone only counts a
//! reference.

#[cfg(feature = "arrow")]
mod frame;
#[cfg(feature = "image")]
mod image;
mod serde;

#[cfg(feature = "arrow")]
pub use frame::Frame;
#[cfg(feature = "image")]
pub use image::Image;
