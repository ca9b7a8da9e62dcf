//! The cache, and the questions that it answers.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use larder::{Bytes, Cache, Error, ErrorKind, Explanation, Persistence, Result, Stats, bcache, ucache};

use crate::options::Options;
use crate::question::{Answer, FileId, Question};
use crate::sources::Folder;
use crate::text::{self, Measures, Words};

/// Returns answers from a cache; computes a missing one once and stores it.
pub(crate) struct Library {
    /// Every answer, in the tier that suits it.
    answers: Cache<Question, Answer>,
    /// The duration of the first run over each set of sources.
    runs: Cache<u128, Duration>,
}

impl Library {
    /// Opens the caches of earlier runs, or creates them.
    pub(crate) fn open(options: &Options) -> Result<Self> {
        let persistence = if options.auto { Persistence::Auto } else { Persistence::LongTerm };
        let mut answers = ucache("answers").persistence(persistence).disk_bytes(2 << 30).version(1);
        let mut runs = bcache("runs").disk_bytes(16 << 20);
        if let Some(dir) = &options.dir {
            answers = answers.dir(dir);
            runs = runs.dir(dir);
        }
        let library = Self { answers: answers.build()?, runs: runs.build()? };
        if options.clear {
            library.answers.clear()?;
            library.runs.clear()?;
        }
        Ok(library)
    }

    /// Lengths, a digest, and the longest repeat of a file: a small answer that is expensive for a long file.
    pub(crate) fn measures(&self, file: &FileId) -> Result<Measures> {
        let compute = || Ok(Answer::Measures(Measures::of(&read(file)?)));
        match self.ask(Question::Measures(file.clone()), compute)? {
            Answer::Measures(measures) => Ok(measures),
            _ => Err(mistaken()),
        }
    }

    /// The words of a file.
    fn file_words(&self, file: &FileId) -> Result<Arc<Words>> {
        let compute = || Ok(Answer::Words(Arc::new(text::words(&read(file)?))));
        match self.ask(Question::FileWords(file.clone()), compute)? {
            Answer::Words(words) => Ok(words),
            _ => Err(mistaken()),
        }
    }

    /// The words of a folder, from those of its files. The files are only read if the folder has no answer.
    pub(crate) fn folder_words(&self, folder: &Folder) -> Result<Arc<Words>> {
        let compute = || {
            let files: Vec<_> =
                folder.files.iter().map(|file| self.file_words(file)).collect::<Result<_>>()?;
            Ok(Answer::Words(Arc::new(text::merge(&files))))
        };
        match self.ask(Question::FolderWords(folder.id.clone()), compute)? {
            Answer::Words(words) => Ok(words),
            _ => Err(mistaken()),
        }
    }

    /// The text of a folder, without its layout.
    pub(crate) fn folder_text(&self, folder: &Folder) -> Result<Bytes> {
        let compute = || {
            let mut all = Vec::new();
            for file in &folder.files {
                text::append_plain(&mut all, &read(file)?);
            }
            Ok(Answer::Text(all.into()))
        };
        match self.ask(Question::FolderText(folder.id.clone()), compute)? {
            Answer::Text(text) => Ok(text),
            _ => Err(mistaken()),
        }
    }

    /// The index of all phrases in `text`, the text of all folders.
    pub(crate) fn phrase_index(&self, fingerprint: u128, text: &[u8]) -> Result<Arc<Vec<u32>>> {
        let compute = || Ok(Answer::Phrases(Arc::new(text::phrase_index(text))));
        match self.ask(Question::PhraseIndex { of: fingerprint }, compute)? {
            Answer::Phrases(index) => Ok(index),
            _ => Err(mistaken()),
        }
    }

    /// Returns the answer from the nearest tier that has it. On a miss one caller computes it, and concurrent
    /// callers wait for it.
    fn ask(&self, question: Question, compute: impl FnOnce() -> Result<Answer>) -> Result<Answer> {
        let answer = self.answers.try_get_with(question, compute);
        answer.map_err(|shared: Arc<Error>| Error::new(shared.kind(), shared.to_string()))
    }

    /// The duration of the first run over these sources. `None` if this is the first run, whose duration is
    /// then stored.
    pub(crate) fn first_run(&self, fingerprint: u128, this_run: Duration) -> Option<Duration> {
        let mut is_first = false;
        let first = self.runs.get_with(fingerprint, || {
            is_first = true;
            this_run
        });
        (!is_first).then_some(first)
    }

    /// The directory of the persistent tiers.
    pub(crate) fn place(&self) -> String {
        self.answers.dir().map_or_else(|| "memory".to_owned(), |dir| dir.display().to_string())
    }

    /// The statistics so far, tier by tier.
    pub(crate) fn stats(&self) -> Stats {
        self.answers.stats()
    }

    /// Every question with an answer, including those of earlier runs.
    pub(crate) fn questions(&self) -> Result<Vec<Arc<Question>>> {
        self.answers.keys()
    }

    /// Explains where an answer is, and why.
    pub(crate) fn explain(&self, question: &Question) -> Result<Explanation> {
        self.answers.explain(question)
    }

    /// Flushes all answers and closes the files.
    pub(crate) fn close(&self) -> Result<()> {
        self.answers.close().and(self.runs.close())
    }
}

fn read(file: &FileId) -> Result<Vec<u8>> {
    fs::read(&file.path).map_err(|error| Error::new(ErrorKind::Io, format!("{}: {error}", file.path)))
}

/// Error: the answer has another variant than its question. Cannot occur: `ask` is private and each caller
/// uses the right variant.
fn mistaken() -> Error {
    Error::new(ErrorKind::Corrupt, "the answer belongs to another question")
}
