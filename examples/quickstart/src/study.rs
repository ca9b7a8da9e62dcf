//! The study: its questions, and their order.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use larder::{Bytes, Result};
use rayon::prelude::*;

use crate::library::Library;
use crate::progress::Progress;
use crate::question::{FileId, Question, fingerprint};
use crate::sources::Folder;
use crate::text::{self, Words};

/// The results of a run.
pub(crate) struct Study {
    /// Identifies these sources.
    pub(crate) fingerprint: u128,
    pub(crate) folders: usize,
    pub(crate) totals: Totals,
    /// The most frequent words, and how often each occurs.
    pub(crate) frequent: Vec<(String, u32)>,
    /// Phrases that were looked up in the index, and how often each occurs.
    pub(crate) phrases: Vec<(&'static str, usize)>,
    /// One question of each kind, to explain.
    pub(crate) examples: Vec<Question>,
}

/// Sums over all files.
#[derive(Default)]
pub(crate) struct Totals {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    pub(crate) lines: u64,
    pub(crate) words: u64,
    /// The digests of distinct contents: fewer than files if some are copies.
    pub(crate) digests: HashSet<u128>,
    /// The longest passage that a file repeats, and the file.
    pub(crate) repeat: (u64, String),
}

/// Phrases that are looked up in the index.
const PHRASES: [&str; 4] = ["unsafe", "TODO", "return", "the same"];
/// The number of frequent words to print.
const FREQUENT: usize = 8;

/// Studies each file, then each folder, then all text at once.
pub(crate) fn run(library: &Library, folders: &[Folder]) -> Result<Study> {
    measure(library, folders)?;
    let (words, texts): (Vec<_>, Vec<_>) = describe(library, folders)?.into_iter().unzip();
    let text = texts.concat();
    let fingerprint = fingerprint(&folders.iter().map(|folder| &folder.id).collect::<Vec<_>>());
    let index = library.phrase_index(fingerprint, &text)?;

    Ok(Study {
        fingerprint,
        folders: folders.len(),
        totals: totals(library, folders)?,
        frequent: most_frequent(&words),
        phrases: PHRASES.map(|phrase| (phrase, text::occurrences(&text, &index, phrase))).into(),
        examples: examples(folders, fingerprint),
    })
}

fn measure(library: &Library, folders: &[Folder]) -> Result<()> {
    let files: Vec<_> = folders.iter().flat_map(|folder| &folder.files).collect();
    let progress = Progress::new("files", files.len());
    files.par_iter().try_for_each(|file| library.measures(file).map(|_| progress.advance(1)))
}

fn describe(library: &Library, folders: &[Folder]) -> Result<Vec<(Arc<Words>, Bytes)>> {
    let progress = Progress::new("folders", folders.len());
    let describe = |folder: &Folder| {
        let described = (library.folder_words(folder)?, library.folder_text(folder)?);
        progress.advance(1);
        Ok(described)
    };
    folders.par_iter().map(describe).collect()
}

/// Asks for each file once more. These answers come from memory.
fn totals(library: &Library, folders: &[Folder]) -> Result<Totals> {
    let mut totals = Totals::default();
    for file in folders.iter().flat_map(|folder| &folder.files) {
        let measures = library.measures(file)?;
        totals.files += 1;
        totals.bytes += measures.bytes;
        totals.lines += measures.lines;
        totals.words += measures.words;
        totals.digests.insert(measures.digest);
        if measures.repeat > totals.repeat.0 {
            totals.repeat = (measures.repeat, file.path.clone());
        }
    }
    Ok(totals)
}

fn most_frequent(words: &[Arc<Words>]) -> Vec<(String, u32)> {
    let mut all: Vec<_> = text::merge(words).into_iter().collect();
    all.sort_by_key(|(_, count)| Reverse(*count));
    all.truncate(FREQUENT);
    all
}

/// The largest folder, its largest file, and the whole.
fn examples(folders: &[Folder], fingerprint: u128) -> Vec<Question> {
    let mut examples = Vec::new();
    if let Some(folder) = folders.iter().max_by_key(|folder| folder.files.iter().map(bytes).sum::<u64>()) {
        if let Some(file) = folder.files.iter().max_by_key(|file| bytes(file)) {
            examples.extend([Question::Measures(file.clone()), Question::FileWords(file.clone())]);
        }
        examples.extend([Question::FolderWords(folder.id.clone()), Question::FolderText(folder.id.clone())]);
    }
    examples.push(Question::PhraseIndex { of: fingerprint });
    examples
}

fn bytes(file: &FileId) -> u64 {
    file.bytes
}
