//! Calls of a tier and their answers, as a layer sees them.

use std::io::{Cursor, Read};

use bytes::Bytes;

use super::{ConditionalPut, LoadLease, Upload, VersionedFrame};
use crate::frame::Frame;
use crate::key::EncodedKey;
use crate::stream::Stored;

macro_rules! operations {
    ($($variant:ident $name:literal $class:ident,)+) => {
        /// An operation of a tier: a method of one of the contracts that returns a future.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Operation {
            $(#[doc = concat!("`", $name, "`")] $variant,)+
        }

        impl Operation {
            /// Every operation.
            pub const ALL: [Self; [$(Self::$variant),+].len()] = [$(Self::$variant),+];

            /// The name of the method.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What the operation does to the entries.
            pub fn class(self) -> OperationClass {
                match self {
                    $(Self::$variant => OperationClass::$class,)+
                }
            }
        }
    };
}

operations! {
    Get "get" Read,
    Head "head" Read,
    Put "put" Write,
    Remove "remove" Removal,
    Contains "contains" Read,
    Clear "clear" Removal,
    Scan "scan" Read,
    Flush "flush" Lifecycle,
    Close "close" Lifecycle,
    Destroy "destroy" Lifecycle,
    GetMany "get_many" Read,
    PutMany "put_many" Write,
    RemoveMany "remove_many" Removal,
    Open "open" Read,
    BeginUpload "begin_upload" Write,
    Append "append" Write,
    Publish "publish" Write,
    GetVersioned "get_versioned" Read,
    GetManyVersioned "get_many_versioned" Read,
    CompareAndSet "compare_and_set" Write,
    CompareAndSetMany "compare_and_set_many" Write,
    CompareAndRemove "compare_and_remove" Removal,
    Take "take" Removal,
    LeaseLoad "lease_load" Write,
    LeaseLoads "lease_loads" Write,
}

/// What an operation does to the entries of a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationClass {
    /// Reads entries.
    Read,
    /// Writes entries, or prepares a write.
    Write,
    /// Removes entries.
    Removal,
    /// Flushes or ends the tier.
    Lifecycle,
}

/// A call as a layer sees it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The operation.
    pub operation: Operation,
    /// The key; `None` for a batch, for a part of an upload, and for an operation on the whole tier.
    pub key: Option<&'a EncodedKey>,
    /// The number of keys; zero if there is none.
    pub keys: usize,
    /// The bytes that the call writes. Zero for a batch, whose items have them.
    pub bytes: u64,
}

impl<'a> Call<'a> {
    /// A call on the whole tier, or on a part of an upload.
    pub fn new(operation: Operation) -> Self {
        Self { operation, key: None, keys: 0, bytes: 0 }
    }

    /// A call on a key.
    pub fn of(operation: Operation, key: &'a EncodedKey) -> Self {
        Self { key: Some(key), keys: 1, ..Self::new(operation) }
    }

    /// A call on many keys.
    pub fn of_many(operation: Operation, keys: usize) -> Self {
        Self { keys, ..Self::new(operation) }
    }

    /// The call, which writes this many bytes.
    #[must_use]
    pub fn writing(self, bytes: usize) -> Self {
        Self { bytes: bytes as u64, ..self }
    }
}

/// One item of a batch.
pub trait BatchItem: Clone + Send + Sync {
    /// The key.
    fn key(&self) -> &EncodedKey;

    /// The bytes that the batch writes under the key.
    fn bytes(&self) -> u64 {
        0
    }
}

impl BatchItem for EncodedKey {
    fn key(&self) -> &EncodedKey {
        self
    }
}

impl BatchItem for (EncodedKey, Frame) {
    fn key(&self) -> &EncodedKey {
        &self.0
    }

    fn bytes(&self) -> u64 {
        self.1.len() as u64
    }
}

impl BatchItem for ConditionalPut {
    fn key(&self) -> &EncodedKey {
        &self.key
    }

    fn bytes(&self) -> u64 {
        self.frame.len() as u64
    }
}

/// The answer of a tier to a call on one key.
pub trait TierReply: Send + Sized {
    /// The answer of a tier that does not have the entry; `None` if the type cannot say that.
    fn absent() -> Option<Self> {
        None
    }

    /// Whether the answer is a yes: an entry was found or removed, a frame was stored, a lease was taken.
    /// `None` if the answer says only that the call succeeded.
    fn is_yes(&self) -> Option<bool> {
        None
    }

    /// The length of the frame that the answer holds.
    fn bytes(&self) -> u64 {
        0
    }

    /// Replaces the frame that the answer holds, if it holds one.
    fn change_frame(&mut self, change: &mut dyn FnMut(Bytes) -> Bytes) {
        let _no_frame = change;
    }
}

impl TierReply for () {}

impl TierReply for Upload {}

impl TierReply for bool {
    fn absent() -> Option<Self> {
        Some(false)
    }

    fn is_yes(&self) -> Option<bool> {
        Some(*self)
    }
}

impl TierReply for Option<Bytes> {
    fn absent() -> Option<Self> {
        Some(None)
    }

    fn is_yes(&self) -> Option<bool> {
        Some(self.is_some())
    }

    fn bytes(&self) -> u64 {
        self.as_ref().map_or(0, |frame| frame.len() as u64)
    }

    fn change_frame(&mut self, change: &mut dyn FnMut(Bytes) -> Bytes) {
        *self = self.take().map(change);
    }
}

impl TierReply for VersionedFrame {
    fn is_yes(&self) -> Option<bool> {
        self.frame.is_yes()
    }

    fn bytes(&self) -> u64 {
        self.frame.bytes()
    }

    fn change_frame(&mut self, change: &mut dyn FnMut(Bytes) -> Bytes) {
        self.frame.change_frame(change);
    }
}

impl TierReply for Option<Stored> {
    fn absent() -> Option<Self> {
        Some(None)
    }

    fn is_yes(&self) -> Option<bool> {
        Some(self.is_some())
    }

    fn bytes(&self) -> u64 {
        self.as_ref().map_or(0, |stored| stored.len)
    }

    /// Reads the frame whole; a medium that cannot be read stays as it is.
    fn change_frame(&mut self, change: &mut dyn FnMut(Bytes) -> Bytes) {
        let Some(stored) = self else { return };
        let mut whole = Vec::new();
        if stored.medium.read_to_end(&mut whole).is_ok() {
            let changed = change(whole.into());
            *stored = Stored { len: changed.len() as u64, medium: Box::new(Cursor::new(changed)) };
        }
    }
}

impl TierReply for Option<LoadLease> {
    fn is_yes(&self) -> Option<bool> {
        Some(self.is_some())
    }
}
