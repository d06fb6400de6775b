//! Loopback addresses and a folder that no other test process has.
//!
//! The blocks are 127.77.0.0/24, 127.77.1.0/24 and so on. Who holds the lock of a block's file has its addresses and
//! its folder. The system lets a lock go when its process ends in whatever way, and the next one to take the block
//! removes what was left in the folder; so a killed test, or a cluster that is never dropped, leaves a folder at most
//! until the next test.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crate::HarnessError;

/// The port for CQL on all addresses. Neither a usual port of a database nor one that the system gives to clients.
pub(crate) const CQL_PORT: u16 = 29042;
/// The port on which nodes talk to each other.
pub(crate) const STORAGE_PORT: u16 = 27000;

/// A block of addresses and its folder, until dropped.
#[derive(Debug)]
pub(crate) struct Block {
    number: u8,
    folder: PathBuf,
    /// Held for its lock.
    _lock: File,
}

impl Block {
    /// Takes a block in which `addresses` addresses are free.
    pub(crate) fn take(addresses: u8) -> Result<Self, HarnessError> {
        let uid = rustix::process::getuid().as_raw();
        let root = std::env::temp_dir().join(format!("rookery-cassandra-{uid}"));
        let taken = HarnessError::io(format!("can't use {}", root.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(&root).map_err(taken)?;
        for number in 0..=u8::MAX {
            let taken = HarnessError::io(format!("can't take a block of addresses in {}", root.display()));
            if let Some(block) = Self::try_take(&root, number, addresses).map_err(taken)? {
                return Ok(block);
            }
        }
        Err(HarnessError::NoAddresses(CQL_PORT))
    }

    fn try_take(root: &Path, number: u8, addresses: u8) -> io::Result<Option<Self>> {
        let lock = File::create(root.join(format!("{number}.lock")))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let block = Self { number, folder: root.join(number.to_string()), _lock: lock };
        if !(1..=addresses).all(|host| is_free(block.address(host))) {
            return Ok(None);
        }
        block.clear()?;
        fs::create_dir(&block.folder)?;
        Ok(Some(block))
    }

    /// The address with this last number.
    pub(crate) fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 77, self.number, host)
    }

    /// Where the nodes keep everything.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // What can't be removed now is tried again by the next one to take the block.
        let _ = self.clear();
    }
}

fn is_free(address: Ipv4Addr) -> bool {
    [CQL_PORT, STORAGE_PORT].into_iter().all(|port| TcpListener::bind((address, port)).is_ok())
}
