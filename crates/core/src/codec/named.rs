//! The codecs with field names: MessagePack and JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bounded::from_messagepack;
use super::measure::Measure;
use super::node::Node;
use super::values::{count, failed, undecodable};
use crate::Result;
use crate::frame::CodecId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    MessagePack,
    #[cfg(feature = "json")]
    Json,
}

impl Named {
    pub(super) fn of(codec: CodecId) -> Option<Self> {
        match codec {
            CodecId::MessagePack => Some(Self::MessagePack),
            #[cfg(feature = "json")]
            CodecId::Json => Some(Self::Json),
            _ => None,
        }
    }

    pub(super) fn codec(self) -> CodecId {
        match self {
            Self::MessagePack => CodecId::MessagePack,
            #[cfg(feature = "json")]
            Self::Json => CodecId::Json,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MessagePack => "MessagePack",
            #[cfg(feature = "json")]
            Self::Json => "JSON",
        }
    }

    /// The part of this value that would be read back as something else; `None` if there is none.
    pub(super) fn loses(self, measure: &Measure) -> Option<&'static str> {
        match self {
            _ if measure.some_of_nothing => Some("a `Some` of nothing reads back as `None`"),
            #[cfg(feature = "json")]
            Self::Json if measure.not_finite => Some("a number that is not finite reads back as null"),
            _ => None,
        }
    }

    pub(super) fn len<V: Serialize>(self, value: &V) -> Result<u64> {
        match self {
            Self::MessagePack => count(|sink| rmp_serde::encode::write_named(sink, value)),
            #[cfg(feature = "json")]
            Self::Json => count(|sink| serde_json::to_writer(sink, value)),
        }
    }

    pub(super) fn write<V: Serialize>(self, value: &V) -> Result<Vec<u8>> {
        match self {
            Self::MessagePack => rmp_serde::to_vec_named(value).map_err(|error| failed("encoded", error)),
            #[cfg(feature = "json")]
            Self::Json => serde_json::to_vec(value).map_err(|error| failed("encoded", error)),
        }
    }

    pub(super) fn read<V: DeserializeOwned>(self, bytes: &[u8]) -> Result<V> {
        match self {
            Self::MessagePack => from_messagepack(bytes).map_err(|error| undecodable(self.name(), error)),
            #[cfg(feature = "json")]
            Self::Json => serde_json::from_slice(bytes).map_err(|error| undecodable(self.name(), error)),
        }
    }

    /// Whether `value`, written again, contains all data of `stored`, compared by names. This detects a field
    /// that was renamed or removed, a whole number that became a float, and a variant with another number. An
    /// added field is allowed.
    pub(super) fn covers<V: Serialize>(self, stored: &[u8], value: &V) -> Result<bool> {
        let again = self.write(value)?;
        if again == stored {
            return Ok(true);
        }
        let (again, stored): (Node, Node) = (self.read(&again)?, self.read(stored)?);
        Ok(again.covers(&stored))
    }
}
