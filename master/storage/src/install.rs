//! A snapshot that arrives: its rows go into the column family that is not in use, are checked, and the
//! consensus thread then makes that one current in a single synced batch. Until then nothing of the old
//! state is touched, and a crash leaves rows that the next arrival clears away.

use std::sync::Arc;

use raft::eraftpb::{HardState, Message, Snapshot};
use tokio::sync::OwnedMutexGuard;

use crate::StorageError;
use crate::db::{Batch, Db, Position};
use crate::log::Log;
use crate::snapshot::Unpacker;

/// Rows are written in batches of about this size.
const BATCH: usize = 1024 * 1024;

/// A complete, checked snapshot that waits to be installed.
pub(crate) struct Arrived {
    /// The consensus message that announced it.
    pub(crate) message: Message,
    /// The column family that holds its rows.
    pub(crate) slot: usize,
    /// Only one snapshot arrives at a time, from its first row to its installation.
    pub(crate) _turn: OwnedMutexGuard<()>,
}

/// The place that an arriving snapshot fills.
pub(crate) struct Arriving {
    db: Arc<Db>,
    slot: usize,
    unpacker: Unpacker,
    batch: Batch,
    pending: usize,
}

impl Arriving {
    /// Clears the place.
    pub(crate) fn start(db: Arc<Db>) -> Result<Self, StorageError> {
        let slot = 1 - db.meta()?.current;
        let mut batch = Batch::default();
        batch.clear(&db, slot)?;
        db.write(batch, false, "clear the place for a snapshot")?;
        Ok(Self { db, slot, unpacker: Unpacker::default(), batch: Batch::default(), pending: 0 })
    }

    /// Takes a frame; true when it was the last one.
    pub(crate) fn frame(&mut self, frame: &[u8]) -> Result<bool, StorageError> {
        let rows = self.unpacker.frame(frame).map_err(|error| StorageError::Damaged(error.to_string()))?;
        for (key, value) in rows {
            self.pending += key.len() + value.len();
            self.batch.row(&self.db, self.slot, key, Some(value));
        }
        let last = self.unpacker.is_complete();
        if self.pending >= BATCH || (last && !self.batch.is_empty()) {
            self.pending = 0;
            self.db.write(std::mem::take(&mut self.batch), false, "store a snapshot")?;
        }
        Ok(last)
    }

    pub(crate) fn slot(&self) -> usize {
        self.slot
    }
}

/// Makes the rows in `slot` the state, at the snapshot's position, with an empty log. `hard_state` is the
/// one that came with the snapshot, if it changed.
pub(crate) fn install(
    log: &mut Log,
    snapshot: &Snapshot,
    slot: usize,
    hard_state: Option<&HardState>,
) -> Result<(), StorageError> {
    let metadata = snapshot.get_metadata();
    let position = Position { index: metadata.index, term: metadata.term };
    let conf_state = metadata.get_conf_state().clone();
    let old = log.current;
    // The commit index must not be below the applied index at any moment.
    let mut hard_state = hard_state.unwrap_or(&log.hard_state).clone();
    hard_state.commit = hard_state.commit.max(position.index);
    let mut batch = Batch::default();
    batch.cut(&log.db, 0, log.last().index.max(position.index) + 1);
    batch.truncated(&log.db, position);
    batch.applied(&log.db, position);
    batch.conf_state(&log.db, &conf_state);
    batch.hard_state(&log.db, &hard_state);
    batch.current(&log.db, slot);
    log.db.write(batch, true, "install a snapshot")?;
    log.hard_state = hard_state;
    log.replaced(position, conf_state, slot);
    let mut batch = Batch::default();
    batch.clear(&log.db, old)?;
    log.db.write(batch, false, "clear the state before the snapshot")
}
