//! The input: folders of text, in a stable order.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};

use larder::{Error, Result};
use walkdir::{DirEntry, WalkDir};

use crate::options::Options;
use crate::question::{FileId, FolderId, fingerprint};

/// A folder directly below a root (in the registry: a crate), and all text in it.
pub(crate) struct Folder {
    pub(crate) id: FolderId,
    pub(crate) files: Vec<FileId>,
}

/// The extensions of text files.
const TEXT: [&str; 22] = [
    "c", "cc", "cpp", "css", "go", "h", "hpp", "html", "java", "js", "lua", "md", "pl", "pm", "py", "rb",
    "rs", "rst", "sh", "toml", "ts", "txt",
];

/// The folders to study: root by root, in the order of paths, up to the limit.
///
/// Follows no symbolic links, and skips files that it cannot read.
pub(crate) fn walk(options: &Options) -> Result<Vec<Folder>> {
    let roots = options.folder.clone().map_or_else(roots, |folder| vec![folder]);
    let mut left = options.limit;
    let files = roots
        .iter()
        .flat_map(|root| text_files(root))
        .filter(|(_, file)| (1..=options.limit / 4).contains(&file.bytes))
        .map_while(|(folder, file)| {
            left = left.checked_sub(file.bytes)?;
            Some((folder, file))
        });
    let folders = group(files);
    if folders.is_empty() {
        let given = format!("{roots:?}, where there is no text");
        return Err(Error::config("FOLDER", given, format!("a folder with *.{}", TEXT.join(", *."))));
    }
    Ok(folders)
}

/// Folders with text that most machines have: the sources of each registry, then those of the system.
fn roots() -> Vec<PathBuf> {
    let cargo =
        env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    let registries = cargo.into_iter().flat_map(|cargo| {
        let sources = WalkDir::new(cargo.join("registry/src")).min_depth(1).max_depth(1);
        sources.sort_by_file_name().into_iter().flatten().map(DirEntry::into_path)
    });
    let system = ["/usr/include", "/usr/share", "/usr/lib"].map(PathBuf::from);
    registries.chain(system).filter(|root| root.is_dir()).collect()
}

/// The text below `root`, each file with its folder.
fn text_files(root: &Path) -> impl Iterator<Item = (String, FileId)> {
    let entries = WalkDir::new(root).sort_by_file_name().into_iter().flatten();
    entries.filter(is_text).filter_map(|entry| Some((folder_of(&entry)?, file_id(&entry)?)))
}

fn is_text(entry: &DirEntry) -> bool {
    let extension = entry.path().extension().and_then(|extension| extension.to_str());
    entry.file_type().is_file() && extension.is_some_and(|extension| TEXT.contains(&extension))
}

/// The folder directly below the root, or the root for files directly in it.
fn folder_of(entry: &DirEntry) -> Option<String> {
    let levels_up = entry.depth().saturating_sub(1).max(1);
    entry.path().ancestors().nth(levels_up)?.to_str().map(str::to_owned)
}

fn file_id(entry: &DirEntry) -> Option<FileId> {
    let metadata = File::open(entry.path()).ok()?.metadata().ok()?;
    let path = entry.path().to_str()?.to_owned();
    Some(FileId { path, bytes: metadata.len(), modified: metadata.modified().ok()? })
}

fn group(files: impl Iterator<Item = (String, FileId)>) -> Vec<Folder> {
    let mut folders: BTreeMap<String, Vec<FileId>> = BTreeMap::new();
    for (folder, file) in files {
        folders.entry(folder).or_default().push(file);
    }
    let identify = |(path, files)| Folder { id: FolderId { path, fingerprint: fingerprint(&files) }, files };
    folders.into_iter().map(identify).collect()
}
