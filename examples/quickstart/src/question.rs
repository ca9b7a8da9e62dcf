//! The keys and the values of the cache: questions and answers.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::SystemTime;

use larder::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::text::{Measures, Words};

/// A key of the cache.
///
/// It contains all inputs of its answer, so an answer is never out of date: a changed file has another key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Question {
    /// How long is this file, and what repeats in it? Tens of bytes.
    Measures(FileId),
    /// Which words are in this file, how often? Kilobytes.
    FileWords(FileId),
    /// Which words are in all files of this folder? Up to a megabyte.
    FolderWords(FolderId),
    /// What is the text of this folder, without its layout? Up to some megabytes.
    FolderText(FolderId),
    /// In which order do phrases stand in the text of all folders? Over a hundred megabytes.
    PhraseIndex {
        /// The fingerprint of the folders.
        of: u128,
    },
}

/// A value of the cache. The cache returns clones, so large parts are shared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// To [`Question::Measures`].
    Measures(Measures),
    /// To [`Question::FileWords`] and [`Question::FolderWords`].
    Words(Arc<Words>),
    /// To [`Question::FolderText`].
    Text(Bytes),
    /// To [`Question::PhraseIndex`].
    Phrases(Arc<Vec<u32>>),
}

/// A file as it was when the walk read its metadata.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct FileId {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) modified: SystemTime,
}

/// A folder as it was when the walk read its metadata.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct FolderId {
    pub(crate) path: String,
    /// The fingerprint of its files.
    pub(crate) fingerprint: u128,
}

/// A hash that identifies `things`, in this run and in later ones.
pub(crate) fn fingerprint(things: &impl Hash) -> u128 {
    let mut hasher = Xxh3::new();
    things.hash(&mut hasher);
    hasher.digest128()
}

impl Question {
    /// The kind of answer that the question has.
    pub(crate) fn subject(&self) -> &'static str {
        match self {
            Self::Measures(_) => "measures of a file",
            Self::FileWords(_) => "words of a file",
            Self::FolderWords(_) => "words of a folder",
            Self::FolderText(_) => "text of a folder",
            Self::PhraseIndex { .. } => "index of all phrases",
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.subject())?;
        match self {
            Self::Measures(file) | Self::FileWords(file) => write!(f, ", {}", end_of(&file.path, 5)),
            Self::FolderWords(folder) | Self::FolderText(folder) => {
                write!(f, ", {}", end_of(&folder.path, 1))
            }
            Self::PhraseIndex { .. } => Ok(()),
        }
    }
}

/// The last `names` segments of a path, for display.
pub(crate) fn end_of(path: &str, names: usize) -> &str {
    let before = path.rmatch_indices(std::path::is_separator).nth(names - 1);
    before.map_or(path, |(at, separator)| &path[at + separator.len()..])
}
