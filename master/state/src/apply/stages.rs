//! Transactions too large for one entry of the log: parts that wait, and the entry that applies them all at once.
//!
//! Parts change nothing. They are state like rows: in the store, in snapshots, equal on every member. Invariant: a
//! stage holds parts without a gap, preconditions before changes; all stages together have at most [`STAGED`] bytes.

use std::sync::Arc;

use wire::frame::{decode, encode};

use super::{Applied, State, number};
use crate::change::{Content, Part, Refusal};

/// Most bytes of parts that wait.
pub const STAGED: usize = 256 << 20;
/// A stage that got no part for so many seconds is forgotten.
pub const STAGE_LIFE: u64 = 300;

const KEY: &[u8] = b"g/";

/// Parts of one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stage {
    /// When the last part was proposed, in unix seconds.
    time: u64,
    parts: Vec<Arc<[u8]>>,
    bytes: usize,
    /// The last part holds changes: no preconditions may follow.
    changes: bool,
}

impl Stage {
    /// What the parts hold, in order.
    pub(super) fn contents(&self) -> impl Iterator<Item = Content> + '_ {
        self.parts.iter().filter_map(|part| decode::<Part>(part).ok()).map(|part| part.content)
    }

    fn takes(&self, part: &Part) -> bool {
        let next = u32::try_from(self.parts.len()).is_ok_and(|next| next == part.number);
        next && !(self.changes && matches!(part.content, Content::Preconditions(_)))
    }

    fn push(&mut self, part: &Part, bytes: Vec<u8>) {
        self.time = self.time.max(part.time);
        self.changes = matches!(part.content, Content::Changes(_));
        self.bytes += bytes.len();
        self.parts.push(bytes.into());
    }
}

impl State {
    /// Transactions that wait for their remaining parts: their numbers, and when the last part came in unix seconds.
    pub fn stages(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.stages.iter().map(|(id, stage)| (*id, stage.time))
    }

    /// Takes a part. One that does not fit ends its stage: the transaction will be refused.
    pub(super) fn stage(&mut self, part: &Part) -> Applied {
        self.stage_within(part, STAGED)
    }

    fn stage_within(&mut self, part: &Part, limit: usize) -> Applied {
        let mut applied = Applied::default();
        self.forget_overdue(part.time, &mut applied);
        let waiting: usize = self.stages.values().map(|stage| stage.bytes).sum();
        let known = self.stages.get(&part.stage).cloned();
        let new = known.or_else(|| (part.number == 0).then(Stage::default)).filter(|stage| stage.takes(part));
        let bytes = encode(part).ok().filter(|bytes| waiting + bytes.len() <= limit);
        match (new, bytes) {
            (Some(mut stage), Some(bytes)) => {
                applied.writes.push((key(part.stage, part.number), Some(bytes.clone())));
                stage.push(part, bytes);
                self.stages.insert(part.stage, stage);
            }
            _ => self.forget(part.stage, &mut applied),
        }
        applied
    }

    /// Forgets stages that nobody will complete.
    pub(super) fn forget_stages(&mut self, stages: &[u64]) -> Applied {
        let mut applied = Applied::default();
        stages.iter().for_each(|stage| self.forget(*stage, &mut applied));
        applied
    }

    /// Takes a stage out to be applied; it must have exactly so many parts.
    pub(super) fn staged(&mut self, stage: u64, parts: u32, applied: &mut Applied) -> Result<Stage, Refusal> {
        let found = self.stages.get(&stage).cloned().unwrap_or_default();
        self.forget(stage, applied);
        match u32::try_from(found.parts.len()) {
            Ok(count) if count == parts => Ok(found),
            _ => Err(Refusal::Incomplete),
        }
    }

    pub(super) fn forget_overdue(&mut self, now: u64, applied: &mut Applied) {
        if self.stages.is_empty() {
            return;
        }
        let overdue = |stage: &Stage| stage.time.saturating_add(STAGE_LIFE) < now;
        let late: Vec<u64> =
            self.stages.iter().filter(|(_, stage)| overdue(stage)).map(|(id, _)| *id).collect();
        late.into_iter().for_each(|stage| self.forget(stage, applied));
    }

    fn forget(&mut self, stage: u64, applied: &mut Applied) {
        let Some(gone) = self.stages.remove(&stage) else { return };
        let parts = u32::try_from(gone.parts.len()).unwrap_or(u32::MAX);
        applied.writes.extend((0..parts).map(|number| (key(stage, number), None)));
    }

    /// Reads parts that [`State::stage`] wrote.
    pub(super) fn load_stages(&mut self, mut parts: Vec<(Vec<u8>, Vec<u8>)>) {
        parts.sort_unstable();
        for (_, bytes) in parts {
            let Ok(part) = decode::<Part>(&bytes) else { continue };
            let mut stage = self.stages.get(&part.stage).cloned().unwrap_or_default();
            stage.push(&part, bytes);
            self.stages.insert(part.stage, stage);
        }
    }
}

/// Whether the store's key is that of a part.
pub(super) fn is_part(key: &[u8]) -> bool {
    key.strip_prefix(KEY).and_then(|rest| rest.get(..8)).and_then(number).is_some()
}

fn key(stage: u64, part: u32) -> Vec<u8> {
    [KEY, &stage.to_be_bytes(), &part.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests;
