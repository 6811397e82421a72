//! The agents that are connected now.
//!
//! Invariant: a node has at most one entry. A newer connection takes the place of the older one, which is
//! closed; the older one's farewell does not remove the newer one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use link::Connection;
use tokio::sync::watch;
use wire::agent::Phase;
use wire::ids::Revision;

/// A connected agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Its connection.
    pub connection: Connection,
    /// Where in its life the node is.
    pub phase: Phase,
    /// Differs for each boot.
    pub boot_id: String,
}

/// The register. Clones are the same register.
#[derive(Debug, Clone)]
pub struct Agents {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<watch::Sender<u64>>,
}

#[derive(Debug, Default)]
struct Inner {
    present: BTreeMap<String, Agent>,
    came: BTreeSet<String>,
    went: BTreeSet<String>,
    admitted: HashMap<String, String>,
    awaited: HashMap<String, Revision>,
}

impl Default for Agents {
    fn default() -> Self {
        Self::new()
    }
}

impl Agents {
    /// Nobody is connected.
    #[must_use]
    pub fn new() -> Self {
        Self { inner: Arc::default(), changed: Arc::new(watch::Sender::new(0)) }
    }

    /// A node's agent has connected. An older connection of the node is closed.
    pub fn enter(&self, node: &str, agent: Agent) {
        let mut inner = self.lock();
        inner.went.remove(node);
        inner.came.insert(node.to_owned());
        if let Some(old) = inner.present.insert(node.to_owned(), agent) {
            old.connection.close(link::close::REPLACED, "another connection of this node took its place");
        }
        drop(inner);
        self.changed.send_modify(|count| *count += 1);
    }

    /// A connection of the node has ended.
    pub fn leave(&self, node: &str, connection: &Connection) {
        let mut inner = self.lock();
        if inner.present.get(node).is_some_and(|agent| agent.connection.id() == connection.id()) {
            inner.present.remove(node);
            inner.came.remove(node);
            inner.went.insert(node.to_owned());
            drop(inner);
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// The node's agent.
    #[must_use]
    pub fn find(&self, node: &str) -> Option<Agent> {
        self.lock().present.get(node).cloned()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().present.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells of every change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// All that are connected; the changes so far are forgotten.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        let mut inner = self.lock();
        inner.came.clear();
        inner.went.clear();
        inner.present.keys().cloned().collect()
    }

    /// Who came and who went since the last question.
    #[must_use]
    pub fn take_changes(&self) -> (Vec<String>, Vec<String>) {
        let mut inner = self.lock();
        let came = std::mem::take(&mut inner.came);
        let went = std::mem::take(&mut inner.went);
        (came.into_iter().collect(), went.into_iter().collect())
    }

    /// A node was admitted through us with this key; the mirror may not know it yet.
    pub fn admitted(&self, node: &str, fingerprint: &str) {
        self.lock().admitted.insert(node.to_owned(), fingerprint.to_owned());
    }

    /// Whether a node was admitted through us with this key.
    #[must_use]
    pub fn was_admitted(&self, node: &str, fingerprint: &str) -> bool {
        self.lock().admitted.get(node).is_some_and(|known| known == fingerprint)
    }

    /// The mirror has caught up with an admission.
    pub fn forget_admission(&self, node: &str) {
        self.lock().admitted.remove(node);
    }

    /// The node's destiny in the mirror counts only from this revision on.
    pub fn await_revision(&self, node: &str, revision: Revision) {
        self.lock().awaited.insert(node.to_owned(), revision);
    }

    /// From which revision on the node's destiny in the mirror counts.
    #[must_use]
    pub fn awaited(&self, node: &str) -> Revision {
        self.lock().awaited.get(node).copied().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
