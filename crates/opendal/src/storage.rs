//! Where the objects of a tier are, and how they are used.

use larder_core::tier::{Capability, TierKind};
use larder_core::{Error, ErrorKind, Result};
use opendal::Operator;

use crate::names::Names;
use crate::tier::OpendalTier;

/// The largest frame that is stored unless another limit is set: 256 MiB.
const FRAME_BYTES_MAX: u64 = 256 << 20;

/// A service, and where in it a cache keeps its entries. [`open`](Self::open) makes it a tier.
///
/// ```
/// use larder_opendal::ObjectStorage;
/// use opendal::{Operator, services::Memory};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let operator = Operator::new(Memory::default())?.finish();
/// let tier = ObjectStorage::new("objects", operator).prefix("caches/pages").shared().open()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ObjectStorage {
    name: String,
    operator: Operator,
    prefix: String,
    shared: bool,
    frame_bytes_max: u64,
}

impl ObjectStorage {
    /// The objects that `operator` reaches. `name` names the tier in statistics, events and errors: 1 to 32 of
    /// `a` to `z`, `0` to `9`, `-` and `_`.
    pub fn new(name: impl Into<String>, operator: Operator) -> Self {
        let (name, prefix) = (name.into(), String::new());
        Self { name, operator, prefix, shared: false, frame_bytes_max: FRAME_BYTES_MAX }
    }

    /// Keeps the objects under this prefix. The default is the root of the operator. Each cache needs a prefix
    /// of its own: a cache reads, clears and counts everything under it that has the form of an entry.
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..self }
    }

    /// Lets other processes use the same objects. By default they belong to one cache, in one process at a
    /// time.
    ///
    /// No notice tells of their changes. So memory keeps no copies of such entries, and invalidation by tag is
    /// refused.
    pub fn shared(self) -> Self {
        Self { shared: true, ..self }
    }

    /// The largest frame that is stored, in bytes; 256 MiB by default. A frame is one object, written by one
    /// request, for which a service has a limit: 5 GiB for S3.
    pub fn frame_bytes_max(self, bytes: u64) -> Self {
        Self { frame_bytes_max: bytes, ..self }
    }

    /// Opens the tier. Lists the objects for up to 10 s, to know how much there is. A service that cannot be
    /// reached is no error: the tier works when it can.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a name of another form; [`ErrorKind::Unsupported`] if the service cannot read,
    /// write, list and delete.
    pub fn open(self) -> Result<OpendalTier> {
        let kind = TierKind::own(&self.name)?;
        let can = self.operator.info().full_capability();
        if !(can.read && can.write && can.list && can.delete && can.stat) {
            let message = "the service cannot read, write, list and delete objects";
            return Err(Error::new(ErrorKind::Unsupported, message).in_tier(kind));
        }
        let capability = Capability {
            stores: true,
            persistent: true,
            shared: self.shared,
            blocking: false,
            frame_bytes_max: self.frame_bytes_max,
        };
        OpendalTier::open((kind, capability), self.operator, Names::under(&self.prefix))
    }
}
