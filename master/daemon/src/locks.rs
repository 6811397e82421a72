//! Who acts on which node: two actions that would change the same machine do not run at once.
//!
//! Invariant: a node is held by at most one action, and only while that action's guard lives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// All locks of this master. Clones are the same locks.
#[derive(Debug, Clone, Default)]
pub struct Locks(Arc<Mutex<BTreeMap<String, Holder>>>);

/// Who holds a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The action's number, as shown to people.
    pub action: u64,
    /// Its command.
    pub command: String,
    /// Its user.
    pub user: String,
}

/// Nodes held until this is dropped.
#[derive(Debug)]
pub struct Held {
    locks: Locks,
    nodes: Vec<String>,
}

impl Locks {
    /// Takes those of `nodes` that are free, and tells who holds the others.
    #[must_use]
    pub fn take(&self, nodes: &[String], holder: &Holder) -> (Held, Vec<(String, Holder)>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        let mut refused = Vec::new();
        for node in nodes {
            match held.get(node) {
                Some(other) => refused.push((node.clone(), other.clone())),
                None => {
                    held.insert(node.clone(), holder.clone());
                    taken.push(node.clone());
                }
            }
        }
        (Held { locks: self.clone(), nodes: taken }, refused)
    }
}

impl Held {
    /// The nodes that are held.
    #[must_use]
    pub fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// Lets one node go before the others.
    pub fn release(&mut self, node: &str) {
        if let Some(index) = self.nodes.iter().position(|held| held == node) {
            self.nodes.swap_remove(index);
            self.locks.0.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.locks.0.lock().unwrap_or_else(PoisonError::into_inner);
        for node in &self.nodes {
            held.remove(node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(action: u64) -> Holder {
        Holder { action, command: "rpower".into(), user: "root".into() }
    }

    #[test]
    fn a_node_that_is_held_is_refused_with_its_holder_and_free_again_after_the_drop() {
        let locks = Locks::default();
        let nodes = ["n1".to_owned(), "n2".to_owned()];
        let (first, refused) = locks.take(&nodes[..1], &holder(1));
        assert!(refused.is_empty());
        let (second, refused) = locks.take(&nodes, &holder(2));
        assert_eq!(second.nodes(), ["n2"]);
        assert_eq!(refused, [("n1".to_owned(), holder(1))]);
        drop((first, second));
        assert!(locks.take(&nodes, &holder(3)).1.is_empty());
    }
}
