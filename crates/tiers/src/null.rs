//! The tier that stores nothing.

use larder_core::Bytes;
use larder_core::Result;
use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::tier::{BoxFuture, Capability, Tier, TierKind, Usage};

/// Accepts every write and stores none of them. Takes the place of a tier that is switched off.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullTier;

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, Result<T>> {
    Box::pin(std::future::ready(Ok(value)))
}

impl Tier for NullTier {
    fn kind(&self) -> TierKind {
        TierKind::Null
    }

    fn capability(&self) -> Capability {
        Capability {
            stores: false,
            persistent: false,
            shared: false,
            blocking: false,
            frame_bytes_max: u64::MAX,
        }
    }

    fn get<'a>(&'a self, _: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        ready(None)
    }

    fn put<'a>(&'a self, _: &'a EncodedKey, _: &'a Frame) -> BoxFuture<'a, Result<()>> {
        ready(())
    }

    fn remove<'a>(&'a self, _: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        ready(false)
    }

    fn contains<'a>(&'a self, _: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        ready(false)
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        ready(())
    }

    fn scan<'a>(&'a self, _: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        ready(())
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        ready(())
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        ready(())
    }
}
