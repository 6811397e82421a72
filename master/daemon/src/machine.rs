//! The state machine that the Raft group carries: [`state::State`] with its writes and its watchers.
//!
//! Invariant: what is announced to watchers is committed and applied, in the order of revisions, once.

use std::sync::Arc;

use state::discovery::Notice;
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
    /// The rows, before and after; none when the whole state was replaced: read everything anew.
    pub events: Vec<Event>,
    /// For those who wait at nodes.
    pub notices: Vec<Notice>,
}

/// What a proposer learns.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Of a transaction.
    pub outcome: Option<Outcome>,
    /// The number of the action that the entry made.
    pub action: Option<ActionId>,
    /// What became of each event of racks.
    pub rack: Vec<state::discovery::Outcome>,
    /// The revision after it.
    pub revision: u64,
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
}

impl storage::Machine for Machine {
    type Answer = Answer;

    fn apply(&mut self, index: u64, entry: &[u8], writes: &mut storage::Writes) -> Answer {
        let entry: Entry = match wire::frame::decode(entry) {
            Ok(entry) => entry,
            // An entry of a newer version that this one cannot read: going on would make replicas differ.
            Err(error) => {
                panic!("log entry {index} cannot be read ({error}): this master is too old for its log")
            }
        };
        let applied = self.state.apply(index, &entry);
        for (key, value) in applied.writes {
            match value {
                Some(value) => writes.put(key, value),
                None => writes.delete(key),
            }
        }
        let action = applied
            .events
            .iter()
            .find(|event| event.old.is_none() && event.table_name() == "actions")
            .and_then(|event| event.new_text("id").parse().ok().map(ActionId));
        if !applied.events.is_empty() {
            let revision = self.state.revision();
            let committed = Committed { revision, events: applied.events, notices: applied.notices };
            // Nobody watching is no error.
            let _ = self.watchers.0.send(Arc::new(committed));
        }
        Answer { outcome: applied.outcome, action, rack: applied.rack, revision: self.state.revision() }
    }

    fn load(&mut self, rows: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) {
        self.state = State::load(rows);
        // Whoever watches has missed everything up to here; the number tells it to read anew.
        let anew = Committed { revision: self.state.revision(), events: Vec::new(), notices: Vec::new() };
        let _ = self.watchers.0.send(Arc::new(anew));
    }
}
