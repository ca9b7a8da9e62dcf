//! The sockets of an observed process: where they are, and who may connect.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The longest path of a socket that every Unix accepts.
const PATH_MAX: usize = 103;
/// The longest part of the name of the program in the name of a socket.
const PROGRAM_MAX: usize = 24;

/// A socket that is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    process: u32,
}

impl Socket {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Binds in a folder that only this user can enter, and moves the socket to its place once it has its mode. So
    /// there is no moment at which another user could connect.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        sweep(folder);
        let porch = folder.join(format!(".o{}", std::process::id()));
        let _left_behind = fs::remove_dir_all(&porch);
        DirBuilder::new().mode(0o700).create(&porch)?;
        let bound = Self::bind(&porch.join("s"), &path);
        let _is_empty = fs::remove_dir_all(&porch);
        Ok(Self { listener: bound?, path, process: std::process::id() })
    }

    fn bind(first: &Path, path: &Path) -> io::Result<UnixListener> {
        let listener = UnixListener::bind(first)?;
        listener.set_nonblocking(true)?;
        fs::set_permissions(first, Permissions::from_mode(0o600))?;
        fs::rename(first, path)?;
        Ok(listener)
    }
}

/// The place of a socket: in the directory of a cache, or in the runtime directory if there is no directory or the path
/// is too long.
pub(super) fn place(dir: Option<&Path>) -> io::Result<PathBuf> {
    let in_cache = |dir: &Path| dir.join(format!("observe-{}.sock", std::process::id()));
    match dir.map(in_cache).filter(|path| path.as_os_str().len() <= PATH_MAX) {
        Some(path) => Ok(path),
        None => Ok(private_dir(runtime_dir())?.join(name())),
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A forked child has a copy of this value, and the socket belongs to its parent.
        if self.process == std::process::id() {
            let _is_gone = fs::remove_file(&self.path);
        }
    }
}

fn name() -> String {
    let mut program: String = super::program()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' })
        .collect();
    program.truncate(PROGRAM_MAX);
    format!("{program}-{}.sock", std::process::id())
}

/// The folder for sockets of caches without a directory.
pub(super) fn runtime_dir() -> PathBuf {
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match given.filter(|dir| dir.is_absolute() && dir.is_dir()) {
        Some(dir) => dir.join("larder"),
        None => std::env::temp_dir().join(format!("larder-{}", rustix::process::getuid().as_raw())),
    }
}

/// Creates the folder. Refuses one that another user owns or can write to: the temporary folder is open to all.
fn private_dir(dir: PathBuf) -> io::Result<PathBuf> {
    match DirBuilder::new().mode(0o700).create(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(&dir)?;
    let is_ours = found.uid() == rustix::process::getuid().as_raw();
    if found.is_dir() && is_ours && found.mode() & 0o077 == 0 {
        return Ok(dir);
    }
    let message = format!("{} is not a directory that only this user can enter", dir.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

/// Removes the sockets in `folder` whose processes have ended.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_socket = entry.file_type().is_ok_and(|found| found.is_socket());
        if is_socket && path.extension().is_some_and(|extension| extension == "sock") && is_dead(&path) {
            let _is_gone = fs::remove_file(&path);
        }
    }
}

fn is_dead(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
