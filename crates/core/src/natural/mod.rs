//! Values of other crates that serde does not know, each in its natural format.
//!
//! A builder asks for serde types; these are such around values that are not,
//! and are never sent through serde when they are the value of a cache: a
//! picture is stored as its pixels, a record batch as an Arrow IPC stream.
//! Cloning one costs a count.

#[cfg(feature = "arrow")]
mod frame;
#[cfg(feature = "image")]
mod image;
mod serde;

#[cfg(feature = "arrow")]
pub use frame::Frame;
#[cfg(feature = "image")]
pub use image::Image;
