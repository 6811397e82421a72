//! One replicated log and the state that follows from it: Raft over RocksDB, one database, one
//! write-ahead log, the same code path for one master and for three.
//!
//! Knows nothing of tables: entries are bytes, and a [`Machine`] says which keys they change. It is the
//! only user of RocksDB in the workspace.
//!
//! # Invariants
//! - What is acknowledged is on the disks of a majority (fsync before acknowledging).
//! - The applied index lies in the same atomic batch as the keys that were written by applying.
//! - The persisted commit index is never below the applied index.
//! - A failed write or a panic of the consensus thread ends the process ([`OnFault`]); nothing is retried.

mod db;
mod driver;
mod group;
mod highwater;
mod install;
mod log;
mod peers;
mod snapshot;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use group::{Group, ProposeError, ReadError, Role, Status};

/// Longest entry that can be proposed, in bytes.
pub const MAX_ENTRY: usize = 2 * 1024 * 1024;
/// Exit code of a process whose disk failed (`EX_IOERR`).
pub const EXIT_DISK: i32 = 74;
/// Exit code of a process whose consensus thread panicked (`EX_SOFTWARE`).
pub const EXIT_PANIC: i32 = 70;

/// What the log's entries do.
pub trait Machine: Send + Sync + 'static {
    /// What a proposer gets back.
    type Answer: Send + 'static;

    /// Applies a committed entry. Must be deterministic and cannot fail; every key that belongs to the
    /// state is written through `writes`, so that [`Machine::load`] can give the same state back.
    fn apply(&mut self, index: u64, entry: &[u8], writes: &mut Writes) -> Self::Answer;

    /// Replaces the whole state by these keys and values, which come in the order of the keys.
    fn load(&mut self, rows: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>);
}

/// Keys written while applying; they reach the disk together with the applied index.
#[derive(Debug, Default)]
pub struct Writes(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl Writes {
    /// The key has this value now.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.0.push((key.into(), Some(value.into())));
    }

    /// The key is gone.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.0.push((key.into(), None));
    }

    /// What was written, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> + '_ {
        self.0.drain(..)
    }
}

/// A master of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its number, never 0, never used again.
    pub id: u64,
    /// The name in its certificate.
    pub name: String,
    /// Where its QUIC endpoint listens.
    pub address: SocketAddr,
}

/// How fast the group notices that its leader is gone.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The step of Raft's clock.
    pub tick: Duration,
    /// A leader gives a sign of life every so many ticks.
    pub heartbeat_ticks: usize,
    /// A follower stands for election after one to two times so many ticks of silence.
    pub election_ticks: usize,
}

impl Default for Timing {
    fn default() -> Self {
        Self { tick: Duration::from_millis(50), heartbeat_ticks: 2, election_ticks: 20 }
    }
}

/// What happens when the disk fails or the consensus thread panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFault {
    /// The process ends at once; the only right choice for a daemon.
    Exit,
    /// The group stops and says why in [`Status::fault`]; for tests with several members in one process.
    Report,
}

/// How a group is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of the database.
    pub directory: PathBuf,
    /// Name of the cluster; a database of another cluster is refused.
    pub cluster: String,
    /// Which of the members this is.
    pub id: u64,
    /// All members. The numbers are fixed by the first start; addresses may change.
    pub members: Vec<Member>,
    /// Election and heartbeat times.
    pub timing: Timing,
    /// How many applied entries are kept for followers that lag; behind that they get a snapshot.
    pub keep_entries: u64,
    /// Proposals are refused when the file system has fewer free bytes.
    pub min_free: u64,
    /// Disk faults and panics.
    pub on_fault: OnFault,
}

impl Options {
    /// A group of one with default settings.
    #[must_use]
    pub fn single(directory: impl Into<PathBuf>, cluster: &str, name: &str) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            directory: directory.into(),
            cluster: cluster.to_owned(),
            id: 1,
            members: vec![Member { id: 1, name: name.to_owned(), address }],
            timing: Timing::default(),
            keep_entries: 20_000,
            min_free: 64 * 1024 * 1024,
            on_fault: OnFault::Exit,
        }
    }
}

/// How members reach each other; a group of one needs none.
#[derive(Debug, Clone)]
pub struct Transport {
    /// The endpoint that dials; it may be the one that accepts.
    pub endpoint: link::Endpoint,
    /// This master's credentials, and those that replace them.
    pub credentials: tokio::sync::watch::Receiver<link::Credentials>,
}

impl Transport {
    /// A transport whose credentials do not change.
    #[must_use]
    pub fn new(endpoint: link::Endpoint, credentials: link::Credentials) -> Self {
        Self { endpoint, credentials: tokio::sync::watch::channel(credentials).1 }
    }
}

/// Why a group cannot be opened or has stopped.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The members or settings contradict each other.
    #[error("configuration of the group: {0}")]
    Config(String),
    /// The database refused.
    #[error("database, while trying to {attempt}")]
    Database {
        /// What was attempted.
        attempt: &'static str,
        /// What RocksDB said.
        #[source]
        source: rocksdb::Error,
    },
    /// The file system is full.
    #[error("no space left on the file system of the database, while trying to {attempt}")]
    DiskFull {
        /// What was attempted.
        attempt: &'static str,
    },
    /// What lies on the disk cannot be.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The database is older than it once was.
    #[error(
        "the database has lost its newest entries: it ends at {found}, it once had {before}. Put the lost          files back, or with other masters alive empty the folder: this master is then filled anew"
    )]
    Amnesia {
        /// Where the log ends now.
        found: String,
        /// Where it once ended.
        before: String,
    },
    /// The database belongs to another cluster or member.
    #[error("the database in this folder belongs to {found}, wanted {wanted}")]
    Foreign {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
    /// The consensus library refused.
    #[error("consensus: {0}")]
    Raft(String),
    /// A thread or folder could not be made.
    #[error("{attempt}")]
    System {
        /// What was attempted.
        attempt: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests;
