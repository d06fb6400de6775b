//! The data folder: for one process at a time, and for its user's eyes only.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use crate::StoreError;

const LOCK: &str = "rookery.lock";
/// Permissions of files with messages, password hashes and signing keys in them.
const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_FOLDER: u32 = 0o700;

/// The right to use a data folder, until dropped or until the process ends in whatever way.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Makes the folder if need be and takes the lock in it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process has it; otherwise the folder can't be made or written.
    pub fn take(folder: &Path) -> Result<Self, StoreError> {
        create_folder(folder).map_err(|error| failed("make the data folder", folder, &error))?;
        let path = folder.join(LOCK);
        let file =
            open_private(&path).map_err(|error| failed("write into the data folder", folder, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(format!(
                "the data folder {} is open in another process",
                folder.display()
            ))),
            Err(TryLockError::Error(error)) => Err(failed("lock the data folder", folder, &error)),
        }
    }
}

/// Makes an empty file for the database, or takes an existing one away from other eyes. SQLite gives the files beside
/// it the same permissions.
pub(crate) fn create_private(file: &Path) -> Result<(), StoreError> {
    open_private(file).map(drop).map_err(|error| failed("write", file, &error))
}

fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(folder)?;
    // The new name must be on the disk before anything in the folder is promised to be.
    match folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn open_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE_FILE)
        .open(path)?;
    if file.metadata()?.permissions().mode() & 0o777 != PRIVATE_FILE {
        file.set_permissions(fs::Permissions::from_mode(PRIVATE_FILE))?;
    }
    Ok(file)
}

fn failed(what: &str, path: &Path, error: &io::Error) -> StoreError {
    let text = format!("can't {what} {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full(text),
        _ => StoreError::Unavailable(text),
    }
}
