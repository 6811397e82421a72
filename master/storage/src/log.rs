//! The log as the consensus library wants to see it: what is on the disk, with the newest entries also
//! in memory.
//!
//! Invariant: `truncated.index < first <= last + 1`; entries in the cache are the newest of the log,
//! without a gap, and equal to those on the disk.

use std::collections::VecDeque;
use std::sync::Arc;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState};

use crate::StorageError;
use crate::db::{Batch, Db, Position};
use crate::highwater::HighWater;

/// The cache holds at most this many bytes of entries.
const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// And at most this many entries.
const CACHE_ENTRIES: usize = 8192;

/// The log, the hard state and the applied position.
pub(crate) struct Log {
    pub(crate) db: Arc<Db>,
    pub(crate) hard_state: HardState,
    pub(crate) conf_state: ConfState,
    pub(crate) applied: Position,
    pub(crate) truncated: Position,
    /// Which of the state's column families is in use.
    pub(crate) current: usize,
    last: Position,
    cache: VecDeque<Entry>,
    cached_bytes: usize,
}

impl Log {
    /// Reads the log and checks that its parts fit together.
    pub(crate) fn open(db: Arc<Db>) -> Result<Self, StorageError> {
        let meta = db.meta()?;
        let last = match db.last_entry()? {
            Some(entry) if entry.index > meta.truncated.index => {
                Position { index: entry.index, term: entry.term }
            }
            _ => meta.truncated,
        };
        let log = Self {
            db,
            hard_state: meta.hard_state,
            conf_state: meta.conf_state,
            applied: meta.applied,
            truncated: meta.truncated,
            current: meta.current,
            last,
            cache: VecDeque::new(),
            cached_bytes: 0,
        };
        let (truncated, applied, commit) = (log.truncated.index, log.applied.index, log.hard_state.commit);
        if truncated > applied || applied > commit || commit > log.last.index {
            return Err(StorageError::Damaged(format!(
                "positions out of order: cut at {truncated}, applied {applied}, committed {commit}, last {}",
                log.last.index
            )));
        }
        if log.last.index > truncated && log.db.entry(truncated + 1)?.is_none() {
            return Err(StorageError::Damaged(format!("entry {} is missing", truncated + 1)));
        }
        Ok(log)
    }

    pub(crate) fn last(&self) -> Position {
        self.last
    }

    /// How far the log went.
    pub(crate) fn high_water(&self) -> HighWater {
        HighWater { term: self.hard_state.term, last: self.last }
    }

    /// Puts new entries into the batch; later ones of an earlier leader are replaced. Call
    /// [`Log::appended`] when the batch is written.
    pub(crate) fn append(&self, batch: &mut Batch, entries: &[Entry]) {
        if let Some(newest) = entries.last()
            && newest.index < self.last.index
        {
            batch.cut(&self.db, newest.index + 1, self.last.index + 1);
        }
        for entry in entries {
            batch.append(&self.db, entry);
        }
    }

    /// The entries are on the disk now.
    pub(crate) fn appended(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first().map(|entry| entry.index) else { return };
        while self.cache.back().is_some_and(|entry| entry.index >= first) {
            self.cached_bytes -= self.cache.pop_back().map_or(0, |entry| size(&entry));
        }
        if self.cache.back().is_some_and(|entry| entry.index + 1 != first) {
            self.forget_cache();
        }
        for entry in entries {
            self.last = Position { index: entry.index, term: entry.term };
            self.cached_bytes += size(&entry);
            self.cache.push_back(entry);
        }
        while self.cached_bytes > CACHE_BYTES || self.cache.len() > CACHE_ENTRIES {
            self.cached_bytes -= self.cache.pop_front().map_or(0, |entry| size(&entry));
        }
    }

    /// Everything up to `position` is in the state of an installed snapshot; the log is empty.
    pub(crate) fn replaced(&mut self, position: Position, conf_state: ConfState, current: usize) {
        self.forget_cache();
        self.truncated = position;
        self.applied = position;
        self.last = position;
        self.conf_state = conf_state;
        self.current = current;
    }

    /// The entries up to `position` are no longer on the disk.
    pub(crate) fn compacted(&mut self, position: Position) {
        self.truncated = position;
        while self.cache.front().is_some_and(|entry| entry.index <= position.index) {
            self.cached_bytes -= self.cache.pop_front().map_or(0, |entry| size(&entry));
        }
    }

    fn forget_cache(&mut self) {
        self.cache.clear();
        self.cached_bytes = 0;
    }

    fn cached(&self, index: u64) -> Option<&Entry> {
        let first = self.cache.front()?.index;
        self.cache.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    fn entry(&self, index: u64) -> raft::Result<Entry> {
        if let Some(entry) = self.cached(index) {
            return Ok(entry.clone());
        }
        match self.db.entry(index) {
            Ok(Some(entry)) => Ok(entry),
            Ok(None) => Err(other(StorageError::Damaged(format!("entry {index} of the log is missing")))),
            Err(error) => Err(other(error)),
        }
    }

    /// The term of an entry that is still known.
    pub(crate) fn term_of(&self, index: u64) -> raft::Result<u64> {
        if index == self.truncated.index {
            return Ok(self.truncated.term);
        }
        if index == self.last.index {
            return Ok(self.last.term);
        }
        if index < self.truncated.index {
            return Err(raft::Error::Store(raft::StorageError::Compacted));
        }
        if index > self.last.index {
            return Err(raft::Error::Store(raft::StorageError::Unavailable));
        }
        Ok(self.entry(index)?.term)
    }
}

impl raft::Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated.index {
            return Err(raft::Error::Store(raft::StorageError::Compacted));
        }
        if high > self.last.index + 1 {
            return Err(raft::Error::Store(raft::StorageError::Unavailable));
        }
        let limit = max_size.into().and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let mut total = 0usize;
        let mut entries = Vec::new();
        for index in low..high {
            let entry = self.entry(index)?;
            total = total.saturating_add(size(&entry));
            if total > limit && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        self.term_of(index)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last.index)
    }

    /// Only what the snapshot is of: the rows follow on their own stream, frozen when it is sent.
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        if self.applied.index < request_index || self.applied.index == 0 {
            return Err(raft::Error::Store(raft::StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = self.applied.index;
        metadata.term = self.applied.term;
        metadata.set_conf_state(self.conf_state.clone());
        Ok(snapshot)
    }
}

fn size(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + 64
}

fn other(error: StorageError) -> raft::Error {
    raft::Error::Store(raft::StorageError::Other(Box::new(error)))
}
