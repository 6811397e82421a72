//! The state machine that the Raft group carries: [`state::State`] with its writes and its watchers.
//!
//! Invariant: what is announced to watchers is committed and applied, in the order of revisions, once.

use std::sync::Arc;

use state::{Entry, Event, Outcome, State};
use tokio::sync::broadcast;
use wire::ids::ActionId;

/// Committed changes that a slow watcher may be behind; then it must read everything anew.
const BEHIND: usize = 4096;

/// Rows that were changed together.
#[derive(Debug)]
pub struct Committed {
    /// At this revision.
    pub revision: u64,
    /// The rows, before and after.
    pub events: Vec<Event>,
}

/// What a proposer learns.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Of a transaction.
    pub outcome: Option<Outcome>,
    /// The number of the action that the entry made.
    pub action: Option<ActionId>,
}

/// Watchers of committed changes. Clones are the same.
#[derive(Debug, Clone)]
pub struct Watchers(broadcast::Sender<Arc<Committed>>);

impl Default for Watchers {
    fn default() -> Self {
        Self(broadcast::Sender::new(BEHIND))
    }
}

impl Watchers {
    /// Changes from now on. A receiver that lags must read everything anew.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Committed>> {
        self.0.subscribe()
    }
}

/// The state and who watches it.
#[derive(Debug)]
pub struct Machine {
    state: State,
    watchers: Watchers,
}

impl Machine {
    /// An empty state.
    #[must_use]
    pub fn new(watchers: Watchers) -> Self {
        Self { state: State::new(), watchers }
    }

    /// The state at the applied index.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Applies an encoded [`Entry`]; `write` gets each key with its new value, or none to delete it.
    pub fn apply(
        &mut self,
        index: u64,
        entry: &[u8],
        mut write: impl FnMut(Vec<u8>, Option<Vec<u8>>),
    ) -> Answer {
        let entry: Entry = match wire::frame::decode(entry) {
            Ok(entry) => entry,
            // An entry of a newer version that this one cannot read: going on would make replicas differ.
            Err(error) => {
                tracing::error!(index, %error, "a log entry cannot be read; this master is too old for its log");
                std::process::abort();
            }
        };
        let applied = self.state.apply(index, &entry);
        for (key, value) in applied.writes {
            write(key, value);
        }
        let action = applied
            .events
            .iter()
            .find(|event| event.old.is_none() && event.table_name() == "actions")
            .and_then(|event| event.new_text("id").parse().ok().map(ActionId));
        if !applied.events.is_empty() {
            // Nobody watching is no error.
            let _ = self
                .watchers
                .0
                .send(Arc::new(Committed { revision: self.state.revision(), events: applied.events }));
        }
        Answer { outcome: applied.outcome, action }
    }

    /// Replaces everything by what the store holds.
    pub fn load(&mut self, pairs: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) {
        self.state = State::load(pairs);
    }
}
