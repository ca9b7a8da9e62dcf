//! Notices of the server: keys of this cache that other clients changed.
//!
//! Uses client tracking in broadcast mode, on the same connection as the requests. So notices and replies
//! come in one order: a change that the server made before it answered a heartbeat is reported before that
//! answer.

use std::sync::{Arc, OnceLock};

use larder_core::bus::{Listener, Notice};
use redis::{PushInfo, PushKind, RedisResult, Value};

use crate::redis::connection::channel::Channel;
use crate::redis::keys::names::{KeyName, KeyNames};
use crate::redis::keys::partition_epochs::PartitionEpochs;
use crate::redis::server::commands::name_forbidden;

/// Forwards notices to the listener.
#[derive(Default)]
pub(in crate::redis) struct Notices {
    listener: OnceLock<Arc<dyn Listener>>,
}

impl Notices {
    pub(in crate::redis) fn listen(&self, listener: Arc<dyn Listener>) {
        // Only the first listener counts.
        let _refused = self.listener.set(listener);
    }

    /// Asks the server for notices about this cache, except for this client's own changes. Earlier changes
    /// are unknown, so the listener is told that anything may have changed.
    pub(in crate::redis) async fn begin(
        &self,
        names: &KeyNames,
        connection: &mut Channel,
    ) -> RedisResult<()> {
        let mut tracking = redis::cmd("CLIENT");
        tracking.arg("TRACKING").arg("ON").arg("BCAST").arg("NOLOOP").arg("PREFIX").arg(names.prefix());
        tracking.exec_async(connection).await.map_err(|error| name_forbidden("CLIENT TRACKING", error))?;
        self.send(Notice::Distrust);
        Ok(())
    }

    /// Reports that notices may be missing.
    pub(in crate::redis) fn report_lost_notices(&self) {
        self.send(Notice::Distrust);
    }

    /// Handles a push message.
    pub(in crate::redis) fn on_push(&self, (names, epochs): (&KeyNames, &PartitionEpochs), push: &PushInfo) {
        if push.kind != PushKind::Invalidate {
            return;
        }
        for keys in &push.data {
            match keys {
                Value::Array(keys) => keys.iter().for_each(|key| self.changed((names, epochs), key)),
                // A flush of the whole database.
                _ => self.send(Notice::Distrust),
            }
        }
    }

    fn changed(&self, (names, epochs): (&KeyNames, &PartitionEpochs), key: &Value) {
        let Value::BulkString(name) = key else { return };
        match names.read(name) {
            // An entry of another program version. Changes by that version remove the entries of this one.
            Some(KeyName::Entry { partition, label, .. })
                if epochs.record(partition).others.contains(&label) => {}
            Some(KeyName::Entry { key: Some(key), .. }) => self.send(Notice::Changed(key)),
            Some(KeyName::Entry { key: None, digest, .. }) => self.send(Notice::ChangedDigest(digest)),
            Some(KeyName::Tombstone(Some(key))) => self.send(Notice::Changed(key)),
            // The name does not say which entry it was.
            Some(KeyName::EpochRecord(_) | KeyName::Tombstone(None)) => self.send(Notice::Distrust),
            Some(KeyName::Lease) => self.send(Notice::Leased),
            Some(KeyName::Invalidated) => self.send(Notice::Invalidated),
            Some(KeyName::Former) | None => {}
        }
    }

    fn send(&self, notice: Notice) {
        if let Some(listener) = self.listener.get() {
            listener.told(notice);
        }
    }
}
