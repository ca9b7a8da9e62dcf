//! Many keys in one round trip.

use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::{Bytes, Error, Result};

use super::request::frame;
use super::{Inner, check_len, count};

/// The most keys of one round trip.
const KEYS_MAX: usize = 1000;
/// Bytes of frames from which on a round trip takes no more of them.
const BYTES_MAX: usize = 8 << 20;

impl Inner {
    pub(super) async fn get_many(&self, keys: &[EncodedKey]) -> Vec<Result<Option<Bytes>>> {
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(KEYS_MAX) {
            match self.ask(keys.iter(), true, |_, _| ()).await {
                Ok(answers) => found.extend(answers.values.into_iter().map(|value| Ok(frame(Some(value))))),
                Err(error) => found.extend(each(keys.len(), &error)),
            }
        }
        found
    }

    pub(super) async fn put_many(&self, entries: &[(EncodedKey, Frame)]) -> Vec<Result<()>> {
        let mut stored = Vec::with_capacity(entries.len());
        let mut rest = entries;
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(chunk_len(rest));
            rest = later;
            stored.extend(self.put_chunk(chunk).await);
        }
        stored
    }

    async fn put_chunk(&self, entries: &[(EncodedKey, Frame)]) -> Vec<Result<()>> {
        if let [(_, frame)] = entries
            && let Err(error) = check_len(frame)
        {
            return vec![Err(error)];
        }
        let keys = entries.iter().map(|(key, _)| key);
        let asked = self.ask(keys, false, |pipe, names| {
            names.iter().zip(entries).for_each(|(name, (_, frame))| self.set(pipe, name, frame));
        });
        match asked.await {
            Ok(answers) => {
                self.changed();
                let stored = answers.commands.into_iter();
                stored
                    .map(|answer| answer.extract_error().map(drop).map_err(|error| self.meant(error)))
                    .collect()
            }
            Err(error) => each(entries.len(), &error).collect(),
        }
    }

    pub(super) async fn remove_many(&self, keys: &[EncodedKey]) -> Vec<Result<bool>> {
        let mut removed = Vec::with_capacity(keys.len());
        for keys in keys.chunks(KEYS_MAX) {
            let asked =
                self.ask(keys.iter(), false, |pipe, names| names.iter().for_each(|name| self.unlink(pipe, name)));
            match asked.await {
                Ok(answers) => {
                    let unlinked = answers.commands.into_iter().skip(1).step_by(2);
                    let counts = unlinked.map(|answer| {
                        count(answer).map(|count| self.shrunk(count)).map_err(|error| self.meant(error))
                    });
                    removed.extend(counts);
                }
                Err(error) => removed.extend(each(keys.len(), &error)),
            }
        }
        removed
    }
}

/// How many entries go together: a frame that may be too large goes alone.
fn chunk_len(entries: &[(EncodedKey, Frame)]) -> usize {
    let mut bytes = 0;
    let fitting = entries.iter().take(KEYS_MAX).take_while(|(_, frame)| {
        bytes += frame.len();
        bytes <= BYTES_MAX
    });
    fitting.count().max(1)
}

/// One error for each of `len` results.
fn each<T>(len: usize, error: &Error) -> impl Iterator<Item = Result<T>> {
    (0..len).map(|_| Err(Error::new(error.kind(), error.to_string())))
}
