//! What the server says by itself: which keys of ours others changed.
//!
//! Client tracking in broadcast mode, on the connection that carries the
//! requests: so notices and answers come in one order, and a change that the
//! server made before it answered a sign of life was told before that answer.

use std::sync::{Arc, OnceLock};

use larder_core::bus::{Listener, Notice};
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisResult, Value};

use crate::redis::keys::names::{Named, Names};
use crate::redis::keys::partition_epochs::PartitionEpochs;
use crate::redis::server::commands::needed;

/// Hands notices to who listens.
#[derive(Default)]
pub(in crate::redis) struct Notices {
    listener: OnceLock<Arc<dyn Listener>>,
}

impl Notices {
    pub(in crate::redis) fn listen(&self, listener: Arc<dyn Listener>) {
        // The first one counts.
        let _refused = self.listener.set(listener);
    }

    /// Asks the server to tell, of this cache alone and not of our own changes.
    /// What happened while it did not is unknown.
    pub(in crate::redis) async fn begin(
        &self,
        names: &Names,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        let mut tracking = redis::cmd("CLIENT");
        tracking.arg("TRACKING").arg("ON").arg("BCAST").arg("NOLOOP").arg("PREFIX").arg(names.prefix());
        tracking.exec_async(connection).await.map_err(|error| needed("CLIENT TRACKING", error))?;
        self.tell(Notice::Distrust);
        Ok(())
    }

    /// What was told may not be all.
    pub(in crate::redis) fn distrust(&self) {
        self.tell(Notice::Distrust);
    }

    /// Reads what the server said.
    pub(in crate::redis) fn told(&self, (names, invalidations): (&Names, &PartitionEpochs), push: &PushInfo) {
        if push.kind != PushKind::Invalidate {
            return;
        }
        for keys in &push.data {
            match keys {
                Value::Array(keys) => keys.iter().for_each(|key| self.changed((names, invalidations), key)),
                // The whole database was flushed.
                _ => self.tell(Notice::Distrust),
            }
        }
    }

    fn changed(&self, (names, invalidations): (&Names, &PartitionEpochs), key: &Value) {
        let Value::BulkString(name) = key else { return };
        match names.read(name) {
            // What another version loaded. Its changes remove the entries of this one.
            Some(Named::Entry { partition, label, .. })
                if invalidations.belief(partition).others.contains(&label) => {}
            Some(Named::Entry { key: Some(key), .. }) => self.tell(Notice::Changed(key)),
            Some(Named::Entry { key: None, digest, .. }) => self.tell(Notice::ChangedDigest(digest)),
            Some(Named::Removal(Some(key))) => self.tell(Notice::Changed(key)),
            // Which entry it was the name does not say.
            Some(Named::Mark(_) | Named::Removal(None)) => self.tell(Notice::Distrust),
            Some(Named::Lease) => self.tell(Notice::Leased),
            Some(Named::Invalidated) => self.tell(Notice::InvalidationRecord),
            Some(Named::Former) | None => {}
        }
    }

    fn tell(&self, notice: Notice) {
        if let Some(listener) = self.listener.get() {
            listener.told(notice);
        }
    }
}
