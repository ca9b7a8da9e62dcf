//! A tier over object storage: S3, and every other service of Apache OpenDAL.
//!
//! [`OpendalTier`] keeps each frame as one object. [`ObjectStorage`] says where, and opens it:
//!
//! ```
//! use larder_core::tier::{Tier, TierKind};
//! use larder_opendal::ObjectStorage;
//! use opendal::{Operator, services::Memory};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let operator = Operator::new(Memory::default())?.finish();
//! let tier = ObjectStorage::new("objects", operator).prefix("my-cache").open()?;
//! assert_eq!(tier.kind(), TierKind::own("objects")?);
//! # Ok(())
//! # }
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]

mod failure;
#[cfg(feature = "s3")]
mod http;
mod io_thread;
mod names;
mod storage;
mod tier;
#[cfg(feature = "s3")]
mod url;
mod writes;

pub use opendal;
pub use storage::ObjectStorage;
pub use tier::OpendalTier;
#[cfg(feature = "s3")]
pub use url::{S3_PARAMETERS, s3};
