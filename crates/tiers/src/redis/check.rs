//! Verifies the entries of a cache in Redis, and removes damaged ones.

use larder_core::frame::{FrameError, Head, open};
use larder_core::key::EncodedKey;
use larder_core::{Bytes, Result};
use redis::{Connection, Value};

use crate::entry_check::EntryCheck;
use crate::redis::keys::names::KeyName;
use crate::redis::keys::partition_epochs::random;
use crate::redis::reader::{RedisReader, failed};
use crate::redis::shared::compare_and_set::removal_life;

/// A damaged entry.
#[derive(Clone, Debug)]
pub struct DamagedEntry {
    /// The name of the key in Redis.
    pub name: String,
    /// The key of the entry, unless the name contains only its digest.
    pub key: Option<EncodedKey>,
    /// What is wrong with its frame.
    pub error: FrameError,
    /// Whether the entry was removed. One that was changed after it was read stays.
    pub is_removed: bool,
}

/// What is stored under a name, if it is no whole frame.
struct Damage {
    error: FrameError,
    /// The value; `None` if it is not a string.
    frame: Option<Bytes>,
}

impl RedisReader {
    /// Reads every entry, of every version of the program, and verifies its frame. Calls `on_damage` with each
    /// damaged one. With `fix` a damaged entry is removed if its frame is still the one that was read, with a
    /// tombstone: a load that began before is not stored.
    ///
    /// # Errors
    /// A server that does not answer, or that refuses a command.
    pub fn check(&self, fix: bool, on_damage: &mut dyn FnMut(DamagedEntry)) -> Result<EntryCheck> {
        let mut counts = EntryCheck::default();
        self.each_entry(|connection, name| {
            let Some(KeyName::Entry { key, digest, .. }) = self.names.read(name) else { return Ok(()) };
            let Some(found) = verify(connection, name, digest)? else { return Ok(()) };
            counts.count(found.is_ok());
            if let Err(damage) = found {
                let name = String::from_utf8_lossy(name).into_owned();
                let is_removed = fix && self.remove_unchanged(connection, &name, digest, &damage)?;
                on_damage(DamagedEntry { name, key, error: damage.error, is_removed });
            }
            Ok(())
        })?;
        Ok(counts)
    }

    /// Removes an entry if it is damaged as it was. The server refuses the removal if the entry changes
    /// between this look and the removal.
    fn remove_unchanged(
        &self,
        connection: &mut Connection,
        name: &str,
        digest: u128,
        before: &Damage,
    ) -> Result<bool> {
        redis::cmd("WATCH").arg(name).exec(connection).map_err(failed)?;
        let now = verify(connection, name.as_bytes(), digest)?;
        let is_same = matches!(now, Some(Err(now)) if now.frame == before.frame);
        if !is_same {
            redis::cmd("UNWATCH").exec(connection).map_err(failed)?;
            return Ok(false);
        }
        let mut removal = redis::pipe();
        removal.atomic();
        // A tombstone whose upper half is zero would say that an invalidation removed the entry.
        let tombstone = (random() | 1 << 32).to_le_bytes();
        removal.cmd("SET").arg(self.names.tombstone(name)).arg(&tombstone[..]).arg("PX").arg(removal_life());
        removal.cmd("UNLINK").arg(name);
        let answer: Value = removal.query(connection).map_err(failed)?;
        Ok(answer != Value::Nil)
    }
}

/// Reads what is stored under a name, and verifies it. `None` if the entry is gone.
fn verify(
    connection: &mut Connection,
    name: &[u8],
    digest: u128,
) -> Result<Option<std::result::Result<(), Damage>>> {
    let frame: Bytes = match redis::cmd("GET").arg(name).query::<Option<Vec<u8>>>(connection) {
        Ok(Some(frame)) => frame.into(),
        Ok(None) => return Ok(None),
        // A list or a hash, for example.
        Err(error) if error.code() == Some("WRONGTYPE") => {
            return Ok(Some(Err(Damage { error: FrameError::Foreign, frame: None })));
        }
        Err(error) => return Err(failed(error)),
    };
    let verified = error_in(&frame, digest).map_or(Ok(()), |error| Err(Damage { error, frame: Some(frame) }));
    Ok(Some(verified))
}

/// What is wrong with the frame of the key that has this digest. Costs a checksum over all bytes.
fn error_in(frame: &Bytes, digest: u128) -> Option<FrameError> {
    let key = match Head::parse(frame) {
        Ok(head) => EncodedKey::new(head.key),
        Err(error) => return Some(error),
    };
    if key.digest() != digest {
        return Some(FrameError::OtherKey);
    }
    open(frame, &key).err()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use larder_testkit::RedisServer;

    use super::*;

    /// A node may store the entry again between the look of a check and its removal.
    #[test]
    fn damaged_entry_that_is_replaced_after_the_look_at_it_stays() {
        let Some(server) = RedisServer::start() else { return };
        let reader = RedisReader::open(&server.url(), "shop", "carts", Duration::from_secs(5)).unwrap();
        let name = "shop:carts:{00}:0000000000000001:00000001:s:a";
        let remove = |before: &Damage| {
            let mut connection = reader.connection();
            reader.remove_unchanged(&mut connection, name, 0, before).unwrap()
        };
        let look = || verify(&mut reader.connection(), name.as_bytes(), 0).unwrap().unwrap().unwrap_err();
        server.cli(&["SET", name, "damaged"]);
        let before = look();
        server.cli(&["SET", name, "stored again"]);
        assert!(!remove(&before));
        assert_eq!(server.cli(&["GET", name]).trim(), "stored again");
        assert!(remove(&look()));
        let left = server.cli(&["KEYS", "*"]);
        assert_eq!(left.trim(), "shop:carts:{00}:0000000000000001:r:s:a", "a tombstone is left");
        assert!(!remove(&before), "the entry is gone");
    }
}
